//! What happened in rooms between two places of the log, for one user.
//!
//! The faces (`/sync` and those to come) differ in which rooms they ask for and from where; all of them ask here.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, Position, StateKeyNid};
use hearth_rooms::{Room, RoomEvent};
use hearth_store::intern::StateKey;
use ruma::{api::client::filter::LazyLoadOptions, events::StateEventType};

use crate::{
    filter,
    service::Sync,
    state::{self, EventMap, MemberChange, States},
    summary::{self, Summary},
    timeline::{self, Sight, Span, Timeline},
    view::{FullState, StateMode, View},
};

/// A room whose differences are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub room: Arc<Room>,
    /// What the client has of the room; `None`: nothing.
    pub from: Option<Position>,
    pub until: Position,
    pub sight: Sight,
    /// For [`Sight::Own`].
    pub own: Option<Arc<RoomEvent>>,
    /// Whether the state may have changed.
    pub state_moved: bool,
    /// Whether the user is joined at `until`.
    pub joined: bool,
}

/// What happened in a room.
#[derive(Clone, Debug)]
pub(crate) struct RoomChanges {
    /// The room.
    pub room: Arc<Room>,
    /// What the client had of the room; `None`: nothing.
    pub from: Option<Position>,
    /// The newest events.
    pub timeline: Timeline,
    /// The state that goes with them.
    pub state: Vec<Arc<RoomEvent>>,
    /// Counts and heroes, when they may have changed.
    pub summary: Option<Summary>,
    /// Members that changed.
    pub(crate) members: Vec<MemberChange>,
}

/// One room under way.
struct Work<'a> {
    wanted: &'a Wanted,
    timeline: Timeline,
    states: States,
    selected: BTreeMap<StateKeyNid, EventNid>,
    members: Vec<MemberChange>,
    summary: Option<Summary>,
    /// Whether the summary may have changed.
    summarise: bool,
}

/// The differences of many rooms, in the order given, with a fixed number of statements.
pub(crate) async fn rooms(
    sync: &Sync,
    view: &View<'_>,
    wanted: &[Wanted],
) -> sqlx::Result<Vec<RoomChanges>> {
    let mut works = read(sync, view, wanted).await?;
    let names = names(sync, view, &works).await?;
    for work in &mut works {
        let fresh = work.wanted.from.is_none() || view.full_state == FullState::All;
        let (members, named) = if work.wanted.from.is_none() {
            (Vec::new(), false)
        } else {
            state::members_changed(&work.states, &names)
        };
        work.summarise = work.wanted.joined && (fresh || named || !members.is_empty());
        work.members = members;
    }
    summarise(sync, view, &mut works).await?;
    lazily(sync, view, &mut works, &names).await?;
    finish(sync, view, works, &names).await
}

async fn read<'a>(
    sync: &Sync,
    view: &View<'_>,
    wanted: &'a [Wanted],
) -> sqlx::Result<Vec<Work<'a>>> {
    let spans: Vec<Span> = wanted
        .iter()
        .map(|wanted| Span {
            room: Arc::clone(&wanted.room),
            from: wanted.from,
            until: wanted.until,
            sight: wanted.sight,
            own: wanted.own.clone(),
        })
        .collect();
    let mut timelines = timeline::read(sync, view, &spans).await?;
    for (timeline, wanted) in timelines.iter_mut().zip(wanted) {
        // What the client may have of a room from before it left does not lead up to these events.
        timeline.limited |= wanted.joined && wanted.from.is_none() && view.since.is_some();
    }
    let lazy = view.filter.is_lazy();
    let asked: Vec<state::Asked<'_>> = wanted
        .iter()
        .zip(&timelines)
        .map(|(wanted, timeline)| state::Asked {
            room: wanted.room.nid,
            timeline,
            from: wanted.from,
            until: wanted.until,
            sight: wanted.sight,
            moved: wanted.state_moved || wanted.from.is_none() || view.full_state == FullState::All,
            wants_members: lazy,
        })
        .collect();
    let states = state::read(sync, &asked).await?;
    let selected: Vec<_> = asked
        .iter()
        .zip(&states)
        .map(|(asked, states)| state::select(view, asked, states))
        .collect();
    drop(asked);
    let parts = wanted.iter().zip(timelines).zip(states).zip(selected);
    Ok(parts
        .map(|(((wanted, timeline), states), selected)| Work {
            wanted,
            timeline,
            states,
            selected,
            members: Vec::new(),
            summary: None,
            summarise: false,
        })
        .collect())
}

type Names = HashMap<StateKeyNid, Arc<StateKey>>;

/// The names of all keys that were selected or that changed.
async fn names(sync: &Sync, view: &View<'_>, works: &[Work<'_>]) -> sqlx::Result<Names> {
    let mut keys = HashSet::new();
    for work in works {
        keys.extend(work.selected.keys().copied());
        if work.wanted.from.is_some() && view.state == StateMode::BeforeTimeline {
            let (from, end) = (work.states.from.as_deref(), work.states.end.as_deref());
            keys.extend(state::changes(from, end).into_iter().map(|(key, _)| key));
        }
    }
    let keys: Vec<StateKeyNid> = keys.into_iter().collect();
    sync.rooms().interner().state_key_names(&keys).await
}

async fn summarise(sync: &Sync, view: &View<'_>, works: &mut [Work<'_>]) -> sqlx::Result<()> {
    let rooms: Vec<_> = works
        .iter()
        .filter(|work| work.summarise)
        .map(|work| (work.wanted.room.nid, work.states.end.clone()))
        .collect();
    let mut summaries = summary::read(sync, view.receiver.user, &rooms).await?;
    for work in works.iter_mut().filter(|work| work.summarise) {
        work.summary = summaries.remove(&work.wanted.room.nid);
    }
    Ok(())
}

