//! What other servers may ask of the rooms that this server is in, and what they may hand over.

mod acceptance;
mod handed;
mod history;
mod invites;
mod sight;
mod template;
mod third_party;
mod told;
mod walk;

use std::sync::Arc;

use ruma::{RoomId, RoomVersionId, ServerName};

pub(crate) use self::told::ToldState;
pub use self::{
    acceptance::{Joined, Members},
    history::StateBefore,
    third_party::PartialInvite,
};
use crate::{Rooms, auth_chain::AuthChainError, error::SendError, room::Room};

/// Why another server is refused something about a room.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// This server is not in the room, or does not know the event.
    #[error("this server does not know it")]
    NotFound,
    /// The other server, or its user, may not do that; the text says why.
    #[error("{0}")]
    Forbidden(String),
    /// What it handed over is not what belongs there; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// Something that belongs there is missing; the text says what.
    #[error("{0}")]
    Missing(&'static str),
    /// It does not support the room's version, or we do not.
    #[error("the room has version {0}")]
    IncompatibleVersion(RoomVersionId),
    /// We cannot tell whether its user fulfils a condition of the restricted room.
    #[error("this server cannot tell whether the user may join")]
    UnableToAuthoriseJoin,
    /// Its user may join, but no user of ours may let him in: another server can.
    #[error("this server cannot let the user in")]
    UnableToGrantJoin,
    /// Doing it failed.
    #[error(transparent)]
    Event(SendError),
}

impl From<SendError> for PeerError {
    fn from(error: SendError) -> Self {
        if let SendError::Forbidden(reason) = error {
            return Self::Forbidden(reason);
        }
        Self::Event(error)
    }
}

impl From<sqlx::Error> for PeerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Event(SendError::Storage(error))
    }
}

impl From<AuthChainError> for PeerError {
    fn from(error: AuthChainError) -> Self {
        match error {
            AuthChainError::Storage(error) => error.into(),
            AuthChainError::TooLong => Self::Event(SendError::BadEvent(error.to_string())),
        }
    }
}

impl Rooms {
    /// The room, if this server is in it and its access control list lets `origin` in.
    pub(crate) async fn room_for(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
    ) -> Result<Arc<Room>, PeerError> {
        let room = self.find(room_id).await?.ok_or(PeerError::NotFound)?;
        if !self.is_resident(&room).await? {
            return Err(PeerError::NotFound);
        }
        if !self.server_allowed(&room, origin).await? {
            return Err(PeerError::Forbidden(
                "the room's access control list excludes this server".into(),
            ));
        }
        Ok(room)
    }

    /// Like [`Rooms::room_for`], for what only servers with users in the room may know.
    pub(crate) async fn room_of_member(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
    ) -> Result<Arc<Room>, PeerError> {
        let room = self.room_for(origin, room_id).await?;
        if self.has_users_in(&room, origin).await? {
            return Ok(room);
        }
        Err(PeerError::Forbidden(
            "this server is not in the room".into(),
        ))
    }
}
