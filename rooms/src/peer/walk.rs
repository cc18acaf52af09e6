//! Walking a room's graph back from some of its events.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use hearth_store::{
    timeline::{self, Conditions, Span},
    write::Status,
};
use ruma::{EventId, OwnedEventId};

use crate::{Rooms, event::RoomEvent, room::Room, timeline::rows};

/// How often events are read that the first look did not find.
const ROUNDS: usize = 16;

/// Which part of the graph is wanted.
#[derive(Debug)]
pub(super) struct WalkRequest<'a> {
    /// Where to begin.
    pub from: Vec<Arc<RoomEvent>>,
    /// Where to stop: these are passed over.
    pub earliest: HashSet<&'a EventId>,
    /// The smallest depth that is of interest.
    pub min_depth: i64,
    /// How many events at most.
    pub limit: usize,
    /// Whether the events where it begins count.
    pub start: Start,
}

/// What becomes of the events where a walk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// They are part of what is found.
    Included,
    /// They are not.
    Excluded,
}

impl Rooms {
    /// The events that the graph leads to, the deepest first. Rejected events are passed over.
    ///
    /// Most of a graph lies in the order of its depth, so one look at the timeline finds nearly all; what it does not find
    /// is read by its id.
    pub(super) async fn walk_back(
        &self,
        room: &Room,
        request: WalkRequest<'_>,
    ) -> sqlx::Result<Vec<Arc<RoomEvent>>> {
        let mut known = self.below(room, &request).await?;
        let mut ahead: BTreeMap<(i64, OwnedEventId), Arc<RoomEvent>> = BTreeMap::new();
        let mut seen: HashSet<OwnedEventId> = HashSet::new();
        for event in &request.from {
            seen.insert(event.pdu.event_id.clone());
            ahead.insert(key(event), Arc::clone(event));
        }
        let mut found = Vec::new();
        let mut unknown: Vec<OwnedEventId> = Vec::new();
        let mut rounds = 0;
        while found.len() < request.limit {
            let Some((_, event)) = ahead.pop_last() else {
                if unknown.is_empty() || rounds == ROUNDS {
                    break;
                }
                rounds += 1;
                let wanted = std::mem::take(&mut unknown);
                for event in self.stored(room, &wanted).await? {
                    ahead.insert(key(&event), event);
                }
                continue;
            };
            let is_start = request
                .from
                .iter()
                .any(|start| start.pdu.event_id == event.pdu.event_id);
            let counts = event.pdu.depth >= request.min_depth
                && event.status != Status::Rejected
                && !request.earliest.contains(&*event.pdu.event_id);
            if !is_start && !counts {
                continue;
            }
            for id in &event.pdu.prev_events {
                if !seen.insert(id.clone()) {
                    continue;
                }
                match known.remove(id) {
                    Some(previous) => {
                        ahead.insert(key(&previous), previous);
                    }
                    None => unknown.push(id.clone()),
                }
            }
            if counts && (!is_start || request.start == Start::Included) {
                found.push(event);
            }
        }
        Ok(found)
    }

    /// The events of the timeline just below where a walk begins.
    async fn below(
        &self,
        room: &Room,
        request: &WalkRequest<'_>,
    ) -> sqlx::Result<HashMap<OwnedEventId, Arc<RoomEvent>>> {
        let Some(depth) = request.from.iter().map(|event| event.pdu.depth).max() else {
            return Ok(HashMap::new());
        };
        let span = Span {
            low: (request.min_depth.saturating_sub(1), i64::MAX),
            high: (depth, i64::MAX),
            ..Span::all(room.nid)
        };
        let mut conn = self.pool().acquire().await?;
        let limit = rows(
            request
                .limit
                .saturating_mul(2)
                .saturating_add(request.from.len()),
        );
        let places =
            timeline::list_backwards(&mut conn, &span, &Conditions::default(), limit).await?;
        drop(conn);
        let events = self.placed(&places).await?.into_iter();
        Ok(events
            .map(|event| (event.pdu.event_id.clone(), event))
            .collect())
    }

    /// Those of the events that are stored with their place in this room's graph.
    pub(super) async fn stored(
        &self,
        room: &Room,
        ids: &[OwnedEventId],
    ) -> sqlx::Result<Vec<Arc<RoomEvent>>> {
        let ids: Vec<&EventId> = ids.iter().map(AsRef::as_ref).collect();
        let nids = self.events().nids(&ids).await?;
        let events = self.events().map(nids.into_values()).await?;
        let events = events.into_values();
        Ok(events
            .filter(|event| event.room == room.nid && event.snapshot.is_some())
            .collect())
    }
}

fn key(event: &RoomEvent) -> (i64, OwnedEventId) {
    (event.pdu.depth, event.pdu.event_id.clone())
}
