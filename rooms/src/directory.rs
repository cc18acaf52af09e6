//! Finding rooms: aliases, the list of published rooms, summaries, spaces.

mod aliases;
mod canonical;
mod hierarchy;
mod listing;
mod summary;

use std::{fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;
use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName, UserId,
};

pub use self::{
    aliases::{AliasError, Resolved},
    hierarchy::{Hierarchy, HierarchyError, HierarchyQuery, SpaceChild, SpaceRoom},
    listing::{ListError, ListQuery, PublicRooms, Publication},
};
use crate::{
    Rooms,
    peers::{Alone, RemoteError},
};

/// Finds rooms for people.
#[derive(Clone, Debug)]
pub struct Directory {
    rooms: Rooms,
    remote: Arc<dyn RemoteDirectory>,
}

/// Who asks, and whether the server is his to administer.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The user.
    pub user_id: &'a UserId,
    /// Whether the user administers the server.
    pub is_admin: bool,
}

impl Directory {
    /// Makes the service; `remote` is asked about what other servers know.
    #[must_use]
    pub fn new(rooms: Rooms, remote: Arc<dyn RemoteDirectory>) -> Self {
        Self { rooms, remote }
    }

    fn is_ours(&self, server: &ServerName) -> bool {
        self.rooms.identity().server_name == server
    }
}

/// What this crate needs to know from the directories of other servers.
///
/// The federation client implements it, and the binary passes it in. Answers come from strangers: the implementation
/// bounds their size and the time that they take, and keeps them for a while.
pub trait RemoteDirectory: Debug + Send + Sync {
    /// Asks the server of `alias` which room it means; `None` when that server knows none.
    fn resolve<'a>(
        &'a self,
        alias: &'a RoomAliasId,
    ) -> BoxFuture<'a, Result<Option<Resolved>, RemoteError>>;

    /// Asks a server which rooms it publishes.
    fn public_rooms<'a>(
        &'a self,
        server: &'a ServerName,
        query: &'a ListQuery,
    ) -> BoxFuture<'a, Result<PublicRooms, RemoteError>>;

    /// Asks the servers `via`, one after the other, about a room and, if it is a space, its children.
    fn space<'a>(
        &'a self,
        room_id: &'a RoomId,
        via: &'a [OwnedServerName],
        suggested_only: bool,
    ) -> BoxFuture<'a, Option<RemoteSpace>>;
}

/// What another server tells of a room.
#[derive(Clone, Debug)]
pub struct RemoteSpace {
    /// The room itself.
    pub room: SpaceRoom,
    /// Its children, without theirs.
    pub children: Vec<ruma::room::RoomSummary>,
    /// The children that our server cannot join.
    pub inaccessible: Vec<OwnedRoomId>,
}

impl RemoteDirectory for Alone {
    fn resolve<'a>(
        &'a self,
        _: &'a RoomAliasId,
    ) -> BoxFuture<'a, Result<Option<Resolved>, RemoteError>> {
        Box::pin(async { Err(RemoteError::Unknown) })
    }

    fn public_rooms<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a ListQuery,
    ) -> BoxFuture<'a, Result<PublicRooms, RemoteError>> {
        Box::pin(async { Err(RemoteError::Unknown) })
    }

    fn space<'a>(
        &'a self,
        _: &'a RoomId,
        _: &'a [OwnedServerName],
        _: bool,
    ) -> BoxFuture<'a, Option<RemoteSpace>> {
        Box::pin(async { None })
    }
}

/// The ids in stored text.
fn parse_alias(alias: &str) -> sqlx::Result<OwnedRoomAliasId> {
    RoomAliasId::parse(alias).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// The ids in stored text.
fn parse_room_id(room_id: &str) -> sqlx::Result<OwnedRoomId> {
    RoomId::parse(room_id).map_err(|error| sqlx::Error::Decode(error.into()))
}
