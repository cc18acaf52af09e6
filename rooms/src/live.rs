//! Follows the journal and keeps rooms in memory in step with it.
//!
//! Readers above subscribe here rather than at the journal: what they hear of is then in memory already.

use std::sync::Arc;

use hearth_core::Position;
use hearth_journal::{Announcement, Entry, Kind, Origin};
use tokio::sync::broadcast;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Rooms, SendError, event::RoomEvent, room::Room};

/// How many announcements a reader may lag behind before it must read the log.
const BACKLOG: usize = 1_024;

/// Announcements whose effects on rooms are in memory.
#[derive(Clone, Debug)]
pub struct Live(broadcast::Sender<Arc<Announcement>>);

impl Live {
    /// Hears of everything from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Announcement>> {
        self.0.subscribe()
    }
}

impl Rooms {
    /// Starts to follow the journal until `stop`.
    #[must_use]
    pub fn follow(&self, tracker: &TaskTracker, stop: CancellationToken) -> Live {
        let live = Live(broadcast::Sender::new(BACKLOG));
        let (rooms, out, mut announcements) =
            (self.clone(), live.clone(), self.journal().subscribe());
        let mut epoch = self.journal().epoch();
        tracker.spawn(async move {
            loop {
                let next = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    next = rooms.journal().epoch_after(epoch) => {
                        epoch = next;
                        rooms.forget_all();
                        continue;
                    }
                    next = announcements.recv() => next,
                };
                match next {
                    Ok(announcement) => {
                        rooms.take_in(&announcement).await;
                        // Without subscribers nobody has to be told.
                        let _ = out.0.send(announcement);
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => rooms.start_over(),
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        live
    }

    /// Brings the rooms in memory up to an announcement.
    async fn take_in(&self, announcement: &Announcement) {
        for entry in announcement.entries.iter() {
            let Some(nid) = entry.room else { continue };
            let Some(room) = self.0.by_nid.get(&nid).await else {
                continue;
            };
            if announcement.origin == Origin::Remote
                && matches!(entry.kind, Kind::Event | Kind::State)
            {
                room.changed_elsewhere();
            }
            if entry.kind == Kind::Event
                && let Err(error) = self.take_in_event(&room, entry).await
            {
                tracing::warn!(room_id = %room.id, error = &error as &dyn std::error::Error, "an event could not be read");
                room.tail.restart(entry.position.0);
            }
        }
    }

    async fn take_in_event(&self, room: &Room, entry: &Entry) -> Result<(), SendError> {
        let Some(nid) = entry.event else {
            return Ok(());
        };
        let mut event = self.events().get(nid).await?;
        if event.snapshot.is_none() {
            // It was an outlier when it was read.
            self.events().forget(nid).await;
            event = self.events().get(nid).await?;
        }
        event.place(entry.position.0);
        if let Some(current) = room.expected(nid) {
            self.snapshots()
                .remember(Arc::clone(&current.snapshot))
                .await;
            room.set_current(current);
        }
        self.apply_redaction(room, &event).await?;
        room.tail.push(entry.position.0, event);
        Ok(())
    }

    /// Puts a redacted event in place of the one in memory.
    pub(crate) async fn apply_redaction(
        &self,
        room: &Room,
        event: &RoomEvent,
    ) -> Result<(), SendError> {
        let Some(target) = &event.pdu.redacts else {
            return Ok(());
        };
        let nids = self.events().nids(&[target.as_ref()]).await?;
        let Some(nid) = nids.get(target) else {
            return Ok(());
        };
        self.events().forget(*nid).await;
        let redacted = self.events().get(*nid).await?;
        room.tail.replace(&redacted);
        Ok(())
    }

    /// Forgets all rooms, events and states: after a fail-over the database may have lost some of them.
    fn forget_all(&self) {
        self.start_over();
        self.0.by_id.invalidate_all();
        self.0.by_nid.invalidate_all();
        self.0.events.forget_all();
        self.0.snapshots.forget_all();
        self.0.transactions.forget_all();
        self.0.known_servers.forget_all();
        self.0.merged.forget_all();
        self.0.auth_edges.forget_all();
    }

    /// Forgets what may be out of date after announcements were missed.
    fn start_over(&self) {
        let head: Position = self.journal().head();
        for (_, room) in &self.0.by_nid {
            room.changed_elsewhere();
            room.tail.restart(head.0);
        }
    }
}