/// Takes the members out that nobody needs, and puts those in that the timeline needs.
async fn lazily(
    sync: &Sync,
    view: &View<'_>,
    works: &mut [Work<'_>],
    names: &Names,
) -> sqlx::Result<()> {
    let LazyLoadOptions::Enabled {
        include_redundant_members,
    } = view.filter.state.lazy_load
    else {
        return Ok(());
    };
    let member = StateEventType::RoomMember.to_string();
    let device_id = view.receiver.device_id.as_deref().unwrap_or_default();
    for work in works {
        let fresh = work.wanted.from.is_none() || view.full_state == FullState::All;
        let keys = needed_members(sync, view, work, fresh).await?;
        if fresh {
            work.selected.retain(|key, _| {
                keys.contains(key) || names.get(key).is_none_or(|name| name.0 != member)
            });
        }
        let room = work.wanted.room.nid;
        let since = work.wanted.from.filter(|_| !fresh);
        let sent = sync
            .sent_members()
            .of(view.receiver.user, device_id, room, since);
        let base = match view.state {
            StateMode::BeforeTimeline => work.states.start.as_ref(),
            StateMode::AfterTimeline => work.states.end.as_ref().or(work.states.start.as_ref()),
        };
        let in_timeline: HashSet<EventNid> = match view.state {
            StateMode::BeforeTimeline => work.timeline.events.iter().map(|e| e.nid).collect(),
            StateMode::AfterTimeline => HashSet::new(),
        };
        if let Some(base) = base {
            for key in &keys {
                let Some(nid) = base.get(*key) else { continue };
                let redundant = !include_redundant_members && sent.has(*key, nid);
                if !redundant && !in_timeline.contains(&nid) {
                    work.selected.entry(*key).or_insert(nid);
                }
            }
        }
        let noted = keys
            .iter()
            .filter_map(|key| Some((*key, *work.selected.get(key)?)));
        sent.note(noted, view.to);
    }
    Ok(())
}

/// Who sent the timeline, who stands for the room, and, when the room is new to the client, the user himself.
async fn needed_members(
    sync: &Sync,
    view: &View<'_>,
    work: &Work<'_>,
    fresh: bool,
) -> sqlx::Result<HashSet<StateKeyNid>> {
    let mut users: HashSet<&str> = work
        .timeline
        .events
        .iter()
        .map(|event| event.pdu.sender.as_str())
        .collect();
    if fresh {
        users.insert(view.receiver.user_id.as_str());
    }
    let heroes = work
        .summary
        .iter()
        .filter_map(|summary| summary.heroes.as_ref());
    users.extend(heroes.flatten().map(|hero| hero.as_str()));
    let member = StateEventType::RoomMember.to_string();
    let keys: Vec<(&str, &str)> = users.iter().map(|user| (member.as_str(), *user)).collect();
    let found = sync.rooms().interner().find_state_keys(&keys).await?;
    Ok(found.into_iter().flatten().collect())
}

/// Reads the selected events of all rooms at once and filters them.
async fn finish(
    sync: &Sync,
    view: &View<'_>,
    works: Vec<Work<'_>>,
    names: &Names,
) -> sqlx::Result<Vec<RoomChanges>> {
    let filter = &view.filter.state;
    let type_passes = |key: &StateKeyNid| {
        names
            .get(key)
            .is_none_or(|name| filter.matches_type(&name.0))
    };
    let mut nids = Vec::new();
    for work in &works {
        if filter.matches_room(&work.wanted.room.id) {
            let passing = work.selected.iter().filter(|(key, _)| type_passes(key));
            nids.extend(passing.map(|(_, nid)| *nid));
        }
    }
    let events: EventMap = sync.rooms().events().map(nids).await?;
    let changes = works.into_iter().map(|work| {
        let mut state: Vec<Arc<RoomEvent>> = work
            .selected
            .iter()
            .filter(|_| filter.matches_room(&work.wanted.room.id))
            .filter_map(|(key, nid)| Some((key, events.get(nid)?)))
            .filter(|(key, event)| filter.matches(event) && type_passes(key))
            .map(|(_, event)| Arc::clone(event))
            .collect();
        state.sort_by_key(|event| (event.pdu.depth, event.nid));
        filter::cut(filter, &mut state);
        RoomChanges {
            room: Arc::clone(&work.wanted.room),
            from: work.wanted.from,
            timeline: work.timeline,
            state,
            summary: work.summary,
            members: work.members,
        }
    });
    Ok(changes.collect())
}

impl RoomChanges {
    /// A room in which nothing happened.
    pub(crate) fn nothing(room: Arc<Room>, view: &View<'_>) -> Self {
        Self {
            room,
            from: view.since,
            timeline: Timeline::default(),
            state: Vec::new(),
            summary: None,
            members: Vec::new(),
        }
    }

    /// Whether the client has to hear of the room.
    pub(crate) fn is_worth_telling(&self, view: &View<'_>) -> bool {
        self.from.is_none()
            || view.full_state == FullState::All
            || !self.timeline.events.is_empty()
            || self.timeline.limited
            || !self.state.is_empty()
            || self.summary.is_some()
    }

    /// Whether some event refers to one of the timeline. When the client gets everything since its token, then only
    /// events that it gets as well can.
    pub(crate) fn may_be_referred_to(&self) -> bool {
        let refers = |event: &Arc<RoomEvent>| event.pdu.content.get().contains("m.relates_to");
        let timeline = &self.timeline;
        let whole = self.from.is_some() && !timeline.limited && !timeline.filtered;
        !timeline.events.is_empty() && (!whole || timeline.events.iter().any(refers))
    }
}
