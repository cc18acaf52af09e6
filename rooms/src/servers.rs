//! Which servers are in a room.

use std::{collections::HashMap, sync::Arc};

use hearth_core::{EventNid, RoomNid, SnapshotNid, StateKeyNid};
use hearth_store::room_members;
use moka::future::Cache;
use ruma::{
    OwnedServerName, OwnedUserId, ServerName, UserId,
    events::{StateEventType, room::member::MembershipState},
};

use crate::{
    Rooms, error::SendError, event::RoomEvent, membership::Member, room::Room, snapshot::Snapshot,
    state::membership_of,
};

/// How many servers of a room are told at the most; no room has as many.
const MOST: i64 = 100_000;

/// For how many rooms the servers stay in memory.
const CACHED: u64 = 10_000;

/// Of how many states the servers stay in memory in order.
const LISTED: u64 = 2_000;

/// How many joined users each server has.
type Counts = HashMap<OwnedServerName, usize>;

/// The servers of rooms.
#[derive(Clone, Debug)]
pub(crate) struct KnownServers {
    /// Those of the states that were asked for last, one state a room: the next one is counted by what changed.
    counts: Cache<RoomNid, (Arc<Snapshot>, Arc<Counts>)>,
    /// Those of current states, those with the most users first.
    lists: Cache<(RoomNid, SnapshotNid), Arc<Vec<OwnedServerName>>>,
}

impl Default for KnownServers {
    fn default() -> Self {
        Self {
            counts: Cache::new(CACHED),
            lists: Cache::new(LISTED),
        }
    }
}

impl KnownServers {
    /// Forgets everything: the numbers may mean something else now.
    pub(crate) fn forget_all(&self) {
        self.counts.invalidate_all();
        self.lists.invalidate_all();
    }
}

impl Rooms {
    /// The servers with users joined to the room now, those with the most users first.
    pub async fn servers(&self, room: &Room) -> sqlx::Result<Vec<OwnedServerName>> {
        let listed = self.list_servers(room).await?;
        Ok(listed.as_ref().clone())
    }

    /// The same, shared.
    pub(crate) async fn list_servers(
        &self,
        room: &Room,
    ) -> sqlx::Result<Arc<Vec<OwnedServerName>>> {
        let Some(current) = self.current(room).await? else {
            return Ok(Arc::default());
        };
        // Who is joined changes with the state, so that a list is good as long as its state is the current one.
        let key = (room.nid, current.snapshot.nid);
        let listing = async {
            let mut conn = self.pool().acquire().await?;
            let names = room_members::list_servers(&mut conn, room.nid, MOST).await?;
            let names = names.iter().map(ServerName::parse);
            Ok(Arc::new(names.filter_map(Result::ok).collect()))
        };
        let listed = self.0.known_servers.lists.try_get_with(key, listing).await;
        listed.map_err(|error: Arc<sqlx::Error>| sqlx::Error::Protocol(error.to_string()))
    }

    /// Whether the last user of all left the room here: then what we know of it is all that there is to know.
    pub(crate) async fn is_deserted(&self, room: &Room) -> sqlx::Result<bool> {
        if self.current(room).await?.is_none() {
            return Ok(false);
        }
        let mut conn = self.pool().acquire().await?;
        let joined = room_members::find_joined(&mut conn, room.nid).await?;
        Ok(joined.all == 0)
    }

    /// The servers with users joined in a state of the room, in no order.
    pub async fn servers_in(
        &self,
        room: &Room,
        snapshot: &Arc<Snapshot>,
    ) -> sqlx::Result<Vec<OwnedServerName>> {
        let counts = self.count_servers(room, snapshot).await?;
        Ok(counts.keys().cloned().collect())
    }

    /// The servers with users joined to the room before an event: those who must hear of it.
    pub async fn servers_before(
        &self,
        room: &Room,
        event: &RoomEvent,
    ) -> sqlx::Result<Vec<OwnedServerName>> {
        match event.snapshot {
            Some(nid) => self.servers_in(room, &self.snapshot(nid).await?).await,
            None => Ok(Vec::new()),
        }
    }

    /// Whether a user of `server` is joined to the room.
    pub async fn has_users_in(&self, room: &Room, server: &ServerName) -> sqlx::Result<bool> {
        let Some(current) = self.current(room).await? else {
            return Ok(false);
        };
        let counts = self.count_servers(room, &current.snapshot).await?;
        Ok(counts.contains_key(server))
    }

