//! How many events a user has not read (specification, "Receiving notifications").
//!
//! The events after the user's receipt are evaluated when somebody asks, the newest [`SCAN`] of them, and those that
//! notify are kept in memory with the place up to which they are known; the next question evaluates only what came since.
//! A new receipt leaves the evaluation as it is.

mod known;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use hearth_core::{Position, RoomNid, UserNid};
use hearth_journal::{Announcement, Journal, Kind};
use hearth_rooms::{Live, Room, RoomEvent, membership_of};
use hearth_users::Receipts;
use moka::future::Cache;
use ruma::events::{TimelineEventType, room::member::MembershipState};
use tokio::sync::{Mutex, broadcast, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::known::{Count, Counts};
use self::known::{Item, Marks, Unread};
use crate::evaluator::{Asked, Evaluator, Viewer};

/// How many events of a room are evaluated at once for one user.
const SCAN: usize = 1_000;

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
    journal: Journal,
    slots: Cache<(UserNid, RoomNid), Arc<Slot>>,
    /// How far the log was followed.
    followed: watch::Sender<Position>,
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
        unread.complete_to = up_to;
        if notifying.is_empty() {
            return Ok(());
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
        let mut epoch = self.0.journal.epoch();
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                next = self.0.journal.epoch_after(epoch) => {
                    epoch = next;
                    self.0.slots.invalidate_all();
                    self.0.followed.send_replace(self.0.journal.head());
                    continue;
                }
                next = announcements.recv() => next,
            };
            match next {
                Ok(announcement) => self.take_in(&announcement).await,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    for (_, slot) in &self.0.slots {
                        slot.stale.store(true, Ordering::Release);
                    }
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
