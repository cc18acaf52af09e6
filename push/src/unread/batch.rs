//! Many rooms of one user at once, with as many statements as one room needs.
//!
//! Each step is taken for all rooms before the next one, so that what the next one looks at is read together.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use hearth_core::{EventNid, Position, RoomNid};
use hearth_rooms::{Room, RoomEvent, membership_of};
use hearth_store::receipt;
use ruma::{
    EventId,
    events::{TimelineEventType, room::member::MembershipState},
};
use tokio::sync::MutexGuard;

use super::{
    SCAN, Slot, UnreadCounts,
    known::{Counts, Item, Marks, Unread},
};
use crate::{
    evaluator::{Asked, Viewer},
    threads,
};

/// A room that is to be counted.
struct Wanted<'a> {
    room: &'a Room,
    asked: Asked,
    slot: Arc<Slot>,
}

/// One room under way.
struct Work<'a> {
    wanted: &'a Wanted<'a>,
    /// Where the outcome is kept; nobody else counts the same room for the user meanwhile.
    kept: MutexGuard<'a, Option<Unread>>,
    unread: Unread,
    /// What came since, by rising place.
    events: Vec<Arc<RoomEvent>>,
    /// Those of them that notify, if the viewer may see them.
    notifying: Vec<(Arc<RoomEvent>, Item)>,
}

impl UnreadCounts {
    /// Counts rooms, which must be in the order of their numbers, so that two requests do not wait for each other.
    pub(super) async fn count_together(
        &self,
        viewer: &Viewer,
        rooms: &[Arc<Room>],
        up_to: Position,
    ) -> sqlx::Result<HashMap<RoomNid, Counts>> {
        let mut asked = self.0.evaluator.ask_all(viewer, rooms, up_to).await?;
        let mut wanted = Vec::with_capacity(rooms.len());
        for room in rooms {
            if let Some(asked) = asked.remove(&room.nid) {
                let slot = self.slot(viewer.user, room.nid).await;
                wanted.push(Wanted { room, asked, slot });
            }
        }
        let mut works = self.begin(viewer, &wanted).await?;
        self.read(viewer, &mut works, up_to).await?;
        for work in &mut works {
            self.evaluate(viewer, work).await?;
        }
        self.take_visible(viewer, &mut works).await?;
        let mut counts = HashMap::with_capacity(works.len());
        for mut work in works {
            work.unread.complete_to = work.unread.complete_to.max(up_to.0);
            work.unread.trim();
            counts.insert(work.wanted.room.nid, work.unread.count(up_to.0));
            *work.kept = Some(work.unread);
        }
        Ok(counts)
    }

