//! The newest events of many rooms at once, each from its own place on.
//!
//! Which they are is told by their arrival when the client has the room up to some place. When it has nothing of the room,
//! they are the last ones of the graph: what came late from a branch that ended long ago is history that `/messages` has.
//! They are always given in the order of their arrival.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, Position, RoomNid, token::PageToken};
use hearth_rooms::{Room, RoomEvent, filter::Filter};
use hearth_store::event;
use ruma::OwnedUserId;

use crate::{service::Sync, view::View};

/// How often more events are read when filters drop most of them.
const ROUNDS: usize = 8;

/// How many events are read in one round at the most.
const CHUNK: usize = 500;

/// What is asked of one room.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub room: Arc<Room>,
    /// After this position; `None`: from the beginning of the room.
    pub from: Option<Position>,
    /// Up to this position.
    pub until: Position,
    pub sight: Sight,
    /// For [`Sight::Own`].
    pub own: Option<Arc<RoomEvent>>,
}

/// What of a room the user may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Everything in the span: the user was joined all along.
    All,
    /// What history visibility says of events up to this position; all that came later, for he was joined since.
    Checked(Position),
    /// Nothing but a member event of his.
    Own,
}

/// A piece of a room's timeline.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline {
    /// In the order of the stream.
    pub events: Vec<Arc<RoomEvent>>,
    /// Whether there are more events between the start of the span and these.
    pub limited: bool,
    /// Where the history before these events is.
    pub prev_batch: Option<PageToken>,
    /// Whether events were left out that the client does not want.
    pub filtered: bool,
}

/// Which events are the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Those that came last.
    Arrival,
    /// Those that come last in the room's graph.
    Graph,
}

/// A timeline that is being read, newest events first.
struct Reading<'a> {
    span: &'a Span,
    order: Order,
    kept: Vec<Arc<RoomEvent>>,
    /// The last event that was read, kept or not.
    last: Option<Arc<RoomEvent>>,
    done: bool,
    /// Whether it ends at an event before which others are missing: the client has to ask for these.
    gap: bool,
    limit: usize,
}

impl<'a> Reading<'a> {
    fn new(span: &'a Span, filter: &Filter, limit: usize) -> Self {
        let mut reading = Self {
            span,
            order: match span.from {
                Some(_) => Order::Arrival,
                None => Order::Graph,
            },
            kept: Vec::new(),
            last: None,
            done: !filter.matches_room(&span.room.id),
            gap: false,
            limit,
        };
        if span.sight == Sight::Own && !reading.done {
            let own = span.own.iter().filter(|event| filter.matches(event));
            reading.kept.extend(own.cloned());
            reading.done = true;
        }
        reading
    }

    fn low(&self) -> i64 {
        self.span.from.map_or(i64::MIN, |from| from.0)
    }

    /// Events up to this (depth, stream order) are still to be read.
    fn high(&self) -> (i64, i64) {
        let last = self.last.as_ref();
        last.map_or((i64::MAX, self.span.until.0), |event| {
            let order = event.stream_order().unwrap_or_default();
            (event.pdu.depth, order - 1)
        })
    }

    fn chunk(&self, filtered: bool, round: usize) -> usize {
        let wanted = self.limit + 1 - self.kept.len();
        if filtered {
            ((wanted * 2) << round).clamp(20, CHUNK)
        } else {
            wanted
        }
    }

    /// What memory has of the next `chunk` events, newest first, and whether there are more. Memory knows only the order
    /// of arrival: the last ones of the graph are those, too, as long as each follows the one before and no other.
    fn recent(&self, sync: &Sync, chunk: usize) -> Option<(Vec<Arc<RoomEvent>>, bool)> {
        let (low, (_, high)) = (self.low(), self.high());
        let (mut events, more) = sync.rooms().recent(&self.span.room, low, high, chunk)?;
        events.reverse();
        let line: Vec<_> = self.last.iter().chain(&events).collect();
        let follows = |pair: &[&Arc<RoomEvent>]| {
            let previous = &pair[0].pdu.prev_events;
            previous.len() == 1 && previous[0] == pair[1].pdu.event_id
        };
        (self.order == Order::Arrival || line.windows(2).all(follows)).then_some((events, more))
    }

    fn finish(mut self, filtered: bool) -> Timeline {
        let limited = self.kept.len() > self.limit || !self.done || self.gap;
        self.kept.truncate(self.limit);
        let place = |event: &RoomEvent| event.stream_order().unwrap_or_default() - 1;
        let prev_batch = match (self.kept.last(), self.order) {
            (Some(first), Order::Graph) => PageToken::Topological {
                depth: first.pdu.depth,
                order: place(first),
            },
            // In the graph, what came before may lie behind an event that came late.
            (Some(first), Order::Arrival) => PageToken::Stream {
                order: place(first),
            },
            (None, _) => PageToken::Stream {
                order: self.span.until.0,
            },
        };
        self.kept.sort_by_key(|event| event.stream_order());
        Timeline {
            events: self.kept,
            limited,
            prev_batch: Some(prev_batch),
            filtered,
        }
    }
}

