//! How many events a user has not read (specification, "Receiving notifications").
//!
//! The events after the user's receipt are evaluated when somebody asks, the newest [`SCAN`] of them, and those that
//! notify are kept in memory with the place up to which they are known; the next question evaluates only what came since.
//! A new receipt leaves the evaluation as it is.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use hearth_core::{EventNid, Position, RoomNid, UserNid};
use hearth_journal::{Announcement, Journal, Kind};
use hearth_rooms::{Room, RoomEvent, membership_of};
use hearth_store::receipt;
use hearth_users::Receipts;
use moka::future::Cache;
use ruma::{
    EventId, OwnedEventId,
    events::{TimelineEventType, room::member::MembershipState},
};
use tokio::sync::{Mutex, broadcast, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    evaluator::{Asked, Evaluator, Viewer},
    settings::UserSettings,
};

/// How many events of a room are evaluated at once for one user.
const SCAN: usize = 1_000;

/// How many unread events of a room are kept for one user.
const KEPT: usize = 10_000;

/// How many pairs of a user and a room stay in memory.
const CACHED: u64 = 100_000;

/// How many events notify, and how many of them stand out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All that notify.
    pub notifications: u64,
    /// Those that stand out.
    pub highlights: u64,
}

impl Count {
    fn add(&mut self, highlight: bool) {
        self.notifications += 1;
        self.highlights += u64::from(highlight);
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
        })
    }
}

/// An event that notifies.
#[derive(Debug)]
struct Item {
    nid: EventNid,
    order: i64,
    thread: Option<OwnedEventId>,
    highlight: bool,
}

/// Up to where a user has read a room, in the order of the stream.
#[derive(Debug, Default)]
struct Marks {
    /// All of it.
    unthreaded: i64,
    /// Each thread; the main timeline is `None`.
    threads: HashMap<Option<OwnedEventId>, i64>,
}

impl Marks {
    fn of(receipts: &[receipt::Stored]) -> Self {
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

    fn raise(&mut self, thread: Option<OwnedEventId>, order: i64) {
        let mark = self.threads.entry(thread).or_default();
        *mark = order.max(*mark);
    }

    fn cover(&self, thread: Option<&OwnedEventId>, order: i64) -> bool {
        // A map by owned keys cannot be asked by reference to what an option holds.
        let mark = self.threads.get(&thread.cloned());
        order <= self.unthreaded || mark.is_some_and(|mark| order <= *mark)
    }
}

/// What is known of a user in a room.
#[derive(Debug)]
struct Unread {
    /// What the events were evaluated with.
    settings: Arc<UserSettings>,
    /// Where the receipts are.
    receipts: Marks,
    /// What the user sent; it has read that far in the same thread.
    sent: Marks,
    /// Up to here everything is known.
    complete_to: i64,
    /// Events that notify, by rising place.
    items: Vec<Item>,
}

impl Unread {
    fn count(&self, up_to: i64) -> Counts {
        let mut counts = Counts::default();
        for item in self.items.iter().filter(|item| item.order <= up_to) {
            let thread = item.thread.as_ref();
            if self.receipts.cover(thread, item.order) || self.sent.cover(thread, item.order) {
                continue;
            }
            match thread {
                None => counts.main.add(item.highlight),
                Some(root) => {
                    let count = counts.threads.entry(root.clone()).or_default();
                    count.add(item.highlight);
                }
            }
        }
        counts
    }

    /// Drops what is read for good, and the oldest of what is too much.
    fn trim(&mut self) {
        let unthreaded = self.receipts.unthreaded;
        self.items.retain(|item| item.order > unthreaded);
        let excess = self.items.len().saturating_sub(KEPT);
        self.items.drain(..excess);
    }
}

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
    journal: Journal,
    slots: Cache<(UserNid, RoomNid), Arc<Slot>>,
    /// How far the log was followed.
    followed: watch::Sender<Position>,
}

impl UnreadCounts {
    /// Counts what `evaluator` says, and follows `journal` until `stop`.
    #[must_use]
    pub fn start(
        evaluator: Evaluator,
        receipts: Receipts,
        journal: Journal,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let announcements = journal.subscribe();
        let counts = Self(Arc::new(Inner {
            evaluator,
            receipts,
            followed: watch::Sender::new(journal.head()),
            journal,
            slots: Cache::new(CACHED),
        }));
        tracker.spawn(counts.clone().follow(announcements, stop));
        counts
    }

