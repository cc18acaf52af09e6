//! How many events a user has not read (specification, "Receiving notifications").
//!
//! The events after the user's receipt are evaluated when somebody asks, the newest [`SCAN`] of them, and those that
//! notify are kept in memory with the place up to which they are known; the next question evaluates only what came since.
//! A new receipt leaves the evaluation as it is.

mod batch;
mod known;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use hearth_core::{Position, RoomNid, UserNid};
use hearth_journal::{Announcement, Journal, Kind};
use hearth_rooms::{Live, Room};
use hearth_users::Receipts;
use moka::future::Cache;
use tokio::sync::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::known::Unread;
pub use self::known::{Count, Counts};
use crate::{
    evaluator::{Evaluator, Viewer},
    following::{Followed, Follower},
};

/// How many events of a room are evaluated at once for one user.
const SCAN: usize = 1_000;

/// How many rooms are counted together, which bounds the events that are in memory at once.
const AT_ONCE: usize = 64;

/// How many pairs of a user and a room stay in memory.
const CACHED: u64 = 100_000;

#[derive(Debug)]
struct Slot {
    /// The receipts changed since they were read.
    stale: AtomicBool,
    unread: Mutex<Option<Unread>>,
}

/// Counts unread events.
#[derive(Clone, Debug)]
pub struct UnreadCounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    evaluator: Evaluator,
    receipts: Receipts,
    slots: Cache<(UserNid, RoomNid), Arc<Slot>>,
    followed: Followed,
}

impl UnreadCounts {
    /// Counts what `evaluator` says, and follows `live` until `stop`.
    #[must_use]
    pub fn start(
        evaluator: Evaluator,
        receipts: Receipts,
        (journal, live): (Journal, &Live),
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        // What is heard of there is in memory already.
        let announcements = live.subscribe();
        let counts = Self(Arc::new(Inner {
            evaluator,
            receipts,
            followed: Followed::new(journal),
            slots: Cache::new(CACHED),
        }));
        let follower = counts.clone();
        tracker.spawn(async move {
            let followed = &follower.0.followed;
            followed.follow(&*follower.0, announcements, stop).await;
        });
        counts
    }

    /// How many events of each of these rooms, up to `up_to`, a user who is joined to them has not read.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn counts(
        &self,
        viewer: &Viewer,
        mut rooms: Vec<Arc<Room>>,
        up_to: Position,
    ) -> sqlx::Result<HashMap<RoomNid, Counts>> {
        self.0.followed.wait_for(up_to).await;
        rooms.sort_unstable_by_key(|room| room.nid);
        rooms.dedup_by_key(|room| room.nid);
        let mut counts = HashMap::with_capacity(rooms.len());
        for rooms in rooms.chunks(AT_ONCE) {
            counts.extend(self.count_together(viewer, rooms, up_to).await?);
        }
        Ok(counts)
    }

    async fn slot(&self, user: UserNid, room: RoomNid) -> Arc<Slot> {
        let new = async {
            Arc::new(Slot {
                stale: AtomicBool::new(true),
                unread: Mutex::new(None),
            })
        };
        self.0.slots.get_with((user, room), new).await
    }
}

impl Follower for Inner {
    fn forget(&self) {
        self.slots.invalidate_all();
    }

    async fn take_in(&self, announcement: &Announcement) {
        for entry in announcement.entries.iter() {
            if entry.kind == Kind::Receipt
                && let (Some(user), Some(room)) = (entry.user, entry.room)
                && let Some(slot) = self.slots.get(&(user, room)).await
            {
                slot.stale.store(true, Ordering::Release);
            }
        }
    }
}