/// Reads the timelines of `spans`, in their order.
pub(crate) async fn read(
    sync: &Sync,
    view: &View<'_>,
    spans: &[Span],
) -> sqlx::Result<Vec<Timeline>> {
    let filter = &view.filter.timeline;
    let limit = view.filter.timeline_limit();
    let mut readings: Vec<Reading<'_>> = spans
        .iter()
        .map(|span| Reading::new(span, filter, limit))
        .collect();
    for round in 0..ROUNDS {
        let mut unread = Vec::new();
        for (index, reading) in readings.iter_mut().enumerate().filter(|(_, r)| !r.done) {
            let filtered = !filter.is_open() || reading.span.sight != Sight::All;
            let chunk = reading.chunk(filtered, round);
            match reading.recent(sync, chunk) {
                Some((events, more)) => take(sync, view, reading, events, more).await?,
                None => unread.push((index, chunk)),
            }
        }
        read_stored(sync, view, &mut readings, &unread).await?;
        if readings.iter().all(|reading| reading.done) {
            break;
        }
    }
    Ok(readings
        .into_iter()
        .map(|reading| reading.finish(!filter.is_open()))
        .collect())
}

/// Reads a chunk of each of the rooms that memory does not reach back in.
async fn read_stored(
    sync: &Sync,
    view: &View<'_>,
    readings: &mut [Reading<'_>],
    unread: &[(usize, usize)],
) -> sqlx::Result<()> {
    if unread.is_empty() {
        return Ok(());
    }
    let rows = stored(sync, readings, unread).await?;
    let nids: Vec<EventNid> = rows.iter().map(|(_, nid)| *nid).collect();
    let stored = sync.rooms().events().map(nids).await?;
    let mut by_room: HashMap<RoomNid, Vec<Arc<RoomEvent>>> = HashMap::new();
    for (room, nid) in rows {
        if let Some(event) = stored.get(&nid) {
            by_room.entry(room).or_default().push(Arc::clone(event));
        }
    }
    let (mut rooms, mut earlier) = (Vec::new(), Vec::new());
    for (index, _) in unread {
        let span = readings[*index].span;
        let (Sight::Checked(joined), Some(events)) = (span.sight, by_room.get(&span.room.nid))
        else {
            continue;
        };
        rooms.push(Arc::clone(&span.room));
        for event in events {
            if event.stream_order() < Some(joined.0) {
                earlier.push(Arc::clone(event));
            }
        }
    }
    // What is asked of history visibility below is in memory then.
    sync.rooms()
        .prepare_histories(&view.receiver.user_id, &rooms, &earlier)
        .await?;
    for (index, chunk) in unread {
        let reading = &mut readings[*index];
        let mut events = by_room.remove(&reading.span.room.nid).unwrap_or_default();
        events.sort_by_key(|event| match reading.order {
            Order::Arrival => Reverse((0, event.stream_order())),
            Order::Graph => Reverse((event.pdu.depth, event.stream_order())),
        });
        let more = events.len() > *chunk;
        events.truncate(*chunk);
        take(sync, view, reading, events, more).await?;
    }
    Ok(())
}

/// The numbers of the next events of rooms, one more of each than asked for: at most one statement for each order.
async fn stored(
    sync: &Sync,
    readings: &[Reading<'_>],
    unread: &[(usize, usize)],
) -> sqlx::Result<Vec<(RoomNid, EventNid)>> {
    let (mut newest, mut deepest) = (Vec::new(), Vec::new());
    for (index, chunk) in unread {
        let reading = &readings[*index];
        let room = reading.span.room.nid;
        let limit = i64::try_from(*chunk + 1).unwrap_or(i64::MAX);
        match reading.order {
            Order::Arrival => newest.push(event::Newest {
                room,
                low: reading.low(),
                high: reading.high().1,
                limit,
            }),
            Order::Graph => deepest.push(event::Deepest {
                room,
                high: reading.high(),
                until: reading.span.until.0,
                limit,
            }),
        }
    }
    let mut conn = sync.pool().acquire().await?;
    let mut rows = Vec::new();
    if !newest.is_empty() {
        rows = event::list_newest(&mut conn, &newest).await?;
    }
    if !deepest.is_empty() {
        rows.extend(event::list_deepest(&mut conn, &deepest).await?);
    }
    Ok(rows)
}

/// Takes a chunk in, newest first.
async fn take(
    sync: &Sync,
    view: &View<'_>,
    reading: &mut Reading<'_>,
    mut events: Vec<Arc<RoomEvent>>,
    more: bool,
) -> sqlx::Result<()> {
    if let Some(place) = events.iter().position(|event| event.after_gap) {
        reading.gap = true;
        events.truncate(place + 1);
    }
    if let Some(last) = events.last() {
        reading.last = Some(Arc::clone(last));
    }
    let filter = &view.filter.timeline;
    events.retain(|event| filter.matches(event) && !is_ignored(event, &view.receiver.ignored));
    if let Sight::Checked(joined) = reading.span.sight {
        let is_earlier = |event: &Arc<RoomEvent>| event.stream_order() < Some(joined.0);
        let earlier: Vec<_> = events.iter().filter(|e| is_earlier(e)).cloned().collect();
        if !earlier.is_empty() {
            let (room, user) = (&reading.span.room, &view.receiver.user_id);
            let visible = sync.rooms().visible(room, user, earlier).await?;
            let visible: HashSet<EventNid> = visible.iter().map(|event| event.nid).collect();
            events.retain(|event| !is_earlier(event) || visible.contains(&event.nid));
        }
    }
    reading.kept.extend(events);
    reading.done = !more || reading.gap || reading.kept.len() > reading.limit;
    Ok(())
}

/// State events of ignored users are shown nevertheless.
fn is_ignored(event: &RoomEvent, ignored: &HashSet<OwnedUserId>) -> bool {
    event.state_key.is_none() && ignored.contains(&event.pdu.sender)
}
