//! Which rooms a `/sync` is about, and what of each.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, Position, RoomNid, StateKeyNid};
use hearth_rooms::{Room, RoomEvent};
use hearth_store::membership;
use ruma::events::{StateEventType, room::member::MembershipState};

use crate::{
    active::{Member, Members},
    difference::Wanted,
    filter::Leave,
    service::Sync,
    state,
    timeline::Sight,
    view::{FullState, View},
};

/// The rooms of a response.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Rooms that the user is in and that may have moved.
    pub joined: Vec<Wanted>,
    /// Rooms that he left.
    pub left: Vec<Wanted>,
    pub invited: Vec<RoomNid>,
    pub knocked: Vec<RoomNid>,
    /// All rooms that he is in.
    pub all_joined: HashSet<RoomNid>,
}

/// Sorts the user's rooms.
pub(crate) async fn make(sync: &Sync, view: &View<'_>, members: &Members) -> sqlx::Result<Plan> {
    let mut plan = Plan::default();
    let since = view.since.unwrap_or_default();
    let takes_invites = !view.settings.blocks_invites;
    let mut left = Vec::new();
    for (nid, member) in members.rooms.iter() {
        let fresh = view.since.is_none() || member.position > since;
        let membership = &member.membership;
        if *membership == MembershipState::Join {
            plan.all_joined.insert(*nid);
        } else if *membership == MembershipState::Invite && fresh && takes_invites {
            plan.invited.push(*nid);
        } else if *membership == MembershipState::Knock && fresh {
            plan.knocked.push(*nid);
        } else if is_recently_left(view, member) {
            left.push(*nid);
        }
    }
    let changed: Vec<RoomNid> = plan
        .all_joined
        .iter()
        .chain(&left)
        .filter(|room| members.rooms[*room].position > since)
        .copied()
        .collect();
    let before = memberships_at(sync, view, &changed).await?;
    plan.joined = joined_rooms(sync, view, members, &plan.all_joined, &before).await?;
    plan.left = left_rooms(sync, view, members, &left, &before).await?;
    Ok(plan)
}

/// The rooms that the user left. `before`: in which of them he was joined at the token.
async fn left_rooms(
    sync: &Sync,
    view: &View<'_>,
    members: &Members,
    left: &[RoomNid],
    before: &HashSet<RoomNid>,
) -> sqlx::Result<Vec<Wanted>> {
    // Another device of the user has to learn of the leave, though he forgot the room at once.
    let is_told = |nid: &RoomNid| !members.rooms[nid].forgotten || before.contains(nid);
    let left: Vec<RoomNid> = left.iter().copied().filter(is_told).collect();
    let mut rooms = sync.rooms().find_by_nids(&left).await?;
    rooms.retain(|_, room| view.filter.rooms.matches_room(&room.id));
    let leaves = Leaves::read(sync, view, members, &rooms).await?;
    let wanted = rooms.into_iter().map(|(nid, room)| Wanted {
        room,
        from: view.since.filter(|_| before.contains(&nid)),
        until: members.rooms[&nid].position,
        // He sees the room up to the leave if he was in it, and else only the leave.
        sight: match leaves.ends.contains(&nid) {
            true => Sight::Checked(Position(i64::MAX)),
            false => Sight::Own,
        },
        own: leaves.events.get(&nid).cloned(),
        state_moved: true,
        joined: false,
    });
    Ok(wanted.collect())
}

/// The rooms that the user is in and that may have moved. `before`: in which of those whose membership changed he was
/// joined at the token.
async fn joined_rooms(
    sync: &Sync,
    view: &View<'_>,
    members: &Members,
    joined: &HashSet<RoomNid>,
    before: &HashSet<RoomNid>,
) -> sqlx::Result<Vec<Wanted>> {
    let since = view.since.unwrap_or_default();
    let moved = sync
        .hub()
        .moved_all(joined.iter().map(|room| (*room, since)));
    let mut wanted = Vec::new();
    for (nid, moved) in moved {
        let member = &members.rooms[&nid];
        let was_in = member.position <= since || before.contains(&nid);
        let from = view.since.filter(|_| was_in);
        if from.is_none() || view.full_state == FullState::All || moved.timeline {
            wanted.push((nid, from, member.position, moved.state));
        }
    }
    let nids: Vec<RoomNid> = wanted.iter().map(|(nid, ..)| *nid).collect();
    let rooms = sync.rooms().find_by_nids(&nids).await?;
    let wanted = wanted
        .into_iter()
        .filter_map(|(nid, from, joined, state_moved)| {
            let room = rooms.get(&nid)?;
            let wanted = Wanted {
                room: Arc::clone(room),
                from,
                until: view.to,
                sight: match view.since {
                    Some(since) if joined <= since => Sight::All,
                    _ => Sight::Checked(joined),
                },
                own: None,
                state_moved,
                joined: true,
            };
            view.filter.rooms.matches_room(&room.id).then_some(wanted)
        });
    Ok(wanted.collect())
}