    /// How many events of a room, up to `up_to`, a joined user has not read.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count(
        &self,
        viewer: &Viewer,
        room: &Room,
        up_to: Position,
    ) -> sqlx::Result<Counts> {
        self.wait_for(up_to).await;
        let Some(asked) = self.0.evaluator.ask(viewer, room, up_to).await? else {
            return Ok(Counts::default());
        };
        let slot = self.slot(viewer.user, room.nid).await;
        let mut unread = slot.unread.lock().await;
        let known = unread
            .take()
            .filter(|unread| Arc::ptr_eq(&unread.settings, &asked.settings));
        let mut known = self
            .with_receipts(&slot, (viewer, room), &asked, known)
            .await?;
        if known.complete_to < up_to.0 {
            self.advance(&mut known, &asked, (viewer, room), up_to.0)
                .await?;
        }
        known.trim();
        let counts = known.count(up_to.0);
        *unread = Some(known);
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

    /// What is known, with the receipts as they are.
    async fn with_receipts(
        &self,
        slot: &Slot,
        (viewer, room): (&Viewer, &Room),
        asked: &Asked,
        known: Option<Unread>,
    ) -> sqlx::Result<Unread> {
        // Taken back before the read: a receipt that comes meanwhile makes it stale again.
        let stale = slot.stale.swap(false, Ordering::AcqRel);
        let receipts = match known {
            Some(known) if !stale => return Ok(known),
            _ => self.0.receipts.list(room.nid, viewer.user).await,
        };
        let receipts = receipts.inspect_err(|_| slot.stale.store(true, Ordering::Release))?;
        let receipts = Marks::of(&receipts);
        Ok(match known {
            Some(known) => Unread { receipts, ..known },
            None => Unread {
                settings: Arc::clone(&asked.settings),
                complete_to: receipts.unthreaded,
                receipts,
                sent: Marks::default(),
                items: Vec::new(),
            },
        })
    }

    /// Evaluates what came since.
    async fn advance(
        &self,
        unread: &mut Unread,
        asked: &Asked,
        (viewer, room): (&Viewer, &Room),
        up_to: i64,
    ) -> sqlx::Result<()> {
        let evaluator = &self.0.evaluator;
        let rooms = evaluator.rooms();
        let from = unread.complete_to;
        let (events, _) = rooms.timeline(room, from, up_to, SCAN).await?;
        let mut notifying = Vec::new();
        for event in events {
            let order = event.stream_order().unwrap_or_default();
            if event.pdu.sender == viewer.user_id {
                let thread = evaluator.thread_of(asked, &event).await?;
                unread.sent.raise(thread, order);
                if self.joins(viewer, &event).await? {
                    unread.items.clear();
                    notifying.clear();
                }
            } else if event.pdu.kind == TimelineEventType::RoomRedaction {
                self.forget_redacted(unread, &event).await?;
            } else if let Some(verdict) = evaluator.verdict(asked, &event).await? {
                let item = Item {
                    nid: event.nid,
                    order,
                    highlight: verdict.highlights(),
                    thread: verdict.thread,
                };
                notifying.push((event, item));
            }
        }
        let candidates = notifying.iter().map(|(event, _)| Arc::clone(event));
        let visible = rooms
            .visible(room, &viewer.user_id, candidates.collect())
            .await?;
        let mut visible = visible.iter().map(|event| event.nid).peekable();
        for (event, item) in notifying {
            if visible.next_if_eq(&event.nid).is_some() {
                unread.items.push(item);
            }
        }
        unread.complete_to = up_to;
        Ok(())
    }

    /// Whether the viewer comes into the room by an event: what was before is not for it to read.
    async fn joins(&self, viewer: &Viewer, event: &RoomEvent) -> sqlx::Result<bool> {
        let of_viewer = event.pdu.state_key.as_deref() == Some(viewer.user_id.as_str());
        if event.pdu.kind != TimelineEventType::RoomMember
            || !of_viewer
            || membership_of(event) != MembershipState::Join
        {
            return Ok(false);
        }
        let Some(before) = event.snapshot else {
            return Ok(false);
        };
        let rooms = self.0.evaluator.rooms();
        let before = rooms.snapshot(before).await?;
        let membership = rooms.membership(&before, &viewer.user_id).await?;
        Ok(membership != MembershipState::Join)
    }

    async fn forget_redacted(
        &self,
        unread: &mut Unread,
        redaction: &RoomEvent,
    ) -> sqlx::Result<()> {
        let Some(target) = &redaction.pdu.redacts else {
            return Ok(());
        };
        let events = self.0.evaluator.rooms().events();
        if let Some(nid) = events.nids(&[&**target]).await?.get(target) {
            unread.items.retain(|item| item.nid != *nid);
        }
        Ok(())
    }

    async fn wait_for(&self, position: Position) {
        if *self.0.followed.borrow() >= position {
            return;
        }
        let mut followed = self.0.followed.subscribe();
        // The sender lives as long as this.
        let _ = followed.wait_for(|followed| *followed >= position).await;
    }

    async fn follow(
        self,
        mut announcements: broadcast::Receiver<Arc<Announcement>>,
        stop: CancellationToken,
    ) {
        loop {
            let next = tokio::select! {
                next = announcements.recv() => next,
                () = stop.cancelled() => break,
            };
            match next {
                Ok(announcement) => self.take_in(&announcement).await,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    let head = self.0.journal.head();
                    for (_, slot) in &self.0.slots {
                        slot.stale.store(true, Ordering::Release);
                    }
                    self.0.followed.send_replace(head);
                }
                Err(broadcast::error::RecvError::Closed) => break,
            }
        }
        // Nobody shall wait for what does not come any more.
        self.0.followed.send_replace(Position(i64::MAX));
    }

    async fn take_in(&self, announcement: &Announcement) {
        for entry in announcement.entries.iter() {
            if entry.kind == Kind::Receipt
                && let (Some(user), Some(room)) = (entry.user, entry.room)
                && let Some(slot) = self.0.slots.get(&(user, room)).await
            {
                slot.stale.store(true, Ordering::Release);
            }
        }
        self.0.followed.send_replace(announcement.head);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

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
        });
        Unread {
            settings: Arc::new(UserSettings {
                rules: Ruleset::new(),
                ignored: Arc::new(HashSet::new()),
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
