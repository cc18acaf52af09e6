//! Which rooms a `/sync` is about, and what of each.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, Position, RoomNid};
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
    /// All rooms that he is in and wants to hear of.
    pub all_joined: HashMap<RoomNid, Arc<Room>>,
}

/// Sorts the user's rooms.
pub(crate) async fn make(sync: &Sync, view: &View<'_>, members: &Members) -> sqlx::Result<Plan> {
    let mut plan = Plan::default();
    let since = view.since.unwrap_or_default();
    let fresh = |member: &Member| view.since.is_none() || member.position > since;
    let (mut joined, mut left) = (Vec::new(), Vec::new());
    for (nid, member) in &members.rooms {
        let list = match member.membership {
            MembershipState::Join => &mut joined,
            MembershipState::Invite if fresh(member) => &mut plan.invited,
            MembershipState::Knock if fresh(member) => &mut plan.knocked,
            MembershipState::Leave | MembershipState::Ban if is_recently_left(view, member) => {
                &mut left
            }
            _ => continue,
        };
        list.push(*nid);
    }
    let moved = sync
        .hub()
        .moved_all(joined.iter().map(|room| (*room, since)));
    let changed: Vec<RoomNid> = [&joined, &left]
        .into_iter()
        .flatten()
        .filter(|room| members.rooms[*room].position > since)
        .copied()
        .collect();
    let before = memberships_at(sync, view, &changed).await?;
    for nid in joined {
        let Some(room) = wanted_room(sync, view, nid).await? else {
            continue;
        };
        plan.all_joined.insert(nid, Arc::clone(&room));
        let member = &members.rooms[&nid];
        let moved = moved.get(&nid);
        let was_in = member.position <= since || before.contains(&nid);
        let from = view.since.filter(|_| was_in);
        let is_wanted = from.is_none()
            || view.full_state == FullState::All
            || moved.is_none_or(|moved| moved.timeline);
        if is_wanted {
            plan.joined.push(Wanted {
                room,
                from,
                until: view.to,
                sight: match view.since {
                    Some(since) if member.position <= since => Sight::All,
                    _ => Sight::Checked(member.position),
                },
                state_moved: moved.is_none_or(|moved| moved.state),
                joined: true,
            });
        }
    }
    for nid in left {
        if let Some(room) = wanted_room(sync, view, nid).await? {
            let member = &members.rooms[&nid];
            let from = view.since.filter(|_| before.contains(&nid));
            let wanted = left_room(sync, view, room, member, from).await?;
            plan.left.push(wanted);
        }
    }
    Ok(plan)
}

fn is_recently_left(view: &View<'_>, member: &Member) -> bool {
    !member.forgotten
        && match view.since {
            Some(since) => member.position > since,
            None => view.filter.leave == Leave::All,
        }
}

async fn wanted_room(
    sync: &Sync,
    view: &View<'_>,
    nid: RoomNid,
) -> sqlx::Result<Option<Arc<Room>>> {
    let room = sync.rooms().find_by_nid(nid).await?;
    Ok(room.filter(|room| view.filter.rooms.matches_room(&room.id)))
}

/// A room that the user left: he sees it up to the leave if he was in it, and else only the leave.
async fn left_room(
    sync: &Sync,
    view: &View<'_>,
    room: Arc<Room>,
    member: &Member,
    from: Option<Position>,
) -> sqlx::Result<Wanted> {
    let was_in = match member.event {
        Some(event) => was_joined_before(sync, view, event).await?,
        None => false,
    };
    let sight = match was_in {
        true => Sight::Checked(Position(i64::MAX)),
        false => Sight::Only(member.event),
    };
    Ok(Wanted {
        room,
        from,
        until: member.position,
        sight,
        state_moved: true,
        joined: false,
    })
}

/// Whether the user was joined in the state before an event.
async fn was_joined_before(sync: &Sync, view: &View<'_>, event: EventNid) -> sqlx::Result<bool> {
    let events = sync.rooms().events().map([event]).await?;
    let Some(before) = events.get(&event).and_then(|event| event.snapshot) else {
        return Ok(false);
    };
    let snapshot = sync.rooms().snapshot(before).await?;
    let membership = sync
        .rooms()
        .membership(&snapshot, &view.receiver.user_id)
        .await?;
    Ok(membership == MembershipState::Join)
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
    let kind = StateEventType::RoomMember.to_string();
    let user = view.receiver.user_id.as_str();
    let key = sync.rooms().interner().find_state_key(&kind, user).await?;
    let Some(key) = key else {
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
