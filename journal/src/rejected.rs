//! Which events and snapshots will never be, so that what was built on them is not written either.

use std::collections::HashSet;

use hearth_store::write::{Redacts, RoomWrite, Source};

/// How many numbers each half of a [`Recent`] holds at the most.
const HALF: usize = 20_000;

/// The events and snapshots of rejected and failed writes.
///
/// Callers pipeline: they build an event on one that still waits to be committed. When that one is rejected, the next
/// names something that does not exist. The revision does not always tell: most events do not change it, and another
/// process may have raised it to just the expected one. So a write is lost when any event or snapshot that it names
/// (a previous event, an auth event, a redacted event, a state before, a snapshot's parent) was rejected. Its own
/// events and snapshots are then rejected too, which brings down the whole chain.
///
/// Only this process's numbers can be named so, and only until the caller has heard of the rejection. Numbers are
/// never used again, so to remember them for longer does no harm.
#[derive(Debug, Default)]
pub(crate) struct Rejected {
    events: Recent,
    snapshots: Recent,
}

impl Rejected {
    /// Takes note of a write that will never be. An outlier in it is there nevertheless, under its number, and may come
    /// again: who writes its place waits for the answer before anything is built on it.
    pub(crate) fn add(&mut self, write: &RoomWrite) {
        for event in &write.events {
            if event.source != Source::Outlier {
                self.events.add(event.nid.0);
            }
        }
        for snapshot in &write.snapshots {
            self.snapshots.add(snapshot.nid.0);
        }
    }

    /// Whether a write is built on one that will never be.
    pub(crate) fn underlies(&self, write: &RoomWrite) -> bool {
        let by_events = !self.events.is_empty() && self.has_events_of(write);
        by_events || (!self.snapshots.is_empty() && self.has_snapshots_of(write))
    }

    fn has_events_of(&self, write: &RoomWrite) -> bool {
        let mut gone = write.extremities_gone.iter();
        let mut members = write.memberships.iter().filter_map(|row| row.event);
        gone.any(|nid| self.events.has(nid.0))
            || members.any(|nid| self.events.has(nid.0))
            || write.events.iter().any(|event| {
                let redacted = match &event.redacts {
                    Some(Redacts::Known(nid)) => self.events.has(nid.0),
                    Some(Redacts::Unknown(_)) | None => false,
                };
                redacted || event.auth.iter().any(|nid| self.events.has(nid.0))
            })
    }

    fn has_snapshots_of(&self, write: &RoomWrite) -> bool {
        let before = write.events.iter().map(|event| event.snapshot);
        let parents = write.snapshots.iter().map(|snapshot| snapshot.parent);
        before
            .chain(parents)
            .chain([write.new_state])
            .flatten()
            .any(|nid| self.snapshots.has(nid.0))
    }
}

/// The last numbers of many: at least [`HALF`] of them.
#[derive(Debug, Default)]
struct Recent {
    new: HashSet<i64>,
    old: HashSet<i64>,
}

impl Recent {
    fn add(&mut self, number: i64) {
        if self.new.len() >= HALF {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(number);
    }

    fn has(&self, number: i64) -> bool {
        self.new.contains(&number) || self.old.contains(&number)
    }

    fn is_empty(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_numbers_are_remembered_and_the_first_forgotten() {
        let mut recent = Recent::default();
        for number in 0..100_000 {
            recent.add(number);
        }

        assert!((80_000..100_000).all(|number| recent.has(number)));
        assert!(!recent.has(0));
    }
}