    async fn count_servers(
        &self,
        room: &Room,
        snapshot: &Arc<Snapshot>,
    ) -> sqlx::Result<Arc<Counts>> {
        let known = self.0.known_servers.counts.get(&room.nid).await;
        let (from, counts) = known.unwrap_or_else(|| (Arc::new(Snapshot::empty()), Arc::default()));
        if from.nid == snapshot.nid {
            return Ok(counts);
        }
        let changed: Vec<(StateKeyNid, Option<EventNid>, Option<EventNid>)> = from
            .changes_to(snapshot)
            .map(|(key, new)| (key, from.get(key), new))
            .collect();
        let keys: Vec<StateKeyNid> = changed.iter().map(|(key, ..)| *key).collect();
        let names = self.interner().state_key_names(&keys).await?;
        let member = StateEventType::RoomMember.to_string();
        let mut members = changed;
        members.retain(|(key, ..)| names.get(key).is_some_and(|name| name.0 == member));
        let events = members
            .iter()
            .flat_map(|(_, old, new)| [*old, *new])
            .flatten();
        let events = self.events().map(events.collect::<Vec<_>>()).await?;
        let is_join = |nid: Option<EventNid>| {
            nid.and_then(|nid| events.get(&nid))
                .is_some_and(|event| membership_of(event) == MembershipState::Join)
        };
        let mut counted = (*counts).clone();
        for (key, old, new) in members {
            let Some(user) = names.get(&key).and_then(|name| UserId::parse(&name.1).ok()) else {
                continue;
            };
            recount(&mut counted, user.server_name(), is_join(old), is_join(new));
        }
        let counted = Arc::new(counted);
        let entry = (Arc::clone(snapshot), Arc::clone(&counted));
        self.0.known_servers.counts.insert(room.nid, entry).await;
        Ok(counted)
    }

    /// The servers of joined users who may invite others: they can let users into a restricted room.
    pub(crate) async fn authorities(&self, room: &Room) -> Result<Vec<OwnedServerName>, SendError> {
        let Some(current) = self.current(room).await? else {
            return Ok(Vec::new());
        };
        let powers = self.power(room, &current.snapshot).await?;
        let mut strong: Vec<OwnedUserId> = powers.named().into_iter().collect();
        strong.retain(|user| powers.may_invite(user));
        strong.sort_by_key(|user| std::cmp::Reverse(powers.of(user)));
        let keys = strong
            .iter()
            .map(|user| (StateEventType::RoomMember, user.to_string()));
        let members = self.state_subset(&current.snapshot, keys.collect()).await?;
        strong.retain(|user| {
            members
                .get(&(StateEventType::RoomMember, user.to_string()))
                .is_some_and(|event| membership_of(event) == MembershipState::Join)
        });
        Ok(strong
            .iter()
            .map(|user| user.server_name().to_owned())
            .collect())
    }

    /// Whether a user can only join a room that this server is in when another server vouches for him: the room is
    /// restricted, he is not invited, and we cannot tell that he may join, or have nobody to let him in.
    pub(crate) async fn needs_other_authority(
        &self,
        room: &Room,
        member: &Member,
    ) -> Result<bool, SendError> {
        let Some(current) = self.current(room).await? else {
            return Ok(false);
        };
        let snapshot = &current.snapshot;
        let now = self.membership(snapshot, &member.user_id).await?;
        if now != MembershipState::Leave && now != MembershipState::Knock {
            return Ok(false);
        }
        let Some(allowed) = self.join_rule(room, snapshot).await?.allowed_rooms else {
            return Ok(false);
        };
        if self.is_in_any(&allowed, &member.user_id).await? {
            return Ok(self.authorising_user(room, snapshot).await?.is_none());
        }
        Ok(!self.are_resident(&allowed).await?)
    }
}

/// Counts one user of a server before and after a change.
fn recount(counts: &mut Counts, server: &ServerName, before: bool, after: bool) {
    if after && !before {
        *counts.entry(server.to_owned()).or_default() += 1;
    }
    if before
        && !after
        && let Some(count) = counts.get_mut(server)
    {
        *count -= 1;
        if *count == 0 {
            counts.remove(server);
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn a_server_is_there_as_long_as_one_of_its_users_is() {
        let server = server_name!("there.example");
        let mut counts = Counts::new();

        recount(&mut counts, server, false, true);
        recount(&mut counts, server, false, true);
        recount(&mut counts, server, true, true);
        recount(&mut counts, server, true, false);
        assert_eq!(counts.get(server), Some(&1));

        recount(&mut counts, server, true, false);
        assert!(counts.is_empty());
    }
}
