//! Room summaries: how many members, and who stands for a room without a name.

use std::{collections::HashMap, sync::Arc};

use hearth_core::{EventNid, RoomNid, UserNid};
use hearth_rooms::Snapshot;
use hearth_store::room_members;
use ruma::{OwnedUserId, events::StateEventType};
use serde::{Deserialize, Serialize};

use crate::service::Sync;

/// How many members stand for a room.
const HEROES: i64 = 5;

/// A room's summary.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Who stands for the room; `None` when it has a name.
    #[serde(rename = "m.heroes", skip_serializing_if = "Option::is_none")]
    pub heroes: Option<Vec<OwnedUserId>>,
    /// How many users are joined.
    #[serde(rename = "m.joined_member_count")]
    pub joined: i64,
    /// How many users are invited.
    #[serde(rename = "m.invited_member_count")]
    pub invited: i64,
}

/// The summaries of rooms whose states are given, for `user`.
pub(crate) async fn read(
    sync: &Sync,
    user: UserNid,
    rooms: &[(RoomNid, Option<Arc<Snapshot>>)],
) -> sqlx::Result<HashMap<RoomNid, Summary>> {
    if rooms.is_empty() {
        return Ok(HashMap::new());
    }
    let nids: Vec<RoomNid> = rooms.iter().map(|(room, _)| *room).collect();
    let mut conn = sync.pool().acquire().await?;
    let counts = room_members::list_counts(&mut conn, &nids).await?;
    drop(conn);
    let mut summaries: HashMap<RoomNid, Summary> = nids
        .iter()
        .map(|room| (*room, Summary::default()))
        .collect();
    for row in counts {
        if let Some(summary) = summaries.get_mut(&row.room) {
            (summary.joined, summary.invited) = (row.joined, row.invited);
        }
    }
    let unnamed = unnamed(sync, rooms).await?;
    if unnamed.is_empty() {
        return Ok(summaries);
    }
    let mut conn = sync.pool().acquire().await?;
    let rows = room_members::list_heroes(&mut conn, &unnamed, user, HEROES).await?;
    drop(conn);
    let users: Vec<UserNid> = rows.iter().map(|row| row.user).collect();
    let ids = sync.rooms().interner().user_ids(&users).await?;
    for room in unnamed {
        let of_room = || rows.iter().filter(|row| row.room == room);
        let here = of_room().any(|row| row.here);
        let heroes = of_room()
            .filter(|row| row.here == here)
            .filter_map(|row| ids.get(&row.user).cloned());
        if let Some(summary) = summaries.get_mut(&room) {
            summary.heroes = Some(heroes.collect());
        }
    }
    Ok(summaries)
}

#[derive(Deserialize)]
struct Naming {
    name: Option<String>,
    alias: Option<String>,
}

/// The rooms whose name and canonical alias are unset or empty.
async fn unnamed(
    sync: &Sync,
    rooms: &[(RoomNid, Option<Arc<Snapshot>>)],
) -> sqlx::Result<Vec<RoomNid>> {
    let (name, alias) = (
        StateEventType::RoomName.to_string(),
        StateEventType::RoomCanonicalAlias.to_string(),
    );
    let keys = [(name.as_str(), ""), (alias.as_str(), "")];
    let keys = sync.rooms().interner().find_state_keys(&keys).await?;
    let held = |snapshot: &Option<Arc<Snapshot>>| -> Vec<EventNid> {
        let snapshot = snapshot.as_ref();
        let held = keys.iter().flatten();
        held.filter_map(|key| snapshot?.get(*key)).collect()
    };
    let nids = rooms.iter().flat_map(|(_, snapshot)| held(snapshot));
    let events = sync.rooms().events().map(nids.collect::<Vec<_>>()).await?;
    let is_named = |nid: &EventNid| {
        let event = events.get(nid);
        let content = event.and_then(|event| event.pdu.content_as::<Naming>().ok());
        content.is_some_and(|content| {
            [content.name, content.alias]
                .into_iter()
                .flatten()
                .any(|text| !text.is_empty())
        })
    };
    Ok(rooms
        .iter()
        .filter(|(_, snapshot)| !held(snapshot).iter().any(is_named))
        .map(|(room, _)| *room)
        .collect())
}
