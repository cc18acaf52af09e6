//! Events by what they refer to: the children of an event, the threads of a room, the event closest to a time.

use std::sync::Arc;

use hearth_core::{UserNid, token::PageToken};
use hearth_store::{
    relation::{self, Asked},
    timeline::{self, Towards},
};
use ruma::{MilliSecondsSinceUnixEpoch, UserId, api::Direction};

use crate::{
    Rooms,
    client_event::Receiver,
    event::RoomEvent,
    room::Room,
    timeline::{Page, Walk, rows},
};

/// How many levels of relations `recurse` goes down.
pub const LEVELS: u32 = 3;

/// How many looks at the database one request takes before it says where to go on.
const LOOKS: usize = 6;

/// How many events around a time are looked at to find one that is visible: further ones when there is none.
const CLOSE: [i64; 3] = [200, 1_000, 5_000];

/// Children of an event that somebody wants.
#[derive(Clone, Debug)]
pub struct RelatedRequest<'a> {
    /// The event that they refer to.
    pub parent: &'a RoomEvent,
    /// How they refer, if that matters.
    pub rel_type: Option<&'a str>,
    /// Their type, if that matters.
    pub kind: Option<&'a str>,
    /// How many levels down.
    pub levels: u32,
    /// Which way.
    pub direction: Direction,
    /// Where to begin; without it, at the end that the direction comes from.
    pub from: Option<PageToken>,
    /// Where to stop.
    pub to: Option<PageToken>,
    /// How many events at most.
    pub limit: usize,
}

/// Threads of a room that somebody wants.
#[derive(Clone, Copy, Debug)]
pub struct ThreadsRequest {
    /// Only those in which the receiver wrote.
    pub participated: Participation,
    /// Where to begin.
    pub from: Option<PageToken>,
    /// How many threads at most.
    pub limit: usize,
}

/// Which threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Participation {
    /// Those in which the user wrote.
    Own,
    /// All.
    Any,
}

impl Rooms {
    /// The events that refer to an event, of what `receiver` may see.
    pub async fn related(
        &self,
        room: &Room,
        receiver: &Receiver,
        request: &RelatedRequest<'_>,
    ) -> sqlx::Result<Page> {
        let mut page = Page {
            events: Vec::new(),
            end: None,
        };
        let ignored = self.ignored(receiver).await?;
        let asked = Asked {
            parent: request.parent.pdu.event_id.as_str(),
            levels: i32::try_from(request.levels).unwrap_or(i32::MAX),
            rel_type: request.rel_type,
            kind: request.kind,
            ignored: &ignored,
        };
        let mut walk = Walk::new(room, request.direction, request.from, request.to, None);
        let look = request.limit + 1;
        for _ in 0..LOOKS {
            let mut conn = self.pool().acquire().await?;
            let places = match request.direction {
                Direction::Backward => {
                    relation::list_backwards(&mut conn, &walk.span, asked, rows(look)).await?
                }
                Direction::Forward => {
                    relation::list_forwards(&mut conn, &walk.span, asked, rows(look)).await?
                }
            };
            drop(conn);
            let events = self.placed(&places).await?;
            for event in self.visible(room, &receiver.user_id, events).await? {
                if page.events.len() == request.limit {
                    page.end = page.events.last().map(|last| walk.token(last));
                    return Ok(page);
                }
                page.events.push(event);
            }
            match places.last() {
                Some(last) if places.len() == look => walk.pass(*last),
                _ => return Ok(page),
            }
        }
        page.end = Some(walk.here());
        Ok(page)
    }

    /// The events with which a room's threads began, by falling time of the threads' newest events.
    ///
    /// Those of ignored users are redacted.
    pub async fn threads(
        &self,
        room: &Room,
        receiver: &Receiver,
        request: ThreadsRequest,
    ) -> sqlx::Result<Page> {
        let ignored = self.ignored(receiver).await?;
        let mut before = match request.from {
            Some(
                PageToken::Stream { order }
                | PageToken::Topological { order, .. }
                | PageToken::Before { order, .. }
                | PageToken::After { order, .. },
            ) => order,
            None => i64::MAX,
        };
        let participant = (request.participated == Participation::Own).then_some(receiver.user);
        let mut page = Page {
            events: Vec::new(),
            end: None,
        };
        let look = request.limit + 1;
        for _ in 0..LOOKS {
            let mut conn = self.pool().acquire().await?;
            let threads = relation::list_threads(
                &mut conn,
                room.nid,
                before,
                participant,
                &ignored,
                rows(look),
            )
            .await?;
            drop(conn);
            let roots = self
                .events()
                .map(threads.iter().map(|thread| thread.root))
                .await?;
            let roots: Vec<_> = threads
                .iter()
                .filter_map(|thread| roots.get(&thread.root).cloned())
                .collect();
            let seen = self.visible(room, &receiver.user_id, roots).await?;
            for thread in &threads {
                if page.events.len() == request.limit {
                    page.end = Some(PageToken::Stream { order: before });
                    return Ok(page);
                }
                before = thread.newest;
                if let Some(root) = seen.iter().find(|root| root.nid == thread.root) {
                    page.events.push(hidden(room, receiver, root)?);
                }
            }
            if threads.len() < look {
                return Ok(page);
            }
        }
        page.end = Some(PageToken::Stream { order: before });
        Ok(page)
    }

    /// The event closest to `ts` in one direction, of those that are here and that `receiver` may see.
    pub(crate) async fn closest_here(
        &self,
        room: &Room,
        receiver: &Receiver,
        ts: MilliSecondsSinceUnixEpoch,
        direction: Direction,
    ) -> sqlx::Result<Option<Arc<RoomEvent>>> {
        let towards = match direction {
            Direction::Backward => Towards::Earlier,
            Direction::Forward => Towards::Later,
        };
        let mut looked_at = 0;
        for close in CLOSE {
            let mut conn = self.pool().acquire().await?;
            let nids = timeline::list_by_time(&mut conn, room.nid, ts.get().into(), towards, close)
                .await?;
            drop(conn);
            let further = nids.get(looked_at..).unwrap_or_default();
            if further.is_empty() {
                break;
            }
            let events = self.events().map(further.iter().copied()).await?;
            let events = further.iter().filter_map(|nid| events.get(nid).cloned());
            let seen = self
                .visible(room, &receiver.user_id, events.collect())
                .await?;
            if let Some(event) = seen.into_iter().next() {
                return Ok(Some(event));
            }
            looked_at = nids.len();
        }
        Ok(None)
    }

    /// The numbers of the users whom the receiver ignores.
    async fn ignored(&self, receiver: &Receiver) -> sqlx::Result<Vec<UserNid>> {
        let ignored: Vec<&UserId> = receiver.ignored.iter().map(AsRef::as_ref).collect();
        self.numbers(&ignored).await
    }
}

/// The event, without its content when an ignored user sent it.
fn hidden(
    room: &Room,
    receiver: &Receiver,
    event: &Arc<RoomEvent>,
) -> sqlx::Result<Arc<RoomEvent>> {
    if receiver.ignored.contains(&event.pdu.sender) {
        event.stripped(&room.rules).map(Arc::new)
    } else {
        Ok(Arc::clone(event))
    }
}
