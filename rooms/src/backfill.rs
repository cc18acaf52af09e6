//! History that this server has not: it came into a room late, or was away for long.
//!
//! Server-Server API, "Backfilling and retrieving missing events". A page of `/messages` that reaches a place where the
//! history here has a gap asks other servers in the room for what is there. Their answers are checked like everything else,
//! but for the present state, which says nothing of the past; they get their place before what is there already.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use hearth_core::token::PageToken;
use hearth_store::{missing_previous, timeline as timeline_table};
use moka::future::Cache;
use ruma::{OwnedEventId, OwnedServerName, ServerName, api::Direction};
use tokio::{sync::Mutex, time::timeout};

use crate::{
    Rooms,
    changes::Changes,
    commit::{ATTEMPTS, Built, Outcome},
    error::SendError,
    event::RoomEvent,
    gaps::{Budget, oldest_first, reachable},
    incoming::Verified,
    policy::Recommendation,
    receipt::{Ancestry, Origin, Proposal},
    receive::ReceiveError,
    room::Room,
    series::Series,
    timeline::{Page, PageRequest, Walk},
};

/// How many gaps are filled at once.
const GAPS: i64 = 10;

/// How many servers are asked, one after the other.
const SERVERS: usize = 4;

/// How many events are asked for at once.
const EVENTS: u32 = 100;

/// How long it may take to ask for them and to take them in.
const PATIENCE: Duration = Duration::from_secs(50);

/// How long a gap that nobody could fill is left alone.
const RESIGNATION: Duration = Duration::from_mins(10);

/// The gaps that are being filled, and those that nobody could fill lately.
#[derive(Clone, Debug)]
pub(crate) struct Gaps {
    under_way: Cache<hearth_core::RoomNid, Arc<Mutex<()>>>,
    hopeless: Cache<OwnedEventId, ()>,
}

/// What became of an event of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    /// It has its place now.
    New,
    /// It had it before.
    Known,
}

impl Default for Gaps {
    fn default() -> Self {
        Self {
            under_way: Cache::builder()
                .max_capacity(10_000)
                .time_to_idle(RESIGNATION)
                .build(),
            hopeless: Cache::builder()
                .max_capacity(100_000)
                .time_to_live(RESIGNATION)
                .build(),
        }
    }
}

impl Rooms {
    /// Fills the gaps that a page of history reached, if it goes back; whether there is more to see now.
    pub(crate) async fn fill_page(
        &self,
        room: &Room,
        request: &PageRequest<'_>,
        page: &Page,
    ) -> sqlx::Result<bool> {
        if request.direction != Direction::Backward {
            return Ok(false);
        }
        let walk = Walk::new(room, request.direction, request.from, request.to, None);
        let reached = match (&page.end, page.events.last()) {
            (Some(_), Some(last)) => last.pdu.depth,
            _ => walk.span.low.0,
        };
        self.fill(room, reached, walk.span.high.0).await
    }

    /// Where a page goes on that shows all that is here, if other servers have more: a page waits for one answer only.
    pub(crate) async fn end_elsewhere(
        &self,
        room: &Room,
        request: &PageRequest<'_>,
        page: &Page,
    ) -> sqlx::Result<Option<PageToken>> {
        if request.direction != Direction::Backward || request.limit == 0 {
            return Ok(None);
        }
        let walk = Walk::new(
            room,
            request.direction,
            request.from,
            request.to,
            request.ceiling,
        );
        let (low, high) = (walk.span.low.0, walk.span.high.0);
        if self.gaps_between(room, low, high).await?.is_empty() || !self.is_resident(room).await? {
            return Ok(None);
        }
        let last = page.events.last();
        Ok(Some(
            last.map_or_else(|| walk.here(), |last| walk.token(last)),
        ))
    }

    /// Fills the gaps before events of a range of depths; whether there is more to see now.
    pub(crate) async fn fill(&self, room: &Room, low: i64, high: i64) -> sqlx::Result<bool> {
        let gaps = self.gaps_between(room, low, high).await?;
        if gaps.is_empty() || !self.is_resident(room).await? {
            return Ok(false);
        }
        let alone = self
            .0
            .gaps
            .under_way
            .get_with(room.nid, async { Arc::default() });
        let alone = alone.await;
        let _alone = alone.lock().await;
        // Who waited finds them filled.
        let gaps = self.gaps_between(room, low, high).await?;
        if gaps.is_empty() {
            return Ok(true);
        }
        let filled = self.fetch_past(room, &gaps).await;
        if !filled {
            for gap in gaps {
                self.0.gaps.hopeless.insert(gap, ()).await;
            }
        }
        Ok(filled)
    }

    /// Whether the room's history has gaps that may be filled.
    pub(crate) async fn has_gaps(&self, room: &Room) -> sqlx::Result<bool> {
        let gaps = self.gaps_between(room, i64::MIN, i64::MAX).await?;
        Ok(!gaps.is_empty())
    }

