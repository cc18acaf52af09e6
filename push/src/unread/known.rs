//! What is known of a user in a room: what notifies, and up to where it is read.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use hearth_core::EventNid;
use hearth_store::receipt;
use ruma::{EventId, OwnedEventId};

use crate::settings::UserSettings;

/// How many unread events of a room are kept for one user.
const KEPT: usize = 10_000;

/// How many events notify, and how many of them stand out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All that notify.
    pub notifications: u64,
    /// Those that stand out.
    pub highlights: u64,
    /// Those that are calls.
    pub calls: u64,
}

impl Count {
    fn add(&mut self, item: &Item) {
        self.notifications += 1;
        self.highlights += u64::from(item.highlight);
        self.calls += u64::from(item.call);
    }
}

/// The unread events of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those in no thread.
    pub main: Count,
    /// Those in threads, by root; only threads that have some.
    pub threads: BTreeMap<OwnedEventId, Count>,
}

impl Counts {
    /// All of them: for clients that do not ask for threads.
    #[must_use]
    pub fn total(&self) -> Count {
        self.threads.values().fold(self.main, |sum, count| Count {
            notifications: sum.notifications + count.notifications,
            highlights: sum.highlights + count.highlights,
            calls: sum.calls + count.calls,
        })
    }
}

/// An event that notifies.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) nid: EventNid,
    pub(super) order: i64,
    pub(super) thread: Option<OwnedEventId>,
    pub(super) highlight: bool,
    pub(super) call: bool,
}

/// Up to where a user has read a room, in the order of the stream.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// All of it.
    pub(super) unthreaded: i64,
    /// Each thread; the main timeline is `None`.
    pub(super) threads: HashMap<Option<OwnedEventId>, i64>,
}

impl Marks {
    pub(super) fn of(receipts: &[receipt::Stored]) -> Self {
        let mut marks = Self::default();
        for receipt in receipts {
            let Some(order) = receipt.stream_order else {
                continue;
            };
            let thread = match receipt.thread.as_str() {
                "" => {
                    marks.unthreaded = marks.unthreaded.max(order);
                    continue;
                }
                "main" => None,
                root => match EventId::parse(root) {
                    Ok(root) => Some(root),
                    Err(_) => continue,
                },
            };
            marks.raise(thread, order);
        }
        marks
    }

    pub(super) fn raise(&mut self, thread: Option<OwnedEventId>, order: i64) {
        let mark = self.threads.entry(thread).or_default();
        *mark = order.max(*mark);
    }

    pub(super) fn cover(&self, thread: Option<&OwnedEventId>, order: i64) -> bool {
        // A map by owned keys cannot be asked by reference to what an option holds.
        let mark = self.threads.get(&thread.cloned());
        order <= self.unthreaded || mark.is_some_and(|mark| order <= *mark)
    }
}

/// What is known of a user in a room.
#[derive(Debug)]
pub(super) struct Unread {
    /// What the events were evaluated with.
    pub(super) settings: Arc<UserSettings>,
    /// Where the receipts are.
    pub(super) receipts: Marks,
    /// What the user sent; it has read that far in the same thread.
    pub(super) sent: Marks,
    /// Up to here everything is known.
    pub(super) complete_to: i64,
    /// Events that notify, by rising place.
    pub(super) items: Vec<Item>,
}

impl Unread {
    pub(super) fn count(&self, up_to: i64) -> Counts {
        let mut counts = Counts::default();
        for item in self.items.iter().filter(|item| item.order <= up_to) {
            let thread = item.thread.as_ref();
            if self.receipts.cover(thread, item.order) || self.sent.cover(thread, item.order) {
                continue;
            }
            match thread {
                None => counts.main.add(item),
                Some(root) => {
                    let count = counts.threads.entry(root.clone()).or_default();
                    count.add(item);
                }
            }
        }
        counts
    }

    /// Drops what is read for good, and the oldest of what is too much.
    pub(super) fn trim(&mut self) {
        let unthreaded = self.receipts.unthreaded;
        self.items.retain(|item| item.order > unthreaded);
        let excess = self.items.len().saturating_sub(KEPT);
        self.items.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use hearth_core::{Position, RoomNid, UserNid};
    use ruma::{owned_event_id, push::Ruleset};

    use super::*;

    fn unread(
        receipts: &[(&str, &str, i64)],
        items: &[(i64, Option<OwnedEventId>, bool)],
    ) -> Unread {
        let receipts = receipts
            .iter()
            .map(|(kind, thread, order)| receipt::Stored {
                room: RoomNid(1),
                user: UserNid(1),
                kind: (*kind).to_owned(),
                thread: (*thread).to_owned(),
                event_id: format!("${order}"),
                stream_order: Some(*order),
                ts: 0,
                position: Position(0),
            });
        let items = items.iter().map(|(order, thread, highlight)| Item {
            nid: EventNid(*order),
            order: *order,
            thread: thread.clone(),
            highlight: *highlight,
            call: false,
        });
        Unread {
            settings: Arc::new(UserSettings {
                rules: Ruleset::new(),
                ignored: Arc::new(HashSet::new()),
                blocks_invites: false,
            }),
            receipts: Marks::of(&receipts.collect::<Vec<_>>()),
            sent: Marks::default(),
            complete_to: 100,
            items: items.collect(),
        }
    }

    fn count(notifications: u64, highlights: u64) -> Count {
        Count {
            notifications,
            highlights,
            calls: 0,
        }
    }

    #[test]
    fn the_receipt_that_is_ahead_counts() {
        let items = [(1, None, false), (2, None, true), (3, None, false)];

        let unread = unread(&[("m.read", "", 1), ("m.read.private", "", 2)], &items);

        assert_eq!(unread.count(100).total(), count(1, 0));
        assert_eq!(unread.count(2).total(), count(0, 0));
    }

    #[test]
    fn threads_are_read_on_their_own() {
        let root = owned_event_id!("$root");
        let thread = Some(root.clone());
        let items = [
            (1, None, false),
            (2, thread.clone(), false),
            (3, thread.clone(), true),
            (4, None, true),
        ];

        let counts = unread(&[("m.read", "main", 1), ("m.read", "$root", 2)], &items).count(100);
        assert_eq!(counts.main, count(1, 1));
        assert_eq!(counts.threads, BTreeMap::from([(root, count(1, 1))]));
        assert_eq!(counts.total(), count(2, 2));

        let counts = unread(&[("m.read", "", 4)], &items).count(100);
        assert_eq!(counts, Counts::default());
    }

    #[test]
    fn what_a_user_sends_is_read_in_its_thread() {
        let thread = Some(owned_event_id!("$root"));
        let items = [(1, None, false), (2, thread.clone(), false)];
        let mut unread = unread(&[], &items);

        unread.sent.raise(thread, 3);

        assert_eq!(unread.count(100).main, count(1, 0));
        assert!(unread.count(100).threads.is_empty());
    }
}
