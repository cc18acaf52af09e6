//! What notified a user recently (specification, "Listing Notifications").
//!
//! It is looked for backwards through the log, a bounded piece at a time, and nothing of it is stored.

use std::{collections::HashMap, sync::Arc};

use hearth_core::{Position, RoomNid, UserNid};
use hearth_journal::Journal;
use hearth_rooms::{ClientEvent, Receiver, Relations, Room, RoomEvent, client_event::RoomIdField};
use hearth_store::user_event;
use hearth_users::Receipts;
use ruma::{EventId, OwnedRoomId, push::Action};
use sqlx::PgPool;

use crate::evaluator::{Asked, Evaluator, Verdict, Viewer};

/// How many places of the log one look covers.
const SPAN: i64 = 20_000;

/// How many events one look takes.
const LOOK: i64 = 500;

/// How many looks one request takes.
const LOOKS: usize = 10;

/// The largest page.
const MAX_LIMIT: usize = 200;

/// Which notifications are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All.
    All,
    /// Those that stand out.
    Highlights,
}

/// An event that notified.
#[derive(Clone, Debug)]
pub struct Notification {
    /// What the rules said.
    pub actions: Vec<Action>,
    /// The event.
    pub event: ClientEvent,
    /// Whether the user has read it.
    pub read: bool,
    /// The room.
    pub room_id: OwnedRoomId,
}

/// A page of notifications, the newest first.
#[derive(Clone, Debug, Default)]
pub struct NotificationPage {
    /// The notifications.
    pub notifications: Vec<Notification>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// Why notifications are not listed.
#[derive(Debug, thiserror::Error)]
pub enum NotificationsError {
    /// The token is none of ours.
    #[error("this is no token of a page")]
    BadToken,
    /// The database failed.
    #[error("notifications could not be read")]
    Storage(#[from] sqlx::Error),
}

/// Lists what notified users.
#[derive(Clone, Debug)]
pub struct Notifications {
    pool: PgPool,
    journal: Journal,
    evaluator: Evaluator,
    receipts: Receipts,
}

/// A room on the way through the log.
struct Visited {
    room: Arc<Room>,
    asked: Asked,
    /// The user's receipts: thread and place.
    receipts: Vec<(String, i64)>,
}

/// One walk through the log.
struct Walk<'a> {
    viewer: Viewer,
    receiver: &'a Receiver,
    wanted: Wanted,
    head: Position,
    rooms: HashMap<RoomNid, Option<Visited>>,
}

impl Notifications {
    /// Looks through the log of `pool`.
    #[must_use]
    pub fn new(pool: PgPool, journal: Journal, evaluator: Evaluator, receipts: Receipts) -> Self {
        Self {
            pool,
            journal,
            evaluator,
            receipts,
        }
    }

    /// Returns a page of what notified a user.
    ///
    /// # Errors
    ///
    /// [`NotificationsError::BadToken`].
    pub async fn list(
        &self,
        receiver: &Receiver,
        from: Option<&str>,
        limit: usize,
        wanted: Wanted,
    ) -> Result<NotificationPage, NotificationsError> {
        let head = self.journal.head();
        let mut to = match from {
            Some(token) => Position(token.parse().map_err(|_| NotificationsError::BadToken)?),
            None => head,
        };
        let mut walk = Walk {
            viewer: Viewer {
                user: receiver.user,
                user_id: receiver.user_id.clone(),
            },
            receiver,
            wanted,
            head,
            rooms: HashMap::new(),
        };
        let limit = limit.clamp(1, MAX_LIMIT);
        let mut page = NotificationPage::default();
        for _ in 0..LOOKS {
            let low = Position((to.0 - SPAN).max(0));
            let rows = self.look(receiver.user, low, to).await?;
            for row in &rows {
                to = Position(row.position.0 - 1);
                if let Some(notification) = self.notification(&mut walk, row).await? {
                    page.notifications.push(notification);
                }
                if page.notifications.len() == limit {
                    page.next = (to.0 > 0).then(|| to.to_string());
                    return Ok(page);
                }
            }
            if i64::try_from(rows.len()).unwrap_or(i64::MAX) < LOOK {
                to = low;
            }
            if to.0 <= 0 {
                return Ok(page);
            }
        }
        page.next = Some(to.to_string());
        Ok(page)
    }

    async fn look(
        &self,
        user: UserNid,
        low: Position,
        to: Position,
    ) -> sqlx::Result<Vec<user_event::Row>> {
        let mut conn = self.pool.acquire().await?;
        let rows = user_event::list(&mut conn, user, (low, to), LOOK).await?;
        drop(conn);
        // One read for all of them; what follows finds them in memory.
        let events = self.evaluator.rooms().events();
        events.map(rows.iter().map(|row| row.event)).await?;
        Ok(rows)
    }

    async fn notification(
        &self,
        walk: &mut Walk<'_>,
        row: &user_event::Row,
    ) -> sqlx::Result<Option<Notification>> {
        if !walk.rooms.contains_key(&row.room) {
            let visited = self.visit(walk, row.room).await?;
            walk.rooms.insert(row.room, visited);
        }
        let Some(Some(visited)) = walk.rooms.get(&row.room) else {
            return Ok(None);
        };
        let rooms = self.evaluator.rooms();
        let event = rooms.events().get(row.event).await?;
        let Some(verdict) = self.evaluator.verdict(&visited.asked, &event).await? else {
            return Ok(None);
        };
        let room = &visited.room;
        if walk.wanted == Wanted::Highlights && !verdict.highlights()
            || !rooms.may_see(room, &walk.viewer.user_id, &event).await?
        {
            return Ok(None);
        }
        let read = is_read(visited, &verdict, row.position.0);
        let event = self.served(walk.receiver, event).await?;
        Ok(event.map(|event| Notification {
            actions: verdict.actions,
            read,
            event,
            room_id: room.id.clone(),
        }))
    }

    async fn visit(&self, walk: &Walk<'_>, nid: RoomNid) -> sqlx::Result<Option<Visited>> {
        let Some(room) = self.evaluator.rooms().find_by_nid(nid).await? else {
            return Ok(None);
        };
        let asked = self.evaluator.ask(&walk.viewer, &room, walk.head).await?;
        let receipts = self.receipts.list(&[nid], walk.viewer.user).await?;
        let receipts = receipts
            .into_iter()
            .filter_map(|receipt| Some((receipt.thread, receipt.stream_order?)))
            .collect();
        Ok(asked.map(|asked| Visited {
            room,
            asked,
            receipts,
        }))
    }

    async fn served(
        &self,
        receiver: &Receiver,
        event: Arc<RoomEvent>,
    ) -> sqlx::Result<Option<ClientEvent>> {
        let served = self
            .evaluator
            .rooms()
            .serve(vec![event], receiver, RoomIdField::Left, Relations::Left)
            .await?;
        Ok(served.into_iter().next())
    }
}

fn is_read(visited: &Visited, verdict: &Verdict, order: i64) -> bool {
    let thread = verdict.thread.as_deref().map_or("main", EventId::as_str);
    visited
        .receipts
        .iter()
        .any(|(of, up_to)| (of.is_empty() || of == thread) && order <= *up_to)
}
