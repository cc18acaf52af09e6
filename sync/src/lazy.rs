//! Which member events a device has already: with lazy loading the others come when they are needed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hearth_core::{EventNid, Position, RoomNid, StateKeyNid, UserNid};
use moka::sync::Cache;

/// How many (device, room) pairs are remembered.
const REMEMBERED: u64 = 200_000;

/// How many members of a room are remembered for one device.
const MEMBERS: usize = 200;

/// How long a pair is remembered that is not used.
const IDLE: Duration = Duration::from_mins(30);

type Key = (UserNid, String, RoomNid);

/// The member events that were sent to devices.
#[derive(Clone, Debug)]
pub(crate) struct SentMembers(Cache<Key, Arc<Mutex<Sent>>>);

/// Which event was sent for a member, and in the response up to which position.
type Sent = HashMap<StateKeyNid, (EventNid, Position)>;

impl SentMembers {
    pub(crate) fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_idle(IDLE)
                .build(),
        )
    }

    /// The memory of one device and room; empty when the device starts from nothing.
    pub(crate) fn of(
        &self,
        user: UserNid,
        device_id: &str,
        room: RoomNid,
        since: Option<Position>,
    ) -> SentTo {
        let key = (user, device_id.to_owned(), room);
        if since.is_none() {
            self.0.invalidate(&key);
        }
        let sent = self.0.get_with(key, Arc::default);
        SentTo { sent, since }
    }
}

/// What was sent to one device of one room.
#[derive(Debug)]
pub(crate) struct SentTo {
    sent: Arc<Mutex<Sent>>,
    since: Option<Position>,
}

impl SentTo {
    /// Whether the device has this event: it was in a response that the device has built on since.
    pub(crate) fn has(&self, key: StateKeyNid, event: EventNid) -> bool {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.get(&key)
            .is_some_and(|(known, at)| *known == event && self.since >= Some(*at))
    }

    /// Takes note of what is about to be sent.
    pub(crate) fn note(
        &self,
        members: impl IntoIterator<Item = (StateKeyNid, EventNid)>,
        to: Position,
    ) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, event) in members {
            if sent.len() >= MEMBERS && !sent.contains_key(&key) {
                sent.clear();
            }
            let known = sent.entry(key).or_insert((event, to));
            if known.0 != event {
                *known = (event, to);
            }
        }
    }
}
