//! Follows the announcements and tells the hub what they mean.

use std::{sync::Arc, time::Duration};

use hearth_core::{Position, RoomNid, UserNid};
use hearth_journal::{Announcement, Entry, Kind};
use hearth_rooms::{RoomEvent, membership_of};
use hearth_store::{membership, room_members};
use hearth_users::ephemeral;
use tokio::{sync::broadcast, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{active::Member, change::Change, hub::Hub, service::Sync};

/// How often idle users are forgotten.
const TIDY: Duration = Duration::from_mins(1);

/// Runs until `stop`.
pub(crate) async fn run(
    sync: Sync,
    hub: Hub,
    mut announcements: broadcast::Receiver<Arc<Announcement>>,
    stop: CancellationToken,
) {
    let mut tidy = tokio::time::interval(TIDY);
    tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            next = announcements.recv() => next,
            _ = tidy.tick() => {
                hub.forget_idle();
                continue;
            }
            () = stop.cancelled() => return,
        };
        match next {
            Ok(announcement) => take_in(&sync, &hub, &announcement).await,
            // The next announcement does not follow the last one, and everything starts over.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

async fn take_in(sync: &Sync, hub: &Hub, announcement: &Announcement) {
    let position = hub.position();
    if announcement.head <= position {
        return;
    }
    if announcement.previous > position {
        tracing::warn!(%position, head = %announcement.head, "announcements were missed, starting over");
        hub.start_over(announcement.head);
        return;
    }
    let mut changes = Vec::with_capacity(announcement.entries.len());
    for entry in announcement.entries.iter() {
        if entry.position <= position {
            continue;
        }
        if let Some(change) = read(sync, hub, entry).await {
            changes.push((entry.position, change));
        }
    }
    hub.apply(announcement.head, changes);
}

async fn read(sync: &Sync, hub: &Hub, entry: &Entry) -> Option<Change> {
    match (entry.kind, entry.room, entry.user) {
        (Kind::Event, Some(room), user) => Some(event(sync, hub, entry, room, user).await),
        (Kind::Receipt, Some(room), _) => Some(Change::Receipt(room)),
        (Kind::AccountData, _, Some(user)) => Some(Change::AccountData(user)),
        (Kind::ToDevice, _, Some(user)) => Some(Change::ToDevice(user)),
        (Kind::DeviceList, _, Some(user)) => Some(device_list(sync, hub, user).await),
        (Kind::Membership, Some(room), Some(user)) => {
            hub.find(user)?;
            Some(match stored_member(sync, room, user).await {
                Some(member) => Change::Membership(room, user, member),
                None => Change::Unknown(room, user),
            })
        }
        (Kind::State, Some(room), _) => Some(state(sync, room, entry.position).await),
        (
            Kind::Event
            | Kind::Receipt
            | Kind::AccountData
            | Kind::ToDevice
            | Kind::DeviceList
            | Kind::Membership
            | Kind::State
            | Kind::Pusher,
            ..,
        ) => None,
    }
}

async fn event(
    sync: &Sync,
    hub: &Hub,
    entry: &Entry,
    room: RoomNid,
    user: Option<UserNid>,
) -> Change {
    let member = user.filter(|user| hub.find(*user).is_some());
    if member.is_none() && !hub.is_watched(room) {
        return Change::Event {
            room,
            message_on: None,
            member: None,
        };
    }
    let event = match entry.event {
        Some(nid) => sync.rooms().events().get(nid).await,
        None => Err(sqlx::Error::RowNotFound),
    };
    match event {
        Ok(event) => Change::Event {
            room,
            message_on: event.snapshot.filter(|_| event.state_key.is_none()),
            member: member.map(|user| (user, member_of(&event, entry.position))),
        },
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an event could not be read"
            );
            match member {
                Some(user) => Change::Unknown(room, user),
                None => Change::Event {
                    room,
                    message_on: None,
                    member: None,
                },
            }
        }
    }
}

fn member_of(event: &RoomEvent, position: Position) -> Member {
    Member {
        membership: membership_of(event),
        position,
        event: Some(event.nid),
        forgotten: false,
    }
}

async fn stored_member(sync: &Sync, room: RoomNid, user: UserNid) -> Option<Member> {
    let mut conn = sync.pool().acquire().await.ok()?;
    let row = membership::find(&mut conn, user, room).await.ok()??;
    Some(Member::from(&row))
}

/// Who shares a room with a user is asked of memory, or else of the database.
async fn device_list(sync: &Sync, hub: &Hub, user: UserNid) -> Change {
    let known = hub.find(user).filter(|user| user.loaded.initialized());
    let rooms = match known {
        Some(user) => user.joined_rooms(),
        None => match joined_rooms(sync, user).await {
            Ok(rooms) => rooms,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "memberships could not be read"
                );
                hub.start_over(hub.position());
                Vec::new()
            }
        },
    };
    Change::DeviceList(user, rooms)
}

async fn joined_rooms(sync: &Sync, user: UserNid) -> sqlx::Result<Vec<RoomNid>> {
    let mut conn = sync.pool().acquire().await?;
    let rows = membership::list_of_user(&mut conn, user).await?;
    let joined = rows.into_iter().filter(|row| row.membership == "join");
    Ok(joined.map(|row| row.room).collect())
}

async fn state(sync: &Sync, room: RoomNid, position: Position) -> Change {
    let members = match changed_members(sync, room, position).await {
        Ok(members) => members,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "memberships could not be read"
            );
            Vec::new()
        }
    };
    Change::State { room, members }
}

async fn changed_members(
    sync: &Sync,
    room: RoomNid,
    position: Position,
) -> sqlx::Result<Vec<(UserNid, Member)>> {
    let mut conn = sync.pool().acquire().await?;
    let rows = room_members::list_changed(&mut conn, room, position).await?;
    Ok(rows
        .iter()
        .map(|(user, row)| (*user, Member::from(row)))
        .collect())
}

/// Wakes those who see somebody type or come and go, until `stop`.
pub(crate) async fn ephemeral(
    sync: Sync,
    mut changes: broadcast::Receiver<ephemeral::Change>,
    stop: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            next = changes.recv() => next,
            () = stop.cancelled() => return,
        };
        match next {
            Ok(ephemeral::Change::Typing(room)) => sync.hub().wake_rooms([room]),
            Ok(ephemeral::Change::Presence(user)) => presence(&sync, user).await,
            Err(broadcast::error::RecvError::Lagged(_)) => sync.hub().wake_all(),
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Wakes those who share a room with a user, and the user.
async fn presence(sync: &Sync, user: UserNid) {
    let known = sync.hub().find(user);
    let rooms = match known.filter(|user| user.loaded.initialized()) {
        Some(user) => {
            user.wake();
            user.joined_rooms()
        }
        None => joined_rooms(sync, user).await.unwrap_or_default(),
    };
    sync.hub().wake_rooms(rooms);
}

/// Forgets everything whenever the log begins a new epoch, until `stop`.
pub(crate) async fn epochs(sync: Sync, stop: CancellationToken) {
    let mut epoch = sync.journal().epoch();
    loop {
        tokio::select! {
            next = sync.journal().epoch_after(epoch) => epoch = next,
            () = stop.cancelled() => return,
        }
        sync.states().invalidate_all();
        sync.hub().start_over(sync.journal().head());
    }
}
