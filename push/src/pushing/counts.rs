//! What a user has not seen in all rooms together.

use std::sync::Arc;

use hearth_core::Position;
use hearth_rooms::Room;
use hearth_store::membership;

use super::Pushing;
use crate::evaluator::Viewer;

/// What a user has not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unseen {
    /// Messages, and what else notifies.
    pub(super) unread: u64,
    /// Calls that were not answered.
    pub(super) missed_calls: u64,
    /// The place in the log up to which was counted.
    pub(super) counted_to: Position,
}

impl Pushing {
    /// Counts what a user has not seen in the rooms that the user is joined to.
    pub(super) async fn unseen(&self, viewer: &Viewer) -> sqlx::Result<Unseen> {
        let parts = &self.0.parts;
        let counted_to = parts.journal.head();
        let turn = self.database_turn().await;
        let mut conn = parts.pool.acquire().await?;
        let nids = membership::list_joined_nids(&mut conn, viewer.user).await?;
        drop(conn);
        let rooms = parts.evaluator.rooms().find_by_nids(&nids).await?;
        let rooms: Vec<Arc<Room>> = rooms.into_values().collect();
        let counts = parts.unread.counts(viewer, rooms, counted_to).await?;
        drop(turn);
        let mut unseen = Unseen {
            counted_to,
            ..Unseen::default()
        };
        for counts in counts.values() {
            let total = counts.total();
            unseen.unread += total.notifications;
            unseen.missed_calls += total.calls;
        }
        Ok(unseen)
    }
}
