//! What this crate asks of servers that are in a room, for the sake of users who are not, or of servers whose users are
//! invited: the handshakes of Server-Server API, "Joining Rooms", "Knocking upon a room", "Leaving Rooms", "Inviting to a
//! room".

use std::fmt::Debug;

use futures_util::future::BoxFuture;
use ruma::{
    EventId, OwnedServerName, RoomId, RoomVersionId, ServerName, UserId, api::error::ErrorKind,
};
use serde_json::value::RawValue;

use crate::{PartialInvite, peers::Alone};

/// A membership that another server helps a user of ours to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// `make_join` and `send_join`.
    Join,
    /// `make_knock` and `send_knock`.
    Knock,
    /// `make_leave` and `send_leave`.
    Leave,
}

impl Handshake {
    /// The value of `membership`.
    #[must_use]
    pub fn membership(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Knock => "knock",
            Self::Leave => "leave",
        }
    }
}

/// What a template is asked for.
#[derive(Clone, Copy, Debug)]
pub struct TemplateRequest<'a> {
    /// Which membership.
    pub handshake: Handshake,
    /// Of which room.
    pub room_id: &'a RoomId,
    /// For whom.
    pub user_id: &'a UserId,
    /// The room versions that the asking server knows.
    pub versions: &'a [RoomVersionId],
}

/// A member event that the asking server has to complete and sign.
#[derive(Clone, Debug)]
pub struct Template {
    /// The room's version; some servers leave it out for leaves.
    pub version: Option<RoomVersionId>,
    /// The event without hashes and signatures.
    pub event: Box<RawValue>,
}

/// A signed member event that a server is asked to take into a room.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// The room.
    pub room_id: &'a RoomId,
    /// The event's id.
    pub event_id: &'a EventId,
    /// The event.
    pub event: &'a RawValue,
}

/// What `send_join` answers.
#[derive(Clone, Debug)]
pub struct JoinAnswer {
    /// The state before the join.
    pub state: Vec<Box<RawValue>>,
    /// The auth chains of the state and of the join.
    pub auth_chain: Vec<Box<RawValue>>,
    /// The join as the resident server took it in, with its signature if that was needed.
    pub event: Option<Box<RawValue>>,
    /// Whether member events are left out of the state.
    pub members_omitted: bool,
    /// The servers in the room before the join, if they are told.
    pub servers_in_room: Vec<OwnedServerName>,
}

/// An invite on its way to the server of the invited user.
#[derive(Clone, Copy, Debug)]
pub struct Invitation<'a> {
    /// The room.
    pub room_id: &'a RoomId,
    /// The room's version.
    pub version: &'a RoomVersionId,
    /// The event's id.
    pub event_id: &'a EventId,
    /// The member event, signed by the inviting server.
    pub event: &'a RawValue,
    /// State events that tell what room it is.
    pub room_state: &'a [Box<RawValue>],
}

/// Why another server did not help.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResidentError {
    /// It refuses, and says why.
    #[error("the other server refuses: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code.
        kind: Box<ErrorKind>,
        /// The text.
        message: String,
    },
    /// It does not answer, or says nothing useful.
    #[error("the other server does not answer")]
    Unreachable,
}

/// The answer of another server.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, ResidentError>>;

/// The handshakes with other servers.
///
/// The federation client implements them, and the binary passes them in. Each call asks one server once, within a bounded
/// time, and reads an answer of bounded size; which servers are asked, and whether an answer is good, is decided here.
pub trait Residents: Debug + Send + Sync {
    /// Asks a server in the room for a member event (`make_join`, `make_knock`, `make_leave`).
    fn template<'a>(
        &'a self,
        server: &'a ServerName,
        request: TemplateRequest<'a>,
    ) -> Answer<'a, Template>;

    /// Hands over a signed join (`send_join`).
    fn send_join<'a>(
        &'a self,
        server: &'a ServerName,
        join: Submission<'a>,
    ) -> Answer<'a, JoinAnswer>;

    /// Hands over a signed knock (`send_knock`), and gives the state events that tell what room it is.
    fn send_knock<'a>(
        &'a self,
        server: &'a ServerName,
        knock: Submission<'a>,
    ) -> Answer<'a, Vec<Box<RawValue>>>;

    /// Hands over a signed leave (`send_leave`).
    fn send_leave<'a>(&'a self, server: &'a ServerName, leave: Submission<'a>) -> Answer<'a, ()>;

    /// Asks the server of who sent an invite to an address to make a proper one of it
    /// (`exchange_third_party_invite`).
    fn exchange_invite<'a>(
        &'a self,
        server: &'a ServerName,
        invite: &'a PartialInvite,
    ) -> Answer<'a, ()>;

    /// Asks the server of an invited user to sign the invite (`invite`).
    fn invite<'a>(
        &'a self,
        server: &'a ServerName,
        invitation: Invitation<'a>,
    ) -> Answer<'a, Box<RawValue>>;
}

impl Residents for Alone {
    fn template<'a>(&'a self, _: &'a ServerName, _: TemplateRequest<'a>) -> Answer<'a, Template> {
        Box::pin(async { Err(ResidentError::Unreachable) })
    }

    fn send_join<'a>(&'a self, _: &'a ServerName, _: Submission<'a>) -> Answer<'a, JoinAnswer> {
        Box::pin(async { Err(ResidentError::Unreachable) })
    }

    fn send_knock<'a>(
        &'a self,
        _: &'a ServerName,
        _: Submission<'a>,
    ) -> Answer<'a, Vec<Box<RawValue>>> {
        Box::pin(async { Err(ResidentError::Unreachable) })
    }

    fn send_leave<'a>(&'a self, _: &'a ServerName, _: Submission<'a>) -> Answer<'a, ()> {
        Box::pin(async { Err(ResidentError::Unreachable) })
    }

    fn exchange_invite<'a>(&'a self, _: &'a ServerName, _: &'a PartialInvite) -> Answer<'a, ()> {
        Box::pin(async { Err(ResidentError::Unreachable) })
    }

    fn invite<'a>(&'a self, _: &'a ServerName, _: Invitation<'a>) -> Answer<'a, Box<RawValue>> {
        Box::pin(async { Err(ResidentError::Unreachable) })
    }
}