    /// Takes up what is known of each room, with the receipts as they are.
    async fn begin<'a>(
        &self,
        viewer: &Viewer,
        wanted: &'a [Wanted<'a>],
    ) -> sqlx::Result<Vec<Work<'a>>> {
        let mut known = Vec::with_capacity(wanted.len());
        let mut stale = Vec::new();
        for wanted in wanted {
            let mut kept = wanted.slot.unread.lock().await;
            let settings = &wanted.asked.settings;
            let unread = kept.take();
            let unread = unread.filter(|unread| Arc::ptr_eq(&unread.settings, settings));
            // Taken back before the read: a receipt that comes meanwhile makes it stale again.
            if wanted.slot.stale.swap(false, Ordering::AcqRel) || unread.is_none() {
                stale.push(wanted.room.nid);
            }
            known.push((wanted, kept, unread));
        }
        let receipts = self.0.receipts.list(&stale, viewer.user).await;
        let receipts = receipts.inspect_err(|_| {
            for wanted in wanted {
                wanted.slot.stale.store(true, Ordering::Release);
            }
        })?;
        let stale: HashSet<RoomNid> = stale.into_iter().collect();
        let mut by_room: HashMap<RoomNid, Vec<receipt::Stored>> = HashMap::new();
        for receipt in receipts {
            by_room.entry(receipt.room).or_default().push(receipt);
        }
        let works = known.into_iter().map(|(wanted, kept, unread)| {
            let room = wanted.room.nid;
            let marks = stale.contains(&room).then(|| {
                let receipts = by_room.remove(&room).unwrap_or_default();
                Marks::of(&receipts)
            });
            Work {
                unread: taken_up(unread, marks, &wanted.asked),
                wanted,
                kept,
                events: Vec::new(),
                notifying: Vec::new(),
            }
        });
        Ok(works.collect())
    }

    /// Reads what came since, and what [`UnreadCounts::evaluate`] looks at.
    async fn read(
        &self,
        viewer: &Viewer,
        works: &mut [Work<'_>],
        up_to: Position,
    ) -> sqlx::Result<()> {
        let rooms = self.0.evaluator.rooms();
        let behind = works
            .iter_mut()
            .filter(|work| work.unread.complete_to < up_to.0);
        let mut behind: Vec<&mut Work<'_>> = behind.collect();
        let parts: Vec<(&Room, i64, i64)> = behind
            .iter()
            .map(|work| (work.wanted.room, work.unread.complete_to, up_to.0))
            .collect();
        let timelines = rooms.timelines(&parts, SCAN).await?;
        let all: Vec<Arc<RoomEvent>> = timelines.iter().flatten().cloned().collect();
        for (work, events) in behind.iter_mut().zip(timelines) {
            work.events = events;
        }
        threads::prepare(rooms, &all).await?;
        let redacted: Vec<&EventId> = all
            .iter()
            .filter_map(|event| event.pdu.redacts.as_deref())
            .collect();
        if !redacted.is_empty() {
            rooms.events().nids(&redacted).await?;
        }
        let own = all.into_iter().filter(|event| is_join(viewer, event));
        let own: Vec<Arc<RoomEvent>> = own.collect();
        rooms.prepare_visible(&viewer.user_id, &own).await
    }

    /// Asks the rules about what came since.
    async fn evaluate(&self, viewer: &Viewer, work: &mut Work<'_>) -> sqlx::Result<()> {
        let evaluator = &self.0.evaluator;
        let asked = &work.wanted.asked;
        for event in std::mem::take(&mut work.events) {
            let order = event.stream_order().unwrap_or_default();
            if event.pdu.sender == viewer.user_id {
                let thread = evaluator.thread_of(asked, &event).await?;
                work.unread.sent.raise(thread, order);
                if self.joins(viewer, &event).await? {
                    work.unread.items.clear();
                    work.notifying.clear();
                }
            } else if event.pdu.kind == TimelineEventType::RoomRedaction {
                self.forget_redacted(&mut work.unread, &event).await?;
            } else if let Some(verdict) = evaluator.verdict(asked, &event).await? {
                let item = Item {
                    nid: event.nid,
                    order,
                    highlight: verdict.highlights(),
                    call: event.pdu.kind == TimelineEventType::CallInvite,
                    thread: verdict.thread,
                };
                work.notifying.push((event, item));
            }
        }
        Ok(())
    }

    /// Keeps what notifies and what the viewer may see.
    async fn take_visible(&self, viewer: &Viewer, works: &mut [Work<'_>]) -> sqlx::Result<()> {
        let rooms = self.0.evaluator.rooms();
        let events = works.iter().flat_map(|work| &work.notifying);
        let events: Vec<Arc<RoomEvent>> = events.map(|(event, _)| Arc::clone(event)).collect();
        rooms.prepare_visible(&viewer.user_id, &events).await?;
        for work in works.iter_mut().filter(|work| !work.notifying.is_empty()) {
            let candidates = work.notifying.iter().map(|(event, _)| Arc::clone(event));
            let candidates = candidates.collect();
            let visible = rooms
                .visible(work.wanted.room, &viewer.user_id, candidates)
                .await?;
            let visible: HashSet<EventNid> = visible.iter().map(|event| event.nid).collect();
            let items = work.notifying.drain(..).map(|(_, item)| item);
            let items = items.filter(|item| visible.contains(&item.nid));
            work.unread.items.extend(items);
        }
        Ok(())
    }

    /// Whether the viewer comes into the room by an event: what was before is not for it to read.
    async fn joins(&self, viewer: &Viewer, event: &RoomEvent) -> sqlx::Result<bool> {
        let Some(before) = event.snapshot.filter(|_| is_join(viewer, event)) else {
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
}

/// What is known of a room, with new receipts if they were read.
fn taken_up(unread: Option<Unread>, marks: Option<Marks>, asked: &Asked) -> Unread {
    match (unread, marks) {
        (Some(unread), Some(receipts)) => Unread { receipts, ..unread },
        (Some(unread), None) => unread,
        (None, marks) => {
            let receipts = marks.unwrap_or_default();
            Unread {
                settings: Arc::clone(&asked.settings),
                complete_to: receipts.unthreaded,
                receipts,
                sent: Marks::default(),
                items: Vec::new(),
            }
        }
    }
}

/// Whether an event says that the viewer is joined.
fn is_join(viewer: &Viewer, event: &RoomEvent) -> bool {
    event.pdu.kind == TimelineEventType::RoomMember
        && event.pdu.state_key.as_deref() == Some(viewer.user_id.as_str())
        && membership_of(event) == MembershipState::Join
}
