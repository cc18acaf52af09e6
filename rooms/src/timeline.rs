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

/// The token that stands just before an event in topological order.
#[must_use]
pub fn before(event: &RoomEvent) -> PageToken {
    PageToken::Topological {
        depth: event.pdu.depth,
        order: order_of(event) - 1,
    }
}

/// The token that stands just after an event in topological order.
#[must_use]
pub fn after(event: &RoomEvent) -> PageToken {
    PageToken::Topological {
        depth: event.pdu.depth,
        order: order_of(event),
    }
}

fn order_of(event: &RoomEvent) -> i64 {
    event.stream_order().unwrap_or_default()
}

/// What is left of the history on the way through it.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    pub(crate) direction: Direction,
    pub(crate) span: Span,
    /// The place in the stream where the walk began.
    stream: Option<i64>,
}

impl Walk {
    pub(crate) fn new(
        room: &Room,
        direction: Direction,
        from: Option<PageToken>,
        to: Option<PageToken>,
        ceiling: Option<i64>,
    ) -> Self {
        let mut span = Span::all(room.nid);
        let (upper, lower) = match direction {
            Direction::Backward => (from, to),
            Direction::Forward => (to, from),
        };
        if let Some(token) = upper {
            end_at(&mut span, token);
        }
        if let Some(token) = lower {
            begin_at(&mut span, token);
        }
        let stream = match (direction, from) {
            (_, Some(PageToken::Stream { order }))
            | (Direction::Backward, Some(PageToken::Before { stream: order, .. }))
            | (Direction::Forward, Some(PageToken::After { stream: order, .. })) => Some(order),
            _ => None,
        };
        if let Some(ceiling) = ceiling {
            span.stream_high = span.stream_high.min(ceiling);
        }
        Self {
            direction,
            span,
            stream,
        }
    }

    /// Goes on behind a place.
    pub(crate) fn pass(&mut self, place: Place) {
        match self.direction {
            Direction::Backward => self.span.high = (place.depth, place.stream_order - 1),
            Direction::Forward => self.span.low = (place.depth, place.stream_order),
        }
    }

    /// The token for going on after `event`.
    pub(crate) fn token(&self, event: &RoomEvent) -> PageToken {
        match self.direction {
            Direction::Backward => self.token_at(event.pdu.depth, order_of(event) - 1),
            Direction::Forward => self.token_at(event.pdu.depth, order_of(event)),
        }
    }

    /// The token for going on where the walk is.
    pub(crate) fn here(&self) -> PageToken {
        let (depth, order) = match self.direction {
            Direction::Backward => self.span.high,
            Direction::Forward => self.span.low,
        };
        self.token_at(depth, order)
    }

    fn token_at(&self, depth: i64, order: i64) -> PageToken {
        match (self.stream, self.direction) {
            (None, _) => PageToken::Topological { depth, order },
            (Some(stream), Direction::Backward) => PageToken::Before {
                depth,
                order,
                stream,
            },
            (Some(stream), Direction::Forward) => PageToken::After {
                depth,
                order,
                stream,
            },
        }
    }
}

/// Leaves of a span what lies before a token.
fn end_at(span: &mut Span, token: PageToken) {
    match token {
        PageToken::Topological { depth, order } | PageToken::After { depth, order, .. } => {
            span.high = span.high.min((depth, order));
        }
        PageToken::Stream { order } => span.stream_high = span.stream_high.min(order),
        PageToken::Before {
            depth,
            order,
            stream,
        } => {
            span.high = span.high.min((depth, order));
            span.stream_high = span.stream_high.min(stream);
        }
    }
}

/// Leaves of a span what lies after a token.
fn begin_at(span: &mut Span, token: PageToken) {
    match token {
        PageToken::Topological { depth, order } | PageToken::Before { depth, order, .. } => {
            span.low = span.low.max((depth, order));
        }
        PageToken::Stream { order } => span.stream_low = span.stream_low.max(order),
        PageToken::After {
            depth,
            order,
            stream,
        } => {
            span.low = span.low.max((depth, order));
            span.stream_low = span.stream_low.max(stream);
        }
    }
}

pub(crate) fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
