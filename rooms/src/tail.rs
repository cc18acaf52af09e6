//! The newest part of a room's timeline, in memory: what most syncs read.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hearth_core::EventNid;

use crate::event::RoomEvent;

/// How many events a room keeps.
const LENGTH: usize = 64;

/// The last events of a timeline, without gaps.
#[derive(Debug)]
pub(crate) struct Tail(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// Every live event after this place is in `events`.
    complete_from: i64,
    /// By rising place.
    events: VecDeque<Arc<RoomEvent>>,
}

impl Tail {
    pub(crate) fn new(complete_from: i64) -> Self {
        Self(Mutex::new(Inner {
            complete_from,
            events: VecDeque::new(),
        }))
    }

    /// Adds the next live event.
    pub(crate) fn push(&self, order: i64, event: Arc<RoomEvent>) {
        let mut inner = self.lock();
        if order <= inner.complete_from
            || inner.events.back().and_then(|e| e.stream_order()) >= Some(order)
        {
            return;
        }
        inner.events.push_back(event);
        if inner.events.len() > LENGTH {
            let first = inner.events.pop_front();
            if let Some(order) = first.and_then(|event| event.stream_order()) {
                inner.complete_from = order;
            }
        }
    }

    /// Puts the event as it is now in place of the one that was kept, after a redaction.
    pub(crate) fn replace(&self, event: &Arc<RoomEvent>) {
        let mut inner = self.lock();
        if let Some(kept) = inner.events.iter_mut().find(|kept| kept.nid == event.nid) {
            *kept = Arc::clone(event);
        }
    }

    /// Whether the event is among those that are kept.
    pub(crate) fn has(&self, nid: EventNid) -> bool {
        self.lock().events.iter().any(|kept| kept.nid == nid)
    }

    /// Drops everything up to `order`: it may have holes.
    pub(crate) fn restart(&self, order: i64) {
        let mut inner = self.lock();
        inner.complete_from = order;
        inner.events.clear();
    }

    /// The events in `(from, to]`, the newest `limit` of them by rising place, and whether there are more; `None` when
    /// the tail does not reach back to `from`.
    pub(crate) fn range(
        &self,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Option<(Vec<Arc<RoomEvent>>, bool)> {
        let inner = self.lock();
        let within = |event: &&Arc<RoomEvent>| {
            event
                .stream_order()
                .is_some_and(|order| from < order && order <= to)
        };
        let mut newest: Vec<_> = inner
            .events
            .iter()
            .rev()
            .filter(within)
            .take(limit + 1)
            .cloned()
            .collect();
        if inner.complete_from > from && newest.len() <= limit {
            return None;
        }
        let more = newest.len() > limit;
        newest.truncate(limit);
        newest.reverse();
        Some((newest, more))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
