//! The user's own streams: account data, messages to the device, device lists.

use std::collections::{BTreeSet, HashMap, HashSet};

use hearth_core::{Position, RoomNid, UserNid};
use hearth_push::rules;
use hearth_store::{account_data, device_list_change, room_members, shared_room, to_device};
use ruma::{OwnedUserId, UserId, events::room::member::MembershipState};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    active::ActiveUser, difference::RoomChanges, filter, plan::Plan, service::Sync, view::View,
};

/// The account data that has defaults.
const PUSH_RULES: &str = "m.push_rules";

/// How many messages to a device one response carries.
const TO_DEVICE: i64 = 100;

/// A piece of account data.
#[derive(Clone, Debug, Serialize)]
pub struct AccountData {
    /// The content.
    pub content: Box<RawValue>,
    /// The event type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Account data that is new to the client.
#[derive(Debug, Default)]
pub(crate) struct AllAccountData {
    pub global: Vec<AccountData>,
    pub rooms: HashMap<RoomNid, Vec<AccountData>>,
}

/// Account data that changed, and that of rooms that are new to the client.
pub(crate) async fn account_data(
    sync: &Sync,
    view: &View<'_>,
    user: &ActiveUser,
    plan: &Plan,
) -> sqlx::Result<AllAccountData> {
    let since = view.since.unwrap_or_default();
    let fresh: HashSet<RoomNid> = plan
        .joined
        .iter()
        .filter(|wanted| wanted.from.is_none())
        .map(|wanted| wanted.room.nid)
        .collect();
    if fresh.is_empty() && !user.may_have(ActiveUser::account_data, since) {
        return Ok(AllAccountData::default());
    }
    let from = match fresh.is_empty() {
        true => since,
        false => Position(0),
    };
    let mut conn = sync.pool().acquire().await?;
    let rows = account_data::list(&mut conn, user.nid, from, view.to).await?;
    drop(conn);
    let mut all = AllAccountData::default();
    let of_rules = |row: &account_data::Stored| row.kind == PUSH_RULES && row.position > since;
    if view.since.is_none() || rows.iter().any(of_rules) {
        all.global.extend(push_rules(view));
    }
    for row in rows {
        let is_fresh = view.since.is_none() || fresh.contains(&row.room);
        // An empty object is a deletion, which matters to those only who have what was deleted.
        if (!is_fresh && row.position <= since) || (is_fresh && row.content == "{}") {
            continue;
        }
        if row.kind == PUSH_RULES {
            continue;
        }
        let content = RawValue::from_string(row.content);
        let data = AccountData {
            content: content.map_err(|error| sqlx::Error::Decode(error.into()))?,
            kind: row.kind,
        };
        if row.room == RoomNid(0) {
            if view.filter.account_data.matches_type(&data.kind) {
                all.global.push(data);
            }
        } else if view.filter.room_account_data.matches_type(&data.kind) {
            all.rooms.entry(row.room).or_default().push(data);
        }
    }
    filter::cut(&view.filter.account_data, &mut all.global);
    for events in all.rooms.values_mut() {
        filter::cut(&view.filter.room_account_data, events);
    }
    Ok(all)
}

/// The push rules with those of the server, which are not stored.
fn push_rules(view: &View<'_>) -> Option<AccountData> {
    if !view.filter.account_data.matches_type(PUSH_RULES) {
        return None;
    }
    let content = rules::content_of(&view.settings.rules);
    Some(AccountData {
        content: to_raw_value(&content).ok()?,
        kind: PUSH_RULES.to_owned(),
    })
}

/// Messages to the device, and up to where they go.
#[derive(Debug)]
pub(crate) struct ToDevice {
    pub messages: Vec<Box<RawValue>>,
    pub until: Position,
}

/// Removes what the device acknowledges with `since`, and reads what comes next.
pub(crate) async fn to_device(
    sync: &Sync,
    view: &View<'_>,
    user: &ActiveUser,
    since: Option<Position>,
) -> sqlx::Result<ToDevice> {
    let mut none = ToDevice {
        messages: Vec::new(),
        until: view.to,
    };
    let Some(device_id) = view.receiver.device_id.as_deref() else {
        return Ok(none);
    };
    let drained = user.drained(device_id);
    if drained.is_some_and(|drained| !user.may_have(ActiveUser::to_device, drained)) {
        return Ok(none);
    }
    let mut conn = sync.pool().acquire().await?;
    if let Some(since) = since {
        to_device::delete(&mut conn, user.nid, device_id, since).await?;
    }
    let from = since.unwrap_or_default();
    let rows = to_device::list(&mut conn, user.nid, device_id, (from, view.to), TO_DEVICE).await?;
    drop(conn);
    match rows.last() {
        None => user.set_drained(device_id, view.to),
        Some(last) if rows.len() >= usize::try_from(TO_DEVICE).unwrap_or_default() => {
            none.until = last.position;
        }
        Some(_) => {}
    }
    for row in rows {
        let message = RawValue::from_string(row.message);
        let message = message.map_err(|error| sqlx::Error::Decode(error.into()))?;
        none.messages.push(message);
    }
    Ok(none)
}

/// Whose devices have to be asked for anew, and whose are of no interest any more.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DeviceLists {
    /// Users whose devices changed, and those with whom the user shares a room now.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub changed: BTreeSet<OwnedUserId>,
    /// Users with whom the user shares no room any more.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub left: BTreeSet<OwnedUserId>,
}

