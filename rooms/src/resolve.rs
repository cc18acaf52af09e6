//! State resolution: what a room's state is where branches disagree.
//!
//! The algorithm is ruma's. Here is what it is given: only what is in conflict, what that is authorised by, and those
//! entries of the rest that its checks look at.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, StateKeyNid};
use hearth_store::event;
use moka::sync::Cache;
use ruma::{
    EventId, OwnedEventId,
    events::StateEventType,
    state_res::{
        self, StateMap as NamedState, auth_types_for_event, utils::event_id_set::EventIdSet,
    },
};

use crate::{
    Rooms,
    conflict::{AuthGraph, Conflict, Edge},
    event::RoomEvent,
    room::Room,
    snapshot::StateMap,
};

/// How many events' auth events stay in memory.
const CACHED_EDGES: u64 = 1_000_000;

/// What authorises the events that resolutions looked at lately.
#[derive(Debug)]
pub(crate) struct AuthEdges(Cache<EventNid, Arc<Edge>>);

impl Default for AuthEdges {
    fn default() -> Self {
        Self(Cache::new(CACHED_EDGES))
    }
}

impl AuthEdges {
    /// Forgets everything: the numbers may mean something else now.
    pub(crate) fn forget_all(&self) {
        self.0.invalidate_all();
    }
}

/// What ruma's algorithm is given.
struct Question {
    states: Vec<NamedState<OwnedEventId>>,
    difference: EventIdSet<OwnedEventId>,
    subgraph: EventIdSet<OwnedEventId>,
    events: HashMap<OwnedEventId, Arc<RoomEvent>>,
}

