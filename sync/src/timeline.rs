//! The newest events of many rooms at once, each from its own place on.

use std::{
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
}

/// What of a room the user may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Everything in the span: the user was joined all along.
    All,
    /// What history visibility says of events up to this position; all that came later, for he was joined since.
    Checked(Position),
    /// Nothing but this member event of his.
    Only(Option<EventNid>),
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

/// A timeline that is being read, newest events first.
struct Reading<'a> {
    span: &'a Span,
    kept: Vec<Arc<RoomEvent>>,
    /// Events up to here are still to be read.
    high: i64,
    done: bool,
    /// Whether it ends at an event before which others are missing: the client has to ask for these.
    gap: bool,
    limit: usize,
}

impl Reading<'_> {
    fn low(&self) -> i64 {
        self.span.from.map_or(i64::MIN, |from| from.0)
    }

    fn chunk(&self, filtered: bool, round: usize) -> usize {
        let wanted = self.limit + 1 - self.kept.len();
        if filtered {
            ((wanted * 2) << round).clamp(20, CHUNK)
        } else {
            wanted
        }
    }

    fn finish(mut self, filtered: bool) -> Timeline {
        let limited = self.kept.len() > self.limit || !self.done || self.gap;
        self.kept.truncate(self.limit);
        self.kept.reverse();
        let prev_batch = match self.kept.first() {
            Some(first) => PageToken::Topological {
                depth: first.pdu.depth,
                order: first.stream_order().unwrap_or_default() - 1,
            },
            None => PageToken::Stream {
                order: self.span.until.0,
            },
        };
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
        .map(|span| Reading {
            span,
            kept: Vec::new(),
            high: span.until.0,
            done: !filter.matches_room(&span.room.id),
            gap: false,
            limit,
        })
        .collect();
    read_own(sync, filter, &mut readings).await?;
    for round in 0..ROUNDS {
        let mut unread = Vec::new();
        for (index, reading) in readings.iter_mut().enumerate().filter(|(_, r)| !r.done) {
            let filtered = !filter.is_open() || reading.span.sight != Sight::All;
            let chunk = reading.chunk(filtered, round);
            match sync
                .rooms()
                .recent(&reading.span.room, reading.low(), reading.high, chunk)
            {
                Some((mut events, more)) => {
                    events.reverse();
                    take(sync, view, reading, events, more).await?;
                }
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

/// Reads the member events of those who see nothing else.
async fn read_own(sync: &Sync, filter: &Filter, readings: &mut [Reading<'_>]) -> sqlx::Result<()> {
    let nids: Vec<EventNid> = readings
        .iter()
        .filter_map(|reading| match reading.span.sight {
            Sight::Only(nid) => nid,
            Sight::All | Sight::Checked(_) => None,
        })
        .collect();
    let events = sync.rooms().events().map(nids).await?;
    for reading in readings {
        let Sight::Only(nid) = reading.span.sight else {
            continue;
        };
        let event = nid.and_then(|nid| events.get(&nid));
        let event = event.filter(|event| filter.matches(event));
        if !reading.done {
            reading.kept.extend(event.cloned());
        }
        reading.done = true;
    }
    Ok(())
}

/// Reads a chunk of each of the rooms that memory does not reach back in: one statement.
async fn read_stored(
    sync: &Sync,
    view: &View<'_>,
    readings: &mut [Reading<'_>],
    unread: &[(usize, usize)],
) -> sqlx::Result<()> {
    if unread.is_empty() {
        return Ok(());
    }
    let mut wanted = Vec::with_capacity(unread.len());
    for (index, chunk) in unread {
        let reading = &readings[*index];
        wanted.push(event::Newest {
            room: reading.span.room.nid,
            low: reading.low(),
            high: reading.high,
            limit: i64::try_from(*chunk + 1).unwrap_or(i64::MAX),
        });
    }
    let mut conn = sync.pool().acquire().await?;
    let rows = event::list_newest(&mut conn, &wanted).await?;
    drop(conn);
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
        events.sort_by_key(|event| std::cmp::Reverse(event.stream_order()));
        let more = events.len() > *chunk;
        events.truncate(*chunk);
        take(sync, view, reading, events, more).await?;
    }
    Ok(())
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
    if let Some(last) = events.last().and_then(|event| event.stream_order()) {
        reading.high = last - 1;
    }
    let filter = &view.filter.timeline;
    let mut events: Vec<_> = events
        .into_iter()
        .filter(|event| filter.matches(event) && !is_ignored(event, &view.receiver.ignored))
        .collect();
    if let Sight::Checked(joined) = reading.span.sight {
        let later = events.partition_point(|event| event.stream_order() >= Some(joined.0));
        let earlier = events.split_off(later);
        if !earlier.is_empty() {
            let (room, user) = (&reading.span.room, &view.receiver.user_id);
            events.extend(sync.rooms().visible(room, user, earlier).await?);
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
