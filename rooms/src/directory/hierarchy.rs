//! Walks through spaces.
//!
//! Client-Server API, "Discovering rooms within spaces".

mod child;
mod for_server;
mod token;
mod walk;

use std::sync::Arc;

use hearth_core::{EventNid, SnapshotNid};
use ruma::{OwnedRoomId, UserId, events::StateEventType, room::RoomSummary};

pub use self::child::SpaceChild;
use self::{
    child::arranged,
    token::Token,
    walk::{Step, Walk},
};
use super::Directory;
use crate::event::RoomEvent;

/// How many rooms a page has when the client does not say.
const DEFAULT_PAGE: u64 = 50;

/// How many rooms a page has at the most.
const LARGEST_PAGE: u64 = 100;

/// Which part of a space somebody wants to see.
#[derive(Clone, Debug)]
pub struct HierarchyQuery {
    /// Where the walk begins.
    pub root: OwnedRoomId,
    /// Whether only suggested rooms are of interest.
    pub suggested_only: bool,
    /// How many rooms a page has.
    pub limit: Option<u64>,
    /// How deep to go.
    pub max_depth: Option<u64>,
    /// Where an earlier page ended.
    pub from: Option<String>,
}

/// A page of a walk through a space.
#[derive(Clone, Debug, Default)]
pub struct Hierarchy {
    /// The rooms.
    pub rooms: Vec<SpaceRoom>,
    /// Where the next page begins.
    pub next_batch: Option<String>,
}

/// A room with its children.
#[derive(Clone, Debug)]
pub struct SpaceRoom {
    /// The room.
    pub summary: RoomSummary,
    /// Its children in their order, if it is a space.
    pub children: Vec<SpaceChild>,
}

/// Why there is no walk.
#[derive(Debug, thiserror::Error)]
pub enum HierarchyError {
    /// The root does not exist for the user.
    #[error("you are not allowed to view this room")]
    Forbidden,
    /// A page has at least one room.
    #[error("`limit` must be greater than zero")]
    BadLimit,
    /// The token is not one of ours.
    #[error("the pagination token is not one of this server's")]
    BadToken,
    /// The token belongs to another walk.
    #[error("suggested_only and max_depth cannot change on paginated requests")]
    OtherWalk,
    /// The database failed.
    #[error("reading a space failed")]
    Storage(#[from] sqlx::Error),
}

impl Directory {
    /// A page of a walk through a space, depth first, as `user` may see it.
    ///
    /// # Errors
    ///
    /// See [`HierarchyError`].
    pub async fn hierarchy(
        &self,
        query: &HierarchyQuery,
        user: &UserId,
    ) -> Result<Hierarchy, HierarchyError> {
        let token = Token::of(query)?;
        let limit = match query.limit {
            Some(0) => return Err(HierarchyError::BadLimit),
            limit => limit.unwrap_or(DEFAULT_PAGE).min(LARGEST_PAGE),
        };
        let mut walk = Walk::new(self, user, &token, limit);
        walk.load(std::slice::from_ref(&query.root)).await?;
        let root = Step {
            room_id: query.root.clone(),
            via: Vec::new(),
            depth: 0,
        };
        if !walk.visit(root).await? {
            return Err(HierarchyError::Forbidden);
        }
        while let Some(step) = walk.next() {
            walk.visit(step).await?;
        }
        Ok(walk.into_page(&token))
    }

    /// The children of a space of ours, in their order.
    async fn children(
        &self,
        snapshot: SnapshotNid,
        suggested_only: bool,
    ) -> sqlx::Result<Vec<SpaceChild>> {
        let snapshot = self.rooms.snapshot(snapshot).await?;
        let keys: Vec<_> = snapshot.map.keys().copied().collect();
        let names = self.rooms.interner().state_key_names(&keys).await?;
        let kind = StateEventType::SpaceChild.to_string();
        let nids: Vec<EventNid> = names
            .iter()
            .filter(|(_, name)| name.0 == kind)
            .filter_map(|(key, _)| snapshot.get(*key))
            .collect();
        let events = self.rooms.events().map(nids).await?;
        let children = events
            .values()
            .filter_map(|event: &Arc<RoomEvent>| SpaceChild::of(event));
        Ok(arranged(children.collect(), suggested_only))
    }
}