/// Users whom the user met in rooms, or lost sight of.
#[derive(Debug, Default)]
pub(crate) struct Encounters {
    pub met: Vec<UserNid>,
    pub parted: Vec<UserNid>,
}

/// Who came and went, from the rooms' changes of members.
pub(crate) async fn encounters(
    sync: &Sync,
    view: &View<'_>,
    joined: &[RoomChanges],
    left: &[RoomChanges],
) -> sqlx::Result<Encounters> {
    if view.since.is_none() {
        return Ok(Encounters::default());
    }
    let changes = || joined.iter().flat_map(|room| &room.members);
    let nids = changes().flat_map(|change| [change.before, change.after]);
    let events = sync
        .rooms()
        .events()
        .map(nids.flatten().collect::<Vec<_>>());
    let events = events.await?;
    let joins = |nid: Option<hearth_core::EventNid>| {
        let event = nid.and_then(|nid| events.get(&nid));
        event.is_some_and(|event| hearth_rooms::membership_of(event) == MembershipState::Join)
    };
    let (mut met, mut parted) = (Vec::new(), Vec::new());
    for change in changes() {
        let Ok(user) = <&UserId>::try_from(change.user.1.as_str()) else {
            continue;
        };
        match (joins(change.before), joins(change.after)) {
            (false, true) => met.push(user),
            (true, false) => parted.push(user),
            (true, true) | (false, false) => {}
        }
    }
    let users: Vec<&UserId> = met.iter().chain(&parted).copied().collect();
    let numbers = sync.rooms().interner().find_users(&users).await?;
    let number = |users: Vec<&UserId>| -> Vec<UserNid> {
        let known = users.into_iter().filter_map(|user| numbers.get(user));
        known.copied().collect()
    };
    let mut encounters = Encounters {
        met: number(met),
        parted: number(parted),
    };
    let fresh = |rooms: &[RoomChanges]| -> Vec<RoomNid> {
        let fresh = rooms.iter().filter(|room| room.from.is_none());
        fresh.map(|room| room.room.nid).collect()
    };
    // Who was not in the room at the token shared it with nobody.
    let gone = left.iter().filter(|room| room.from.is_some());
    let gone: Vec<RoomNid> = gone.map(|room| room.room.nid).collect();
    encounters.met.extend(members(sync, &fresh(joined)).await?);
    encounters.parted.extend(members(sync, &gone).await?);
    encounters.met.retain(|user| *user != view.receiver.user);
    encounters.parted.retain(|user| *user != view.receiver.user);
    Ok(encounters)
}

async fn members(sync: &Sync, rooms: &[RoomNid]) -> sqlx::Result<Vec<UserNid>> {
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    let mut conn = sync.pool().acquire().await?;
    room_members::list_members(&mut conn, rooms).await
}

/// The device lists of an incremental response.
pub(crate) async fn device_lists(
    sync: &Sync,
    view: &View<'_>,
    user: &ActiveUser,
    encounters: &Encounters,
) -> sqlx::Result<DeviceLists> {
    let Some(since) = view.since else {
        return Ok(DeviceLists::default());
    };
    let mut changed: BTreeSet<UserNid> = encounters.met.iter().copied().collect();
    let mut left: BTreeSet<UserNid> = encounters.parted.iter().copied().collect();
    let asks = user.may_have(ActiveUser::device_list, since);
    if !asks && left.is_empty() && changed.is_empty() {
        return Ok(DeviceLists::default());
    }
    let mut conn = sync.pool().acquire().await?;
    if asks {
        changed.extend(device_list_change::list_shared(&mut conn, user.nid, since, view.to).await?);
    }
    if !left.is_empty() {
        let candidates: Vec<UserNid> = left.iter().copied().collect();
        for sharing in shared_room::list_sharing(&mut conn, user.nid, &candidates).await? {
            left.remove(&sharing);
        }
    }
    drop(conn);
    changed.retain(|user| !left.contains(user));
    let users: Vec<UserNid> = changed.iter().chain(&left).copied().collect();
    let ids = sync.rooms().interner().user_ids(&users).await?;
    let named = |users: BTreeSet<UserNid>| {
        users
            .iter()
            .filter_map(|user| ids.get(user).cloned())
            .collect()
    };
    Ok(DeviceLists {
        changed: named(changed),
        left: named(left),
    })
}
