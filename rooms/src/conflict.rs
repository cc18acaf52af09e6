//! What states disagree about, and which of it is to be resolved.
//!
//! Room version 2 of the specification, "State resolution"; room version 12 for the conflicted state subgraph. All in
//! numbers: a state of thousands of entries is never turned into strings.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, StateKeyNid};

use crate::snapshot::{StateMap, changes};

/// What authorises an event.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    /// Present on state events.
    pub(crate) state_key: Option<StateKeyNid>,
    /// Its auth events.
    pub(crate) auth: Vec<EventNid>,
}

/// Events with everything that authorises them.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuthGraph(pub(crate) HashMap<EventNid, Arc<Edge>>);

impl AuthGraph {
    /// The auth events of an event.
    pub(crate) fn auth(&self, event: EventNid) -> &[EventNid] {
        self.0.get(&event).map_or(&[], |edge| &edge.auth)
    }

    /// Events and their auth chains.
    pub(crate) fn chain(&self, events: impl IntoIterator<Item = EventNid>) -> HashSet<EventNid> {
        let mut found = HashSet::new();
        let mut open: Vec<EventNid> = events.into_iter().collect();
        while let Some(event) = open.pop() {
            if found.insert(event) {
                open.extend(self.auth(event).iter().filter(|nid| !found.contains(nid)));
            }
        }
        found
    }

    /// The events that hold `key` among the auth events of `events`, those among the auth events of these, and so on.
    pub(crate) fn line(
        &self,
        key: StateKeyNid,
        events: impl IntoIterator<Item = EventNid>,
    ) -> HashSet<EventNid> {
        let holds = |nid: &EventNid| {
            let edge = self.0.get(nid);
            edge.is_some_and(|edge| edge.state_key == Some(key))
        };
        let mut found = HashSet::new();
        let mut open: Vec<EventNid> = events.into_iter().collect();
        while let Some(event) = open.pop() {
            for auth in self.auth(event).iter().filter(|nid| holds(nid)) {
                if found.insert(*auth) {
                    open.push(*auth);
                }
            }
        }
        found
    }
}

/// What states disagree about.
#[derive(Debug)]
pub(crate) struct Conflict {
    /// The keys that do not hold the same event in every state.
    pub(crate) keys: BTreeSet<StateKeyNid>,
    /// What each state holds under these keys.
    pub(crate) held: Vec<Vec<(StateKeyNid, EventNid)>>,
    /// What all states agree about.
    pub(crate) agreed: StateMap,
}

impl Conflict {
    /// Compares states.
    pub(crate) fn between(maps: &[StateMap]) -> Self {
        let Some((first, others)) = maps.split_first() else {
            return Self {
                keys: BTreeSet::new(),
                held: Vec::new(),
                agreed: StateMap::new(),
            };
        };
        let keys: BTreeSet<StateKeyNid> = others
            .iter()
            .flat_map(|other| changes(first, other).map(|(key, _)| key))
            .collect();
        let held = maps
            .iter()
            .map(|map| {
                let entries = keys.iter().filter_map(|key| Some((*key, *map.get(key)?)));
                entries.collect()
            })
            .collect();
        let mut agreed = first.clone();
        for key in &keys {
            agreed.remove(key);
        }
        Self { keys, held, agreed }
    }

    /// The conflicted state set.
    pub(crate) fn events(&self) -> HashSet<EventNid> {
        self.held.iter().flatten().map(|(_, nid)| *nid).collect()
    }

    /// What is in the auth chain of one state and not in those of all, as far as the events in conflict tell.
    ///
    /// Who is in the chain of what all agree about is in all chains, and does not belong to the difference: the caller
    /// takes that away, since it seldom has to be asked.
    pub(crate) fn difference(&self, graph: &AuthGraph) -> HashSet<EventNid> {
        let chains: Vec<HashSet<EventNid>> = self
            .held
            .iter()
            .map(|held| graph.chain(held.iter().map(|(_, nid)| *nid)))
            .collect();
        let all: HashSet<EventNid> = chains.iter().flatten().copied().collect();
        all.into_iter()
            .filter(|nid| !chains.iter().all(|chain| chain.contains(nid)))
            .collect()
    }

    /// The events on the paths from an event in conflict to another one, the ends included.
    pub(crate) fn subgraph(&self, graph: &AuthGraph) -> HashSet<EventNid> {
        let ends = self.events();
        let below = graph.chain(ends.iter().copied());
        let mut cited_by: HashMap<EventNid, Vec<EventNid>> = HashMap::new();
        for nid in &below {
            for auth in graph.auth(*nid) {
                cited_by.entry(*auth).or_default().push(*nid);
            }
        }
        let mut found = HashSet::new();
        let mut open: Vec<EventNid> = ends.into_iter().collect();
        while let Some(nid) = open.pop() {
            if found.insert(nid) {
                open.extend(cited_by.get(&nid).into_iter().flatten());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(i64, &[i64])]) -> AuthGraph {
        let edge = |auth: &[i64]| {
            Arc::new(Edge {
                state_key: None,
                auth: auth.iter().map(|nid| EventNid(*nid)).collect(),
            })
        };
        AuthGraph(
            edges
                .iter()
                .map(|(nid, auth)| (EventNid(*nid), edge(auth)))
                .collect(),
        )
    }

    fn state(entries: &[(i64, i64)]) -> StateMap {
        entries
            .iter()
            .map(|(key, nid)| (StateKeyNid(*key), EventNid(*nid)))
            .collect()
    }

    fn nids(nids: &[i64]) -> HashSet<EventNid> {
        nids.iter().map(|nid| EventNid(*nid)).collect()
    }

    #[test]
    fn what_one_state_lacks_is_in_conflict_too() {
        let conflict = Conflict::between(&[state(&[(1, 10), (2, 20)]), state(&[(1, 10)])]);

        assert_eq!(conflict.keys, BTreeSet::from([StateKeyNid(2)]));
        assert_eq!(conflict.events(), nids(&[20]));
        assert_eq!(conflict.agreed, state(&[(1, 10)]));
    }

    #[test]
    fn the_difference_is_what_not_all_chains_hold() {
        let graph = graph(&[(1, &[]), (2, &[1]), (3, &[1]), (20, &[2]), (21, &[3])]);
        let conflict = Conflict::between(&[state(&[(1, 20)]), state(&[(1, 21)])]);

        assert_eq!(conflict.difference(&graph), nids(&[2, 3, 20, 21]));
    }

    #[test]
    fn the_subgraph_holds_the_paths_between_events_in_conflict() {
        let graph = graph(&[
            (1, &[]),
            (10, &[1]),
            (2, &[10]),
            (20, &[2]),
            (3, &[1]),
            (30, &[3]),
        ]);
        let conflict = Conflict::between(&[state(&[(1, 10), (2, 30)]), state(&[(1, 20)])]);

        assert_eq!(conflict.subgraph(&graph), nids(&[10, 2, 20, 30]));
    }

    #[test]
    fn a_line_follows_one_key() {
        let mut graph = graph(&[(1, &[]), (2, &[1]), (3, &[2]), (4, &[3, 1])]);
        for nid in [2, 3] {
            let auth = graph.auth(EventNid(nid)).to_vec();
            let state_key = Some(StateKeyNid(7));
            graph
                .0
                .insert(EventNid(nid), Arc::new(Edge { state_key, auth }));
        }

        assert_eq!(graph.line(StateKeyNid(7), [EventNid(4)]), nids(&[2, 3]));
    }
}
