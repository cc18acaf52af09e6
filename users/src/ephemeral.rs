//! The count of changes to typing and presence, which are not in the log.
//!
//! One counter covers both, because a sync token has room for one. It counts in the memory of this process: a token of
//! another life ("incarnation") of it, or from before what is remembered, gets the current state again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use hearth_core::{RoomNid, UserNid};
use tokio::sync::broadcast;

/// How many changes a reader may lag behind before it must look at everything.
const BACKLOG: usize = 1_024;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Who types in a room.
    Typing(RoomNid),
    /// The presence of a user.
    Presence(UserNid),
}

/// The counter of typing and presence.
#[derive(Clone, Debug)]
pub struct Ephemeral(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    incarnation: u64,
    counter: AtomicU64,
    /// Changes up to here may be forgotten.
    floor: AtomicU64,
    changes: broadcast::Sender<Change>,
}

impl Default for Ephemeral {
    fn default() -> Self {
        Self::new()
    }
}

impl Ephemeral {
    /// Begins to count.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            incarnation: rand::random::<u64>().max(1),
            counter: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            changes: broadcast::Sender::new(BACKLOG),
        }))
    }

    /// In which life the counter counts.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    /// How many changes there were. Whoever reads typing and presence after this sees all of them.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.0.counter.load(Ordering::Acquire)
    }

    /// Whether all changes since `counter` are remembered; otherwise the current state must be sent again, empty typing
    /// included.
    #[must_use]
    pub fn remembers(&self, incarnation: u64, counter: u64) -> bool {
        incarnation == self.0.incarnation
            && counter >= self.0.floor.load(Ordering::Acquire)
            && counter <= self.counter()
    }

    /// Hears of every change from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// Counts a change. The caller holds the lock of what changes, so that nobody who sees the count misses it.
    pub(crate) fn advance(&self) -> u64 {
        self.0.counter.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Tells readers of a change that was counted.
    pub(crate) fn tell(&self, change: Change) {
        // Without readers nobody has to be told.
        let _ = self.0.changes.send(change);
    }

    /// Takes note that the changes up to `counter` are forgotten.
    pub(crate) fn forget(&self, counter: u64) {
        self.0.floor.fetch_max(counter, Ordering::AcqRel);
    }
}
