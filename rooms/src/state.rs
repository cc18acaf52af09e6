//! Reading states: single events, several, all of them.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use hearth_core::{SnapshotNid, StateKeyNid};
use hearth_store::room;
use ruma::{
    UserId,
    events::{StateEventType, room::member::MembershipState},
    state_res::events::RoomMemberEvent,
};

use crate::{
    Rooms,
    event::RoomEvent,
    room::{Current, Room},
    snapshot::{Snapshot, StateMap},
};

impl Rooms {
    /// The room's current state, as committed; `None` when this server is not in the room.
    pub async fn current(&self, room: &Room) -> sqlx::Result<Option<Current>> {
        if let Some(current) = room.current() {
            return Ok(Some(current));
        }
        let changes = room.foreign_changes.load(Ordering::Acquire);
        let mut conn = self.pool().acquire().await?;
        let row = room::find(&mut conn, room.nid).await?;
        drop(conn);
        let Some((revision, nid)) = row.and_then(|row| Some((row.revision, row.snapshot?))) else {
            return Ok(None);
        };
        let snapshot = self.snapshots().get(nid).await?;
        let current = Current { revision, snapshot };
        if room.foreign_changes.load(Ordering::Acquire) == changes {
            room.set_current(current.clone());
        }
        Ok(Some(current))
    }

    /// The state with this number.
    pub async fn snapshot(&self, nid: SnapshotNid) -> sqlx::Result<Arc<Snapshot>> {
        self.snapshots().get(nid).await
    }

    /// The states with these numbers.
    pub async fn snapshots_of(
        &self,
        nids: impl IntoIterator<Item = SnapshotNid>,
    ) -> sqlx::Result<HashMap<SnapshotNid, Arc<Snapshot>>> {
        self.snapshots().map(nids).await
    }

    /// The event that holds a key of a state.
    pub async fn state_event(
        &self,
        snapshot: &Snapshot,
        kind: &StateEventType,
        key: &str,
    ) -> sqlx::Result<Option<Arc<RoomEvent>>> {
        let Some(key) = self
            .interner()
            .find_state_key(&kind.to_string(), key)
            .await?
        else {
            return Ok(None);
        };
        match snapshot.get(key) {
            Some(nid) => Ok(Some(self.events().get(nid).await?)),
            None => Ok(None),
        }
    }

    /// The events that hold these keys of a state; keys that nothing holds are left out.
    pub async fn state_subset(
        &self,
        snapshot: &Snapshot,
        keys: Vec<(StateEventType, String)>,
    ) -> sqlx::Result<HashMap<(StateEventType, String), Arc<RoomEvent>>> {
        self.subset(&snapshot.map, keys).await
    }

    /// The same of a state that may not be stored.
    pub(crate) async fn subset(
        &self,
        state: &StateMap,
        keys: Vec<(StateEventType, String)>,
    ) -> sqlx::Result<HashMap<(StateEventType, String), Arc<RoomEvent>>> {
        let mut wanted = Vec::new();
        for (kind, key) in keys {
            let found = self
                .interner()
                .find_state_key(&kind.to_string(), &key)
                .await?;
            if let Some(nid) = found.and_then(|found| state.get(&found).copied()) {
                wanted.push(((kind, key), nid));
            }
        }
        let events = self
            .events()
            .map(wanted.iter().map(|(_, nid)| *nid))
            .await?;
        let held = wanted
            .into_iter()
            .filter_map(|(key, nid)| Some((key, Arc::clone(events.get(&nid)?))));
        Ok(held.collect())
    }

    /// Every event of a state, in no order.
    pub async fn state_events(&self, snapshot: &Snapshot) -> sqlx::Result<Vec<Arc<RoomEvent>>> {
        let events = self.events().map(snapshot.map.values().copied()).await?;
        Ok(events.into_values().collect())
    }

    /// Every event of a state that is no member event, in no order.
    pub async fn state_without_members(
        &self,
        snapshot: &Snapshot,
    ) -> sqlx::Result<Vec<Arc<RoomEvent>>> {
        let keys: Vec<StateKeyNid> = snapshot.map.keys().copied().collect();
        let names = self.interner().state_key_names(&keys).await?;
        let member = StateEventType::RoomMember.to_string();
        let wanted = snapshot.map.iter().filter_map(|(key, event)| {
            let name = names.get(key)?;
            (name.0 != member).then_some(*event)
        });
        let events = self.events().map(wanted).await?;
        Ok(events.into_values().collect())
    }

    /// A user's membership in a state; `leave` when there is no member event.
    pub async fn membership(
        &self,
        snapshot: &Snapshot,
        user: &UserId,
    ) -> sqlx::Result<MembershipState> {
        let event = self
            .state_event(snapshot, &StateEventType::RoomMember, user.as_str())
            .await?;
        Ok(event.map_or(MembershipState::Leave, |event| membership_of(&event)))
    }
}

/// The membership that a member event declares.
#[must_use]
pub fn membership_of(event: &RoomEvent) -> MembershipState {
    RoomMemberEvent::new(event)
        .membership()
        .unwrap_or(MembershipState::Leave)
}
