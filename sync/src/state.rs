//! How the states of many rooms changed, and which of it goes with their timelines.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, Position, RoomNid, SnapshotNid, StateKeyNid};
use hearth_rooms::{RoomEvent, Snapshot};
use hearth_store::{current_state, intern::StateKey};
use ruma::events::StateEventType;

use crate::{
    service::Sync,
    timeline::{Sight, Timeline},
    view::{FullState, StateMode, View},
};

/// A room whose state may have to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    pub room: RoomNid,
    pub timeline: &'a Timeline,
    /// What the client has; `None`: nothing.
    pub from: Option<Position>,
    pub until: Position,
    pub sight: Sight,
    /// Whether the state may have changed between `from` and `until`.
    pub moved: bool,
    /// Whether the members who sent the timeline have to be looked up.
    pub wants_members: bool,
}

/// The states of a room that matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct States {
    /// What the client has.
    pub from: Option<Arc<Snapshot>>,
    /// At the start of the timeline.
    pub start: Option<Arc<Snapshot>>,
    /// At its end.
    pub end: Option<Arc<Snapshot>>,
}

/// A change of a member between what the client has and the end of the timeline.
#[derive(Clone, Debug)]
pub(crate) struct MemberChange {
    pub user: Arc<StateKey>,
    pub before: Option<EventNid>,
    pub after: Option<EventNid>,
}

/// Reads the states at the places that matter of each room: one statement for all.
pub(crate) async fn read(sync: &Sync, asked: &[Asked<'_>]) -> sqlx::Result<Vec<States>> {
    let mut places = Vec::new();
    for asked in asked.iter().filter(|asked| asked.is_read()) {
        places.extend(asked.from.map(|from| (asked.room, from)));
        places.extend([(asked.room, start_of(asked)), (asked.room, asked.until)]);
    }
    let found = snapshots_at(sync, &places).await?;
    let first = |asked: &Asked<'_>| {
        let first = asked.timeline.events.first();
        first.and_then(|event| event.snapshot)
    };
    let firsts = asked
        .iter()
        .filter(|asked| asked.is_read() || asked.wants_members);
    let firsts: Vec<SnapshotNid> = firsts.filter_map(first).collect();
    let firsts = sync.rooms().snapshots_of(firsts).await?;
    let states = asked.iter().map(|asked| {
        let at = |position| found.get(&(asked.room, position)).cloned();
        let first = first(asked).and_then(|nid| firsts.get(&nid).cloned());
        if !asked.is_read() {
            return States {
                start: first,
                ..States::default()
            };
        }
        States {
            from: asked.from.and_then(at),
            start: at(start_of(asked)).or(first),
            end: at(asked.until),
        }
    });
    Ok(states.collect())
}

impl Asked<'_> {
    fn is_read(&self) -> bool {
        self.moved && !matches!(self.sight, Sight::Own)
    }
}

/// The position of the state that the timeline starts from.
fn start_of(asked: &Asked<'_>) -> Position {
    let first = asked.timeline.events.first();
    let start = first.and_then(|event| event.stream_order());
    let start = start.map_or(asked.until, |order| Position(order - 1));
    asked.from.map_or(start, |from| start.max(from))
}

/// The states that were current at these places; none where nothing is known any more.
pub(crate) async fn snapshots_at(
    sync: &Sync,
    places: &[(RoomNid, Position)],
) -> sqlx::Result<HashMap<(RoomNid, Position), Arc<Snapshot>>> {
    let mut found: HashMap<(RoomNid, Position), Option<SnapshotNid>> = HashMap::new();
    let mut missing = HashSet::new();
    for place in places {
        match sync.states().get(place) {
            Some(nid) => {
                found.insert(*place, nid);
            }
            None => {
                missing.insert(*place);
            }
        }
    }
    if !missing.is_empty() {
        let (rooms, positions): (Vec<RoomNid>, Vec<Position>) = missing.iter().copied().unzip();
        let mut conn = sync.pool().acquire().await?;
        let rows = current_state::list_at(&mut conn, &rooms, &positions).await?;
        drop(conn);
        let rows: HashMap<_, _> = rows
            .into_iter()
            .map(|row| ((row.room, row.position), row.snapshot))
            .collect();
        for place in missing {
            let nid = rows.get(&place).copied();
            sync.states().insert(place, nid);
            found.insert(place, nid);
        }
    }
    let snapshots = sync.rooms().snapshots_of(found.values().flatten().copied());
    let snapshots = snapshots.await?;
    let places = found.into_iter();
    Ok(places
        .filter_map(|(place, nid)| Some((place, Arc::clone(snapshots.get(&nid?)?))))
        .collect())
}

/// Everything that differs between two states; nothing counts as an empty one.
pub(crate) fn changes(
    from: Option<&Snapshot>,
    to: Option<&Snapshot>,
) -> Vec<(StateKeyNid, Option<EventNid>)> {
    match (from, to) {
        (Some(from), Some(to)) if from.nid == to.nid => Vec::new(),
        (Some(from), Some(to)) => from.changes_to(to).collect(),
        (None, Some(to)) => to.map.iter().map(|(key, nid)| (*key, Some(*nid))).collect(),
        (_, None) => Vec::new(),
    }
}

/// The state events that go with a timeline, before members are loaded lazily.
pub(crate) fn select(
    view: &View<'_>,
    asked: &Asked<'_>,
    states: &States,
) -> BTreeMap<StateKeyNid, EventNid> {
    if !asked.moved || matches!(asked.sight, Sight::Own) {
        return BTreeMap::new();
    }
    let from = match view.full_state {
        FullState::All => None,
        FullState::Changed => states.from.as_deref(),
    };
    let (start, end) = (states.start.as_deref(), states.end.as_deref());
    let held = |changes: Vec<(StateKeyNid, Option<EventNid>)>| {
        changes
            .into_iter()
            .filter_map(|(key, nid)| Some((key, nid?)))
    };
    if view.state == StateMode::AfterTimeline {
        return held(changes(from, end)).collect();
    }
    let mut selected: BTreeMap<StateKeyNid, EventNid> = held(changes(from, start)).collect();
    let sent: HashSet<EventNid> = asked.timeline.events.iter().map(|e| e.nid).collect();
    // What changed after the start and is not in the timeline: filtered out, or the outcome of a resolution.
    let unseen = held(changes(start, end)).filter(|(_, nid)| !sent.contains(nid));
    selected.extend(unseen);
    selected
}

/// Which members differ between what the client has and the end, and whether the room's name may.
pub(crate) fn members_changed(
    states: &States,
    names: &HashMap<StateKeyNid, Arc<StateKey>>,
) -> (Vec<MemberChange>, bool) {
    let member = StateEventType::RoomMember.to_string();
    let naming = [
        StateEventType::RoomName.to_string(),
        StateEventType::RoomCanonicalAlias.to_string(),
    ];
    let mut members = Vec::new();
    let mut named = false;
    for (key, after) in changes(states.from.as_deref(), states.end.as_deref()) {
        let Some(name) = names.get(&key) else {
            continue;
        };
        if name.0 == member {
            members.push(MemberChange {
                user: Arc::clone(name),
                before: states.from.as_ref().and_then(|from| from.get(key)),
                after,
            });
        }
        named |= naming.contains(&name.0);
    }
    (members, named)
}

/// Events by their numbers.
pub(crate) type EventMap = HashMap<EventNid, Arc<RoomEvent>>;
