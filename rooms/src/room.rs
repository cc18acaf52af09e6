//! A room in memory: what never changes of it, its current state, and the place where its next event is built.

use std::{
    num::NonZeroU64,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{merge::After, snapshot::Snapshot, tail::Tail, version};
use hearth_core::{EventNid, RoomNid};
use hearth_store::room;
use ruma::{
    OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, room_version_rules::RoomVersionRules,
};

/// A room that we know.
#[derive(Debug)]
pub struct Room {
    /// Its number.
    pub nid: RoomNid,
    /// `!…`
    pub id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// The rules of its version.
    pub rules: RoomVersionRules,
    /// The committed current state; `None` until it is read, or when another process changed it.
    current: RwLock<Option<Current>>,
    /// The time of being alone in which `current` was last compared with the row; zero is none.
    verified: AtomicU64,
    /// How often another process was heard to change the room.
    pub(crate) foreign_changes: AtomicU64,
    /// Where the next event goes; held while one is built, never while one is committed.
    pub(crate) head: tokio::sync::Mutex<HeadSlot>,
    /// The states that events under way will make current, by the last event of their write.
    ///
    /// A sender that is cut off while it waits for the commit does not take note of it; then the follower of the
    /// journal does, with what lies here.
    under_way: Mutex<Vec<(EventNid, Current)>>,
    /// Held while events before a received one are fetched.
    pub(crate) gaps: tokio::sync::Mutex<()>,
    /// Held while what authorises a received event is fetched.
    pub(crate) authorities: tokio::sync::Mutex<()>,
    /// The newest part of the timeline.
    pub(crate) tail: Tail,
}

/// The current state of a room.
#[derive(Clone, Debug)]
pub struct Current {
    /// Grows with every change.
    pub revision: i64,
    /// The state.
    pub snapshot: Arc<Snapshot>,
}

/// What the next event of a room is built on. It runs ahead of the commits.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub revision: i64,
    pub snapshot: Arc<Snapshot>,
    pub extremities: Vec<Extremity>,
}

/// An event without a successor.
#[derive(Clone, Debug)]
pub(crate) struct Extremity {
    pub nid: EventNid,
    pub event_id: OwnedEventId,
    pub depth: i64,
    /// The state after it.
    pub after: After,
}

/// The head, if it is known, and how often it was thrown away.
#[derive(Debug, Default)]
pub(crate) struct HeadSlot {
    pub head: Option<Head>,
    /// Losers of one commit throw the head away once, not once each.
    pub generation: u64,
    /// The foreign changes that `head` has seen.
    pub foreign_changes: u64,
}

impl Room {
    pub(crate) fn new(row: &room::Stored, complete_from: i64) -> sqlx::Result<Self> {
        let corrupt = |error: ruma::IdParseError| sqlx::Error::Decode(error.into());
        Ok(Self {
            nid: row.nid,
            id: RoomId::parse(&row.room_id).map_err(corrupt)?,
            version: RoomVersionId::try_from(row.version.as_str()).map_err(corrupt)?,
            rules: version::rules(&row.version)?,
            current: RwLock::new(None),
            verified: AtomicU64::new(0),
            foreign_changes: AtomicU64::new(0),
            head: tokio::sync::Mutex::new(HeadSlot::default()),
            under_way: Mutex::new(Vec::new()),
            gaps: tokio::sync::Mutex::default(),
            authorities: tokio::sync::Mutex::default(),
            tail: Tail::new(complete_from),
        })
    }

    /// The committed current state, if it is in memory.
    pub(crate) fn current(&self) -> Option<Current> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Whether `current` was compared with the row in this time of being alone, so that it is known to be true.
    pub(crate) fn is_verified(&self, tenure: NonZeroU64) -> bool {
        self.verified.load(Ordering::Acquire) == tenure.get()
    }

    /// Takes note that `current` was compared with the row, which was read in this time of being alone.
    pub(crate) fn verify(&self, tenure: Option<NonZeroU64>) {
        let number = tenure.map_or(0, NonZeroU64::get);
        self.verified.store(number, Ordering::Release);
    }

    /// Takes note of a committed state; an older one than is known is ignored.
    pub(crate) fn set_current(&self, new: Current) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current
            .as_ref()
            .is_none_or(|current| current.revision < new.revision)
        {
            *current = Some(new);
        }
    }

    /// Takes note of what an event will make current once it is committed.
    pub(crate) fn expect(&self, event: EventNid, current: Current) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = self.current().map_or(0, |current| current.revision);
        under_way.retain(|(_, expected)| expected.revision > known);
        under_way.push((event, current));
    }

    /// Takes back what was expected of an event, because it came true or never will.
    pub(crate) fn expected(&self, event: EventNid) -> Option<Current> {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let place = under_way.iter().position(|(nid, _)| *nid == event)?;
        Some(under_way.swap_remove(place).1)
    }

    /// Takes note that another process changed the room.
    pub(crate) fn changed_elsewhere(&self) {
        self.foreign_changes.fetch_add(1, Ordering::Release);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
