//! The servers that are being sent to right now.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use hearth_core::{DestinationNid, RoomNid, UserNid};

/// How many short-lived messages may wait for one server; more are lost.
const MOST_EPHEMERA: usize = 1_000;

/// What a short-lived message is about: a newer one takes its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// Whether a user types in a room.
    Typing(RoomNid, UserNid),
    /// How far a user has read in a room, and in which thread.
    Receipt(RoomNid, UserNid, String),
    /// Whether a user is there.
    Presence(UserNid),
}

/// Short-lived messages: EDUs by what they are about.
pub(super) type Ephemera = BTreeMap<Topic, String>;

/// The servers that are being sent to. There is one worker for each.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<HashMap<DestinationNid, Slot>>);

#[derive(Debug, Default)]
struct Slot {
    /// There is more to send than the worker has seen.
    has_more: bool,
    ephemera: Ephemera,
}

impl Registry {
    /// Notes that there is something to send; says whether a worker has to be started.
    pub(super) fn wake(&self, nid: DestinationNid) -> bool {
        let mut slots = self.lock();
        let is_new = !slots.contains_key(&nid);
        slots.entry(nid).or_default().has_more = true;
        is_new
    }

    /// Adds a short-lived message; says whether a worker has to be started.
    pub(super) fn add(&self, nid: DestinationNid, topic: Topic, edu: &str) -> bool {
        let mut slots = self.lock();
        let is_new = !slots.contains_key(&nid);
        let slot = slots.entry(nid).or_default();
        slot.has_more = true;
        if slot.ephemera.len() < MOST_EPHEMERA || slot.ephemera.contains_key(&topic) {
            slot.ephemera.insert(topic, edu.to_owned());
        }
        is_new
    }

    /// Takes up to `limit` short-lived messages.
    pub(super) fn take(&self, nid: DestinationNid, limit: usize) -> Ephemera {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(&nid) else {
            return Ephemera::new();
        };
        let mut taken = Ephemera::new();
        while taken.len() < limit
            && let Some((topic, edu)) = slot.ephemera.pop_first()
        {
            taken.insert(topic, edu);
        }
        taken
    }

    /// Takes back short-lived messages that were not sent, unless there are newer ones about the same.
    pub(super) fn give_back(&self, nid: DestinationNid, ephemera: Ephemera) {
        if let Some(slot) = self.lock().get_mut(&nid) {
            for (topic, edu) in ephemera {
                slot.ephemera.entry(topic).or_insert(edu);
            }
        }
    }

    /// The worker begins to look at what there is to send.
    pub(super) fn begin(&self, nid: DestinationNid) {
        if let Some(slot) = self.lock().get_mut(&nid) {
            slot.has_more = false;
        }
    }

    /// The worker has sent everything that it saw: it goes on when there is more, and ends otherwise.
    pub(super) fn rest(&self, nid: DestinationNid) -> bool {
        let mut slots = self.lock();
        let goes_on = slots
            .get(&nid)
            .is_some_and(|slot| slot.has_more || !slot.ephemera.is_empty());
        if !goes_on {
            slots.remove(&nid);
        }
        goes_on
    }

    /// The worker ends, and what is short-lived is lost.
    pub(super) fn end(&self, nid: DestinationNid) {
        self.lock().remove(&nid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DestinationNid, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: DestinationNid = DestinationNid(1);

    #[test]
    fn one_worker_sends_to_a_server() {
        let registry = Registry::default();

        assert!(registry.wake(THERE));
        assert!(!registry.wake(THERE));
        registry.begin(THERE);
        assert!(!registry.wake(THERE));
        assert!(registry.rest(THERE));
        registry.begin(THERE);
        assert!(!registry.rest(THERE));
        assert!(registry.wake(THERE));
    }

    #[test]
    fn the_newest_word_on_a_topic_counts() {
        let registry = Registry::default();
        let topic = Topic::Presence(UserNid(1));
        registry.add(THERE, topic.clone(), "old");
        registry.add(THERE, topic, "new");

        let taken: Vec<_> = registry.take(THERE, 10).into_values().collect();
        assert_eq!(taken, ["new"]);
        assert!(registry.take(THERE, 10).is_empty());
    }

    #[test]
    fn what_is_read_in_different_threads_is_told_apart() {
        let registry = Registry::default();
        for thread in ["", "main"] {
            let topic = Topic::Receipt(RoomNid(1), UserNid(1), thread.to_owned());
            registry.add(THERE, topic, thread);
        }

        let taken: Vec<_> = registry.take(THERE, 10).into_values().collect();
        assert_eq!(taken, ["", "main"]);
    }

    #[test]
    fn what_is_given_back_is_sent_unless_there_is_a_newer_word() {
        let registry = Registry::default();
        let [one, two] = [1, 2].map(|user| Topic::Presence(UserNid(user)));
        registry.add(THERE, one.clone(), "old");
        registry.add(THERE, two, "kept");
        let taken = registry.take(THERE, 10);
        registry.add(THERE, one, "new");

        registry.give_back(THERE, taken);

        let taken: Vec<_> = registry.take(THERE, 10).into_values().collect();
        assert_eq!(taken, ["new", "kept"]);
    }

    #[test]
    fn endless_words_are_not_kept() {
        let registry = Registry::default();

        for user in 0..10_000 {
            registry.add(THERE, Topic::Presence(UserNid(user)), "x");
        }

        assert_eq!(registry.take(THERE, usize::MAX).len(), MOST_EPHEMERA);
    }
}
