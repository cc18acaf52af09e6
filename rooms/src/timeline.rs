//! Reading what happened in a room: the timeline in stream order for `/sync`, pages of history in topological order.
//!
//! A room's events have two orders. The stream order is that of arrival and what `/sync` follows; the topological order
//! is (depth, stream order), and what `/messages` and `/context` follow. An event that arrives late, from a server that
//! was away, comes last in the first and somewhere in the middle of the second.
//!
//! Clients walk from one order into the other: the `prev_batch` of a `/sync` is where `/messages` begins. So a page
//! that begins at a place in the stream shows, in topological order, exactly those events that arrived up to it
//! (forwards: after it), and the tokens of the pages that follow keep the place. Whatever came up to the token is found
//! by going back, whatever came after it by going forward, and nothing is lost or doubled between the two.

mod walk;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, RoomNid, token::PageToken};
use hearth_store::{
    event,
    timeline::{self, Conditions, Place, Span},
};
use ruma::{OwnedUserId, api::Direction};

pub(crate) use self::walk::Walk;
pub use self::walk::{after, before};
use crate::{Rooms, client_event::Receiver, event::RoomEvent, filter::Filter, room::Room};

/// How many places one look at the database sees when not all of them match.
const LOOK: usize = 500;

/// How many looks one request takes before it says where to go on.
const LOOKS: usize = 12;

/// A page of history that somebody wants.
#[derive(Clone, Debug)]
pub struct PageRequest<'a> {
    /// Which way.
    pub direction: Direction,
    /// Where to begin; without it, at the end that the direction comes from.
    pub from: Option<PageToken>,
    /// Where to stop.
    pub to: Option<PageToken>,
    /// Nothing that came after this place in the stream: for those who left.
    pub ceiling: Option<i64>,
    /// How many events at most.
    pub limit: usize,
    /// Which events.
    pub filter: &'a Filter,
}

/// A page of history.
#[derive(Clone, Debug)]
pub struct Page {
    /// The events in the direction of the request.
    pub events: Vec<Arc<RoomEvent>>,
    /// Where to go on; `None` at the end.
    pub end: Option<PageToken>,
}

impl Rooms {
    /// The newest `limit` events of a room in `(from, to]` of the stream, by rising place, and whether there are more.
    pub async fn timeline(
        &self,
        room: &Room,
        from: i64,
        to: i64,
        limit: usize,
    ) -> sqlx::Result<(Vec<Arc<RoomEvent>>, bool)> {
        if let Some(found) = room.tail.range(from, to, limit) {
            return Ok(found);
        }
        let span = Span {
            stream_low: from,
            stream_high: to,
            ..Span::all(room.nid)
        };
        let mut conn = self.pool().acquire().await?;
        let mut places =
            timeline::list_newest(&mut conn, &span, &Conditions::default(), rows(limit + 1))
                .await?;
        drop(conn);
        let more = places.len() > limit;
        places.truncate(limit);
        places.reverse();
        Ok((self.placed(&places).await?, more))
    }

    /// The newest `limit` events of each of many rooms in `(from, to]` of the stream, by rising place, in the order
    /// given: [`Rooms::timeline`] in two statements.
    pub async fn timelines(
        &self,
        parts: &[(&Room, i64, i64)],
        limit: usize,
    ) -> sqlx::Result<Vec<Vec<Arc<RoomEvent>>>> {
        let mut timelines = vec![Vec::new(); parts.len()];
        let mut stored = Vec::new();
        for (timeline, (room, from, to)) in timelines.iter_mut().zip(parts) {
            match room.tail.range(*from, *to, limit) {
                Some((events, _)) => *timeline = events,
                None => stored.push(event::Newest {
                    room: room.nid,
                    low: *from,
                    high: *to,
                    limit: rows(limit),
                }),
            }
        }
        if stored.is_empty() {
            return Ok(timelines);
        }
        let mut conn = self.pool().acquire().await?;
        let found = event::list_newest(&mut conn, &stored).await?;
        drop(conn);
        let nids: Vec<EventNid> = found.iter().map(|(_, nid)| *nid).collect();
        let events = self.events().placed(nids).await?;
        let mut by_room: HashMap<RoomNid, Vec<Arc<RoomEvent>>> = HashMap::new();
        for (room, nid) in found {
            by_room
                .entry(room)
                .or_default()
                .extend(events.get(&nid).cloned());
        }
        for (timeline, (room, ..)) in timelines.iter_mut().zip(parts) {
            if let Some(mut events) = by_room.remove(&room.nid) {
                events.sort_by_key(|event| event.stream_order());
                *timeline = events;
            }
        }
        Ok(timelines)
    }

