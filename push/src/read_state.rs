//! How far users have read, as their clients tell it (specification, "Receipts", "Read and unread markers").

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use hearth_core::Clock;
use hearth_journal::WriteError;
use hearth_rooms::{Room, RoomEvent, Rooms};
use hearth_store::{event, write::ReceiptRow};
use hearth_users::{AccountData, Receipts, account_data::Key};
use ruma::{EventId, OwnedEventId, RoomId, events::room::member::MembershipState};
use serde_json::json;
use sqlx::PgPool;

use crate::{evaluator::Viewer, threads};

/// The type of the account data that holds the read marker.
const FULLY_READ: &str = "m.fully_read";

/// How often a marker is tried to be set while others set it, too.
const MARKS: usize = 5;

/// The thread of receipts for what is in no thread.
const MAIN: &str = "main";

/// Why a receipt or a marker is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The user is not joined to the room.
    #[error("you are not in this room")]
    NotJoined,
    /// There is no such event in the room.
    #[error("there is no such event in this room")]
    UnknownEvent,
    /// The kind or the thread of a receipt is not allowed, or does not fit the event.
    #[error("{0}")]
    Invalid(&'static str),
    /// It could not be written.
    #[error("setting a receipt failed")]
    Write(#[from] WriteError),
}

impl From<sqlx::Error> for ReadError {
    fn from(error: sqlx::Error) -> Self {
        Self::Write(error.into())
    }
}

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptTarget {
    /// `m.read`, `m.read.private` or `m.fully_read`.
    pub kind: String,
    /// `None` (unthreaded), `main` or the event id of the thread's root.
    pub thread: Option<String>,
    /// What was read.
    pub event_id: OwnedEventId,
}

/// How far users have read.
#[derive(Clone, Debug)]
pub struct ReadState {
    pool: PgPool,
    rooms: Rooms,
    receipts: Receipts,
    account_data: AccountData,
    clock: Clock,
}

impl ReadState {
    /// Receipts for events of `rooms`.
    #[must_use]
    pub fn new(
        pool: PgPool,
        rooms: Rooms,
        receipts: Receipts,
        account_data: AccountData,
        clock: Clock,
    ) -> Self {
        Self {
            pool,
            rooms,
            receipts,
            account_data,
            clock,
        }
    }

    /// Notes what a joined user has read; a receipt or marker that would move backwards stays where it is.
    ///
    /// # Errors
    ///
    /// [`ReadError::NotJoined`], [`ReadError::UnknownEvent`], [`ReadError::Invalid`]. Then nothing is noted.
    pub async fn mark(
        &self,
        viewer: &Viewer,
        room_id: &RoomId,
        targets: &[ReceiptTarget],
    ) -> Result<(), ReadError> {
        let room = self.joined(viewer, room_id).await?;
        let mut receipts = Vec::new();
        let mut fully_read = None;
        for target in targets {
            let event = self.event(&room, &target.event_id).await?;
            match target.kind.as_str() {
                "m.read" | "m.read.private" => {
                    let thread = self.thread(&event, target.thread.as_deref()).await?;
                    receipts.push(self.row(viewer, &room, target, thread).await?);
                }
                FULLY_READ if target.thread.is_some() => {
                    return Err(ReadError::Invalid("m.fully_read has no thread_id"));
                }
                FULLY_READ => fully_read = Some(&target.event_id),
                _ => return Err(ReadError::Invalid("there is no such type of receipt")),
            }
        }
        if !receipts.is_empty() {
            self.receipts.send(room.nid, viewer.user, receipts).await?;
        }
        if let Some(event_id) = fully_read {
            self.set_fully_read(viewer, &room, event_id).await?;
        }
        Ok(())
    }

    async fn joined(&self, viewer: &Viewer, room_id: &RoomId) -> Result<Arc<Room>, ReadError> {
        let room = self.rooms.find(room_id).await?;
        let room = room.ok_or(ReadError::NotJoined)?;
        let current = self.rooms.current(&room).await?;
        let current = current.ok_or(ReadError::NotJoined)?;
        let membership = self
            .rooms
            .membership(&current.snapshot, &viewer.user_id)
            .await?;
        if membership != MembershipState::Join {
            return Err(ReadError::NotJoined);
        }
        Ok(room)
    }

    async fn event(&self, room: &Room, event_id: &EventId) -> Result<Arc<RoomEvent>, ReadError> {
        let nids = self.rooms.events().nids(&[event_id]).await?;
        let nid = nids.get(event_id).ok_or(ReadError::UnknownEvent)?;
        let event = self.rooms.events().get(*nid).await?;
        if event.room != room.nid || !event.is_accepted() {
            return Err(ReadError::UnknownEvent);
        }
        Ok(event)
    }

    /// The thread as it is stored, if it fits the event.
    async fn thread(&self, event: &RoomEvent, thread: Option<&str>) -> Result<String, ReadError> {
        let Some(thread) = thread else {
            return Ok(String::new());
        };
        let fits = match thread {
            MAIN => threads::root_of(&self.rooms, event).await?.is_none(),
            root => {
                let root = EventId::parse(root).map_err(|_| {
                    ReadError::Invalid("thread_id must be \"main\" or the id of an event")
                })?;
                threads::relates_to(&self.rooms, event, &root).await?
            }
        };
        if !fits {
            return Err(ReadError::Invalid("the event is not in this thread"));
        }
        Ok(thread.to_owned())
    }

    async fn row(
        &self,
        viewer: &Viewer,
        room: &Room,
        target: &ReceiptTarget,
        thread: String,
    ) -> Result<ReceiptRow, ReadError> {
        let mut conn = self.pool.acquire().await?;
        let places = event::list_places(&mut conn, &[target.event_id.as_str()]).await?;
        Ok(ReceiptRow {
            room: room.nid,
            user: viewer.user,
            kind: target.kind.clone(),
            thread,
            event_id: target.event_id.to_string(),
            stream_order: places.first().and_then(|place| place.stream_order),
            ts: self.clock.millis(),
        })
    }

    async fn set_fully_read(
        &self,
        viewer: &Viewer,
        room: &Room,
        event_id: &EventId,
    ) -> Result<(), ReadError> {
        let key = Key {
            user: viewer.user,
            room: room.nid,
            kind: FULLY_READ,
        };
        for _ in 0..MARKS {
            let old = self.account_data.find(key).await?;
            let old = old.and_then(|content| marked(content.get()));
            if let Some(old) = &old
                && !self.is_after(event_id, old).await?
            {
                return Ok(());
            }
            let was_beaten = AtomicBool::new(false);
            let mark = |content: Option<&str>| -> Result<Option<String>, WriteError> {
                let is_same = content.and_then(marked) == old;
                was_beaten.store(!is_same, Ordering::Relaxed);
                Ok(is_same.then(|| json!({ "event_id": event_id }).to_string()))
            };
            self.account_data.update(key, mark).await?;
            if !was_beaten.into_inner() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether `new` comes after `old`; also when either's place is not known.
    async fn is_after(&self, new: &EventId, old: &EventId) -> sqlx::Result<bool> {
        if new == old {
            return Ok(false);
        }
        let mut conn = self.pool.acquire().await?;
        let places = event::list_places(&mut conn, &[new.as_str(), old.as_str()]).await?;
        let order = |id: &EventId| {
            let place = places.iter().find(|place| place.event_id == *id.as_str());
            place.and_then(|place| place.stream_order)
        };
        Ok(match (order(new), order(old)) {
            (Some(new), Some(old)) => new > old,
            (None, _) | (_, None) => true,
        })
    }
}

/// The event that a marker points to.
fn marked(content: &str) -> Option<OwnedEventId> {
    #[derive(serde::Deserialize)]
    struct Content {
        event_id: OwnedEventId,
    }
    let content: Content = serde_json::from_str(content).ok()?;
    Some(content.event_id)
}
