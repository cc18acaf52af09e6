//! The count of changes to typing and presence, which are not in the log.
//!
//! One counter covers both, because a sync token has room for one. It counts in the memory of this process: a token of
//! another life ("incarnation") of it, or from before what is remembered, gets the current state again.
//!
//! Processes that share Redis count alike: their incarnation is that of the log, and the counter is a time in
//! milliseconds, or greater, that rises over restarts. How they do it is in `sharing`.

pub(crate) mod sharing;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use hearth_core::{Clock, RoomNid, UserNid};
use hearth_journal::Exchange;
use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast;

pub use self::sharing::Sharing;
use self::sharing::{Fact, Voice};

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
    shared: Option<Shared>,
}

/// What a process has that is one of several.
#[derive(Debug)]
struct Shared {
    voice: Voice,
    clock: Clock,
}

/// How far the counter of another process may be ahead: clocks differ, and messages take their time.
const AHEAD: u64 = 60_000;

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
            shared: None,
        }))
    }

    /// Counts together with the other processes that use `exchange`.
    #[must_use]
    pub fn among_others(exchange: Exchange, clock: Clock) -> Self {
        let name = Sha256::digest(exchange.name().as_bytes());
        let mut incarnation = [0; 8];
        incarnation.copy_from_slice(&name[..8]);
        let now = clock.millis().unsigned_abs();
        Self(Arc::new(Inner {
            incarnation: u64::from_be_bytes(incarnation).max(1),
            counter: AtomicU64::new(now),
            floor: AtomicU64::new(now),
            changes: broadcast::Sender::new(BACKLOG),
            shared: Some(Shared {
                voice: Voice::new(exchange),
                clock,
            }),
        }))
    }

    /// Tells the other processes of a change; says whether it is on its way. It counts when it comes back.
    pub(crate) fn tell(&self, fact: Fact) -> bool {
        let shared = self.0.shared.as_ref();
        shared.is_some_and(|shared| shared.voice.tell(vec![fact], self.counter()))
    }

    /// Whether there may be other processes.
    pub(crate) fn is_shared(&self) -> bool {
        self.0.shared.is_some()
    }

    fn voice(&self) -> Option<&Voice> {
        self.0.shared.as_ref().map(|shared| &shared.voice)
    }

    /// Makes the next change's number greater than `counter`.
    fn reach(&self, counter: u64) {
        self.0.counter.fetch_max(counter, Ordering::AcqRel);
    }

    /// The counter for the token of a response to a request with the token `since`: that of another process may be
    /// ahead, and then its changes were sent already.
    #[must_use]
    pub fn counter_after(&self, since: Option<(u64, u64)>) -> u64 {
        let known = since.filter(|(incarnation, counter)| self.remembers(*incarnation, *counter));
        let counter = self.counter();
        known.map_or(counter, |(_, known)| known.max(counter))
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
            && counter <= self.counter() + self.0.shared.as_ref().map_or(0, |_| AHEAD)
    }

    /// Hears of every change from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// Counts a change. The caller holds the lock of what changes, so that nobody who sees the count misses it.
    pub(crate) fn advance(&self) -> u64 {
        let least = self
            .0
            .shared
            .as_ref()
            .map_or(0, |shared| shared.clock.millis().unsigned_abs());
        let next = |counter: u64| Some(least.max(counter + 1));
        match self
            .0
            .counter
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
        {
            Ok(before) | Err(before) => least.max(before + 1),
        }
    }

    /// Lets readers here know of a change that was counted.
    pub(crate) fn wake(&self, change: Change) {
        // Without readers nobody has to be told.
        let _ = self.0.changes.send(change);
    }

    /// Takes note that the changes up to `counter` are forgotten.
    pub(crate) fn forget(&self, counter: u64) {
        self.0.floor.fetch_max(counter, Ordering::AcqRel);
    }
}
