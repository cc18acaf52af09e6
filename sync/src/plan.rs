//! Which rooms a `/sync` is about, and what of each.

use std::{collections::HashSet, sync::Arc};

use hearth_core::{EventNid, Position, RoomNid, StateKeyNid};
use hearth_rooms::Room;
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
    let mut left = Vec::new();
    for (nid, member) in members.rooms.iter() {
        let fresh = view.since.is_none() || member.position > since;
        let membership = &member.membership;
        if *membership == MembershipState::Join {
            plan.all_joined.insert(*nid);
        } else if *membership == MembershipState::Invite && fresh {
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
    let rooms = sync.rooms().find_by_nids(&left).await?;
    let leaves = left.iter().filter_map(|nid| members.rooms[nid].event);
    let ends = ends(sync, view, leaves.collect()).await?;
    for nid in left {
        // Another device of the user has to learn of the leave, though he forgot the room at once.
        if members.rooms[&nid].forgotten && !before.contains(&nid) {
            continue;
        }
        let room = rooms.get(&nid);
        if let Some(room) = room.filter(|room| view.filter.rooms.matches_room(&room.id)) {
            let from = view.since.filter(|_| before.contains(&nid));
            let member = &members.rooms[&nid];
            plan.left
                .push(left_room(Arc::clone(room), member, from, &ends));
        }
    }
    Ok(plan)
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

/// A room that the user left: he sees it up to the leave if he was in it, and else only the leave.
fn left_room(
    room: Arc<Room>,
    member: &Member,
    from: Option<Position>,
    ends: &HashSet<EventNid>,
) -> Wanted {
    let was_in = member.event.is_some_and(|event| ends.contains(&event));
    let sight = match was_in {
        true => Sight::Checked(Position(i64::MAX)),
        false => Sight::Only(member.event),
    };
    Wanted {
        room,
        from,
        until: member.position,
        sight,
        state_moved: true,
        joined: false,
    }
}

/// Those of the user's member events that ended his being joined.
async fn ends(
    sync: &Sync,
    view: &View<'_>,
    events: Vec<EventNid>,
) -> sqlx::Result<HashSet<EventNid>> {
    let Some(key) = own_key(sync, view).await?.filter(|_| !events.is_empty()) else {
        return Ok(HashSet::new());
    };
    let events = sync.rooms().events().map(events).await?;
    let before: Vec<_> = events.values().filter_map(|event| event.snapshot).collect();
    let before = sync.rooms().snapshots_of(before).await?;
    let replaced = events.values().filter_map(|event| {
        let before = before.get(&event.snapshot?)?;
        Some((event.nid, before.get(key)?))
    });
    let replaced: Vec<(EventNid, EventNid)> = replaced.collect();
    let nids: Vec<EventNid> = replaced.iter().map(|(_, before)| *before).collect();
    let read = sync.rooms().events().map(nids).await?;
    let ends = replaced.into_iter().filter(|(_, before)| {
        let before = read.get(before);
        before.is_some_and(|event| hearth_rooms::membership_of(event) == MembershipState::Join)
    });
    Ok(ends.map(|(event, _)| event).collect())
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