impl Rooms {
    /// Resolves states that differ.
    pub(crate) async fn resolve(&self, room: &Room, maps: &[StateMap]) -> sqlx::Result<StateMap> {
        let conflict = Conflict::between(maps);
        let question = self.question(room, &conflict).await?;
        let events = question.events.clone();
        let rules = room.rules.clone();
        let room_id = room.id.clone();
        let work = self
            .tasks()
            .spawn_blocking(move || answer(&rules, &question));
        let resolved = work
            .await
            .map_err(|error| sqlx::Error::Decode(error.into()))?
            .map_err(|error| sqlx::Error::Decode(error.into()))?;
        tracing::debug!(%room_id, keys = conflict.keys.len(), "states of {room_id} were resolved");

        let mut map = conflict.agreed;
        let pairs: Vec<(String, &str)> = resolved
            .keys()
            .map(|(kind, key)| (kind.to_string(), key.as_str()))
            .collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(kind, key)| (&**kind, *key)).collect();
        let keys = self.interner().state_keys(&pairs).await?;
        let mut entries = Vec::with_capacity(keys.len());
        for (key, id) in keys.into_iter().zip(resolved.values()) {
            let event = events.get(id).ok_or(sqlx::Error::RowNotFound)?;
            entries.push((key, event.nid));
        }
        // What all agree about stays as it is.
        entries.retain(|(key, _)| !map.contains_key(key));
        map.extend(entries);
        Ok(map)
    }

    /// Reads what the algorithm will look at, in a fixed number of statements.
    async fn question(&self, room: &Room, conflict: &Conflict) -> sqlx::Result<Question> {
        let levels = self
            .interner()
            .state_key(&StateEventType::RoomPowerLevels.to_string(), "")
            .await?;
        let create = self
            .interner()
            .state_key(&StateEventType::RoomCreate.to_string(), "")
            .await?;
        let always = [levels, create].map(|key| conflict.agreed.get(&key).copied());
        let mut starts: Vec<EventNid> = conflict.events().into_iter().collect();
        starts.extend(always.iter().flatten());
        let graph = self.auth_graph(starts).await?;

        let difference = self.auth_difference(conflict, &graph).await?;
        let v2 = room.rules.state_res.v2_rules();
        let subgraph = match v2.is_some_and(|rules| rules.consider_conflicted_state_subgraph) {
            true => conflict.subgraph(&graph),
            false => HashSet::new(),
        };
        let mut full = conflict.events();
        full.extend(difference.iter().chain(&subgraph));

        let replayed = self.events().map(full.iter().copied()).await?;
        let consulted = self.consulted(room, conflict, replayed.values()).await?;
        let mut needed: HashSet<EventNid> = full.iter().copied().collect();
        needed.extend(consulted.iter().map(|(_, nid)| *nid));
        needed.extend(always.iter().flatten());
        needed.extend(graph.line(levels, needed.clone()));
        let cited: Vec<EventNid> = needed
            .iter()
            .flat_map(|nid| graph.auth(*nid))
            .copied()
            .collect();
        needed.extend(cited);
        let events = self.events().map(needed).await?;
        let ids = |nids: &HashSet<EventNid>| -> EventIdSet<OwnedEventId> {
            let events = nids.iter().filter_map(|nid| events.get(nid));
            events.map(|event| event.pdu.event_id.clone()).collect()
        };
        Ok(Question {
            states: self.named_states(conflict, &consulted, &events).await?,
            difference: ids(&difference),
            subgraph: ids(&subgraph),
            events: events
                .values()
                .map(|event| (event.pdu.event_id.clone(), Arc::clone(event)))
                .collect(),
        })
    }

    /// What is in the auth chain of one state and not in those of all.
    async fn auth_difference(
        &self,
        conflict: &Conflict,
        graph: &AuthGraph,
    ) -> sqlx::Result<HashSet<EventNid>> {
        let mut difference = conflict.difference(graph);
        let in_conflict = conflict.events();
        if difference.iter().all(|nid| in_conflict.contains(nid)) {
            return Ok(difference);
        }
        let agreed: Vec<EventNid> = conflict.agreed.values().copied().collect();
        let common = self.auth_graph(agreed.clone()).await?.chain(agreed);
        difference.retain(|nid| in_conflict.contains(nid) || !common.contains(nid));
        Ok(difference)
    }

    /// The entries that all agree about and that the checks of `events` look at.
    async fn consulted(
        &self,
        room: &Room,
        conflict: &Conflict,
        events: impl Iterator<Item = &Arc<RoomEvent>>,
    ) -> sqlx::Result<Vec<(StateKeyNid, EventNid)>> {
        let rules = &room.rules.authorization;
        let mut wanted: HashSet<(String, String)> = HashSet::new();
        for event in events {
            let pdu = &event.pdu;
            let key = pdu.state_key.as_deref();
            // Malformed events are none that resolution takes.
            let types = auth_types_for_event(&pdu.kind, &pdu.sender, key, &pdu.content, rules);
            let types = types.unwrap_or_default();
            wanted.extend(types.into_iter().map(|(kind, key)| (kind.to_string(), key)));
        }
        let pairs: Vec<(&str, &str)> = wanted.iter().map(|(kind, key)| (&**kind, &**key)).collect();
        let keys = self.interner().find_state_keys(&pairs).await?;
        let held = keys
            .into_iter()
            .flatten()
            .filter_map(|key| Some((key, *conflict.agreed.get(&key)?)));
        Ok(held.collect())
    }

    /// Each state as the algorithm wants it: what it holds in conflict, and what is consulted.
    async fn named_states(
        &self,
        conflict: &Conflict,
        consulted: &[(StateKeyNid, EventNid)],
        events: &HashMap<EventNid, Arc<RoomEvent>>,
    ) -> sqlx::Result<Vec<NamedState<OwnedEventId>>> {
        let mut keys: Vec<StateKeyNid> = conflict.keys.iter().copied().collect();
        keys.extend(consulted.iter().map(|(key, _)| *key));
        let names = self.interner().state_key_names(&keys).await?;
        let named = |(key, nid): &(StateKeyNid, EventNid)| {
            let (kind, state_key) = names.get(key)?.as_ref();
            let event = events.get(nid)?;
            let key = (StateEventType::from(kind.as_str()), state_key.clone());
            Some((key, event.pdu.event_id.clone()))
        };
        let states = conflict.held.iter().map(|held| {
            let entries = held.iter().chain(consulted);
            entries.filter_map(named).collect()
        });
        Ok(states.collect())
    }

    /// Events with everything that authorises them: from memory, else in at most two statements.
    pub(crate) async fn auth_graph(&self, starts: Vec<EventNid>) -> sqlx::Result<AuthGraph> {
        let mut graph = AuthGraph::default();
        let mut unknown = self.walk(&mut graph, starts).await;
        if unknown.is_empty() {
            return Ok(graph);
        }
        let mut conn = self.pool().acquire().await?;
        let rows = event::list_edges(&mut conn, &unknown).await?;
        self.keep_edges(rows);
        unknown = self.walk(&mut graph, unknown).await;
        if !unknown.is_empty() {
            let rows = event::list_chain_edges(&mut conn, &unknown).await?;
            self.keep_edges(rows);
            self.walk(&mut graph, unknown).await;
        }
        Ok(graph)
    }

    /// Goes down from `starts` as far as memory tells; gives the events that it does not know.
    async fn walk(&self, graph: &mut AuthGraph, starts: Vec<EventNid>) -> Vec<EventNid> {
        let mut unknown = Vec::new();
        let mut seen = HashSet::new();
        let mut open = starts;
        while let Some(nid) = open.pop() {
            if graph.0.contains_key(&nid) || !seen.insert(nid) {
                continue;
            }
            match self.edge(nid).await {
                Some(edge) => {
                    open.extend(edge.auth.iter().filter(|nid| !seen.contains(nid)));
                    graph.0.insert(nid, edge);
                }
                None => unknown.push(nid),
            }
        }
        unknown
    }

    async fn edge(&self, nid: EventNid) -> Option<Arc<Edge>> {
        if let Some(edge) = self.0.auth_edges.0.get(&nid) {
            return Some(edge);
        }
        // An event that waits for its commit is in no table yet.
        let event = self.events().cached(nid).await?;
        let edge = Arc::new(Edge {
            state_key: event.state_key,
            auth: event.auth.clone(),
        });
        self.0.auth_edges.0.insert(nid, Arc::clone(&edge));
        Some(edge)
    }

    fn keep_edges(&self, rows: Vec<event::Edges>) {
        for row in rows {
            let edge = Edge {
                state_key: row.state_key,
                auth: row.auth,
            };
            self.0.auth_edges.0.insert(row.nid, Arc::new(edge));
        }
    }
}

fn answer(
    rules: &ruma::room_version_rules::RoomVersionRules,
    question: &Question,
) -> Result<NamedState<OwnedEventId>, state_res::Error> {
    let v2 = rules
        .state_res
        .v2_rules()
        .expect("room versions 1 and 2 are not supported");
    state_res::resolve(
        &rules.authorization,
        v2,
        &question.states,
        // Beside an empty chain, what is in the other one is the difference.
        vec![question.difference.clone(), EventIdSet::new()],
        |id: &EventId| question.events.get(id).cloned(),
        |_| Some(question.subgraph.clone()),
    )
}