fn is_recently_left(view: &View<'_>, member: &Member) -> bool {
    [MembershipState::Leave, MembershipState::Ban].contains(&member.membership)
        && match view.since {
            Some(since) => member.position > since,
            None => view.filter.leave == Leave::All && !member.forgotten,
        }
}

/// How the user came out of rooms.
struct Leaves {
    /// His member events.
    events: HashMap<RoomNid, Arc<RoomEvent>>,
    /// The rooms that he was joined to before.
    ends: HashSet<RoomNid>,
}

impl Leaves {
    async fn read(
        sync: &Sync,
        view: &View<'_>,
        members: &Members,
        rooms: &HashMap<RoomNid, Arc<Room>>,
    ) -> sqlx::Result<Self> {
        let stored = rooms.keys().filter_map(|nid| members.rooms[nid].event);
        let stored = sync
            .rooms()
            .events()
            .map(stored.collect::<Vec<_>>())
            .await?;
        let mut events: HashMap<RoomNid, Arc<RoomEvent>> = stored
            .into_values()
            .map(|event| (event.room, event))
            .collect();
        let ends = ends(sync, view, &events).await?;
        events.extend(told(sync, view, members, rooms).await?);
        Ok(Self { events, ends })
    }
}

/// The rooms in which these member events of the user ended his being joined.
async fn ends(
    sync: &Sync,
    view: &View<'_>,
    events: &HashMap<RoomNid, Arc<RoomEvent>>,
) -> sqlx::Result<HashSet<RoomNid>> {
    let Some(key) = own_key(sync, view).await?.filter(|_| !events.is_empty()) else {
        return Ok(HashSet::new());
    };
    let before: Vec<_> = events.values().filter_map(|event| event.snapshot).collect();
    let before = sync.rooms().snapshots_of(before).await?;
    let replaced = events.values().filter_map(|event| {
        let before = before.get(&event.snapshot?)?;
        Some((event.room, before.get(key)?))
    });
    let replaced: Vec<(RoomNid, EventNid)> = replaced.collect();
    let nids: Vec<EventNid> = replaced.iter().map(|(_, before)| *before).collect();
    let read = sync.rooms().events().map(nids).await?;
    let ends = replaced.into_iter().filter(|(_, before)| {
        let before = read.get(before);
        before.is_some_and(|event| hearth_rooms::membership_of(event) == MembershipState::Join)
    });
    Ok(ends.map(|(room, _)| room).collect())
}

/// The member events with which invites and knocks ended in rooms that this server is not in.
async fn told(
    sync: &Sync,
    view: &View<'_>,
    members: &Members,
    rooms: &HashMap<RoomNid, Arc<Room>>,
) -> sqlx::Result<Vec<(RoomNid, Arc<RoomEvent>)>> {
    let outside = rooms.keys().copied();
    let outside: Vec<RoomNid> = outside
        .filter(|nid| members.rooms[nid].event.is_none())
        .collect();
    if outside.is_empty() {
        return Ok(Vec::new());
    }
    let mut conn = sync.pool().acquire().await?;
    let rows = membership::list_of_user_in(&mut conn, view.receiver.user, &outside).await?;
    drop(conn);
    let told = rows.iter().filter_map(|row| {
        let event = sync.rooms().gone_event(rooms.get(&row.room)?, row)?;
        Some((row.room, Arc::new(event)))
    });
    Ok(told.collect())
}

/// The number of the user's key in the state of rooms, if anybody ever used it.
async fn own_key(sync: &Sync, view: &View<'_>) -> sqlx::Result<Option<StateKeyNid>> {
    let kind = StateEventType::RoomMember.to_string();
    let user = view.receiver.user_id.as_str();
    sync.rooms().interner().find_state_key(&kind, user).await
}

/// In which of these rooms the user was joined at the token.
async fn memberships_at(
    sync: &Sync,
    view: &View<'_>,
    rooms: &[RoomNid],
) -> sqlx::Result<HashSet<RoomNid>> {
    let mut joined = HashSet::new();
    let Some(since) = view.since.filter(|_| !rooms.is_empty()) else {
        return Ok(joined);
    };
    let Some(key) = own_key(sync, view).await? else {
        return Ok(joined);
    };
    let places: Vec<_> = rooms.iter().map(|room| (*room, since)).collect();
    let snapshots = state::snapshots_at(sync, &places).await?;
    let mut events = Vec::new();
    for room in rooms {
        if let Some(snapshot) = snapshots.get(&(*room, since))
            && let Some(event) = snapshot.get(key)
        {
            events.push((*room, event));
        }
    }
    let nids: Vec<EventNid> = events.iter().map(|(_, event)| *event).collect();
    let read = sync.rooms().events().map(nids).await?;
    for (room, nid) in events {
        let event = read.get(&nid);
        if event.is_some_and(|event| hearth_rooms::membership_of(event) == MembershipState::Join) {
            joined.insert(room);
        }
    }
    Ok(joined)
}