    /// Fetches events of the past and some of what comes before them; whether any was new.
    pub(crate) async fn fetch_past(&self, room: &Room, events: &[OwnedEventId]) -> bool {
        let fetching = timeout(PATIENCE, self.ask_for_history(room, events));
        fetching.await.unwrap_or(Ok(false)).unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(room_id = %room.id, error, "history could not be taken in");
            false
        })
    }

    /// The events that are missing before those of a range of depths, without those that nobody has.
    async fn gaps_between(
        &self,
        room: &Room,
        low: i64,
        high: i64,
    ) -> sqlx::Result<Vec<OwnedEventId>> {
        let mut conn = self.pool().acquire().await?;
        let found = missing_previous::list(&mut conn, room.nid, (low, high), GAPS).await?;
        drop(conn);
        let mut gaps = Vec::with_capacity(found.len());
        for id in found {
            let Ok(id) = OwnedEventId::try_from(id) else {
                continue;
            };
            if self.0.gaps.hopeless.get(&id).await.is_none() {
                gaps.push(id);
            }
        }
        Ok(gaps)
    }

    /// Asks servers in the room until one has something.
    async fn ask_for_history(
        &self,
        room: &Room,
        gaps: &[OwnedEventId],
    ) -> Result<bool, ReceiveError> {
        let own = &self.identity().server_name;
        let mut servers: Vec<OwnedServerName> = self.servers(room).await?;
        servers.retain(|server| server != own);
        servers.truncate(SERVERS);
        for server in &servers {
            let told = self.peers().backfill(server, &room.id, gaps, EVENTS).await;
            let Ok(told) = told else { continue };
            let events = self.read_and_verify(room, &told, EVENTS as usize).await;
            let events = reachable(gaps, events);
            if !events.is_empty() && self.take_in_history(room, server, events).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes in events of the past, the oldest first; whether any was new.
    async fn take_in_history(
        &self,
        room: &Room,
        server: &ServerName,
        events: HashMap<OwnedEventId, Verified>,
    ) -> Result<bool, ReceiveError> {
        let events = oldest_first(events);
        let mut conn = self.pool().acquire().await?;
        let first = timeline_table::find_first_order(&mut conn, room.nid).await?;
        drop(conn);
        let length = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let lowest = first.unwrap_or(0).min(0) - length;
        let mut budget = Budget::new();
        let mut any = false;
        for (order, event) in (lowest..).zip(events) {
            let id = event.pdu.event_id.clone();
            match self
                .place_in_past(room, server, event, (&mut budget, order))
                .await
            {
                Ok(placed) => any |= placed == Past::New,
                Err(
                    ReceiveError::Malformed(_) | ReceiveError::Missing | ReceiveError::TookTooLong,
                ) => {
                    tracing::debug!(event_id = %id, room_id = %room.id, "an event of the past cannot be placed");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(any)
    }

    async fn place_in_past(
        &self,
        room: &Room,
        server: &ServerName,
        event: Verified,
        (budget, order): (&mut Budget, i64),
    ) -> Result<Past, ReceiveError> {
        let stored = self.by_id(&[event.event_id()]).await?;
        if stored.values().any(|event| event.snapshot.is_some()) {
            return Ok(Past::Known);
        }
        let ancestry = self.ancestry(room, server, &event, budget).await?;
        self.complete_authorities(room, server, (&event, &HashSet::new()))
            .await?;
        Ok(self.write_past(room, event, ancestry, order).await?)
    }

    async fn write_past(
        &self,
        room: &Room,
        event: Verified,
        ancestry: Ancestry,
        order: i64,
    ) -> Result<Past, SendError> {
        // Nobody is asked whether an event of the past should be in the room.
        let proposal = Proposal {
            event,
            ancestry,
            origin: Origin::Past,
            recommendation: Recommendation::Included,
        };
        for _ in 0..ATTEMPTS {
            let facts = self.facts(room, &[&proposal.event]).await?;
            let alone = Series::default();
            let judging = self.judge(room, proposal.clone(), &facts, &alone);
            let candidate = judging.await?;
            let mut slot = room.head.lock().await;
            let head = self.take_head(room, &mut slot).await?;
            let mut changes = Changes::new(self, room, head.clone());
            let placed = changes.look_back(&candidate, order).await;
            let made: Option<Arc<RoomEvent>> = changes.made.last().cloned();
            if let Err(error) = placed {
                self.abandon(&changes.made).await;
                slot.head = Some(head);
                return Err(error);
            }
            let built = Built::of(changes, None).expect("an event was added");
            match self.submit(room, slot, built).await? {
                Outcome::Committed => {
                    if let Some(event) = made.filter(|event| event.is_accepted()) {
                        event.place(order);
                    }
                    return Ok(Past::New);
                }
                Outcome::Duplicate(nid) => {
                    self.events().forget(nid).await;
                    return Ok(Past::Known);
                }
                Outcome::Lost => {}
            }
        }
        Err(SendError::Contended)
    }
}