    /// Like [`Rooms::timeline`], from memory alone: `None` when it does not reach back far enough.
    #[must_use]
    pub fn recent(
        &self,
        room: &Room,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Option<(Vec<Arc<RoomEvent>>, bool)> {
        room.tail.range(from, to, limit)
    }

    /// Like [`Rooms::timeline`], but only of events that `filter` wants and that no user in `ignored` sent.
    ///
    /// Where few events match, it looks at so many events only, and says that there are more.
    pub async fn timeline_matching(
        &self,
        room: &Room,
        (from, to): (i64, i64),
        limit: usize,
        filter: &Filter,
        ignored: &HashSet<OwnedUserId>,
    ) -> sqlx::Result<(Vec<Arc<RoomEvent>>, bool)> {
        if !filter.matches_room(&room.id) {
            return Ok((Vec::new(), false));
        }
        if filter.is_open() && ignored.is_empty() {
            return self.timeline(room, from, to, limit).await;
        }
        let conditions = self.conditions(filter, ignored).await?;
        let mut span = Span {
            stream_low: from,
            stream_high: to,
            ..Span::all(room.nid)
        };
        let mut found = Vec::new();
        for _ in 0..LOOKS {
            let mut conn = self.pool().acquire().await?;
            let places = timeline::list_newest(&mut conn, &span, &conditions, rows(LOOK)).await?;
            drop(conn);
            for event in self.matching(&places, filter).await? {
                if found.len() == limit {
                    found.reverse();
                    return Ok((found, true));
                }
                found.push(event);
            }
            match places.last() {
                Some(last) if places.len() == LOOK => span.stream_high = last.stream_order - 1,
                _ => {
                    found.reverse();
                    return Ok((found, false));
                }
            }
        }
        found.reverse();
        Ok((found, true))
    }

    /// A page of a room's history, of what `receiver` may see of it; where the history here has gaps, other servers are
    /// asked first.
    pub async fn page(
        &self,
        room: &Room,
        receiver: &Receiver,
        request: &PageRequest<'_>,
    ) -> sqlx::Result<Page> {
        let mut page = self.page_here(room, receiver, request).await?;
        // Boxed: it is large, and few pages need it.
        if Box::pin(self.fill_page(room, request, &page)).await? {
            page = self.page_here(room, receiver, request).await?;
        }
        if page.end.is_none() {
            page.end = self.end_elsewhere(room, request, &page).await?;
        }
        Ok(page)
    }

    /// A page of what is here of a room's history.
    async fn page_here(
        &self,
        room: &Room,
        receiver: &Receiver,
        request: &PageRequest<'_>,
    ) -> sqlx::Result<Page> {
        let mut walk = Walk::new(
            room,
            request.direction,
            request.from,
            request.to,
            request.ceiling,
        );
        let mut page = Page {
            events: Vec::new(),
            end: None,
        };
        if request.limit == 0 || !request.filter.matches_room(&room.id) {
            return Ok(page);
        }
        let conditions = self.conditions(request.filter, &receiver.ignored).await?;
        let mut look = if request.filter.is_open() {
            request.limit + 1
        } else {
            LOOK
        };
        for _ in 0..LOOKS {
            let places = self.look(&walk, &conditions, look).await?;
            let matching = self.matching(&places, request.filter).await?;
            for event in self.visible(room, &receiver.user_id, matching).await? {
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
            look = LOOK;
        }
        page.end = Some(walk.here());
        Ok(page)
    }

    async fn look(
        &self,
        walk: &Walk,
        conditions: &Conditions,
        limit: usize,
    ) -> sqlx::Result<Vec<Place>> {
        let mut conn = self.pool().acquire().await?;
        match walk.direction {
            Direction::Backward => {
                timeline::list_backwards(&mut conn, &walk.span, conditions, rows(limit)).await
            }
            Direction::Forward => {
                timeline::list_forwards(&mut conn, &walk.span, conditions, rows(limit)).await
            }
        }
    }

    /// The events of those places that match, in the order given.
    async fn matching(
        &self,
        places: &[Place],
        filter: &Filter,
    ) -> sqlx::Result<Vec<Arc<RoomEvent>>> {
        let wanted: Vec<Place> = places
            .iter()
            .filter(|place| place.matches)
            .copied()
            .collect();
        let mut events = self.placed(&wanted).await?;
        events.retain(|event| filter.matches(event));
        Ok(events)
    }

    /// The events of places, in the order given.
    pub(crate) async fn placed(&self, places: &[Place]) -> sqlx::Result<Vec<Arc<RoomEvent>>> {
        let nids = places.iter().map(|place| place.nid).collect();
        let events = self.events().placed(nids).await?;
        let events = places.iter().filter_map(|place| {
            let event = events.get(&place.nid)?;
            event.place(place.stream_order);
            Some(Arc::clone(event))
        });
        Ok(events.collect())
    }
}

pub(crate) fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
