//! Reading states: single events, several, all of them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, RoomNid, SnapshotNid, StateKeyNid};
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
    ///
    /// What is decided by it is never stale: when other processes may have changed the room, its row is asked which
    /// revision that state has. A process that is alone knows.
    pub async fn current(&self, room: &Room) -> sqlx::Result<Option<Current>> {
        let tenure = self.occupancy().tenure();
        let known = room.current();
        if known.is_some() && tenure.is_some_and(|tenure| room.is_verified(tenure)) {
            return Ok(known);
        }
        let mut conn = self.pool().acquire().await?;
        let row = room::find_state(&mut conn, room.nid).await?;
        drop(conn);
        let Some((revision, nid)) = row else {
            return Ok(None);
        };
        let current = match known {
            // Our own commits may be ahead of the row that was read.
            Some(known) if known.revision >= revision => known,
            Some(_) | None => Current {
                revision,
                snapshot: self.snapshots().get(nid).await?,
            },
        };
        room.set_current(current.clone());
        room.verify(tenure);
        Ok(Some(current))
    }

    /// The current states of rooms, like [`Rooms::current`]; rooms that this server is not in are left out.
    pub async fn currents(&self, rooms: &[Arc<Room>]) -> sqlx::Result<HashMap<RoomNid, Current>> {
        let tenure = self.occupancy().tenure();
        let mut currents = HashMap::with_capacity(rooms.len());
        let mut asked = HashMap::new();
        for room in rooms {
            match room.current() {
                Some(known) if tenure.is_some_and(|tenure| room.is_verified(tenure)) => {
                    currents.insert(room.nid, known);
                }
                known => {
                    asked.insert(room.nid, (room, known));
                }
            }
        }
        if asked.is_empty() {
            return Ok(currents);
        }
        let nids: Vec<RoomNid> = asked.keys().copied().collect();
        let mut conn = self.pool().acquire().await?;
        let rows = room::list_states(&mut conn, &nids).await?;
        drop(conn);
        let nids: Vec<SnapshotNid> = rows.iter().map(|row| row.2).collect();
        let snapshots = self.snapshots().map(nids).await?;
        for (nid, revision, snapshot) in rows {
            let (Some((room, known)), Some(snapshot)) =
                (asked.remove(&nid), snapshots.get(&snapshot))
            else {
                continue;
            };
            let read = Current {
                revision,
                snapshot: Arc::clone(snapshot),
            };
            let current = known.filter(|known| known.revision >= revision);
            let current = current.unwrap_or(read);
            room.set_current(current.clone());
            room.verify(tenure);
            currents.insert(nid, current);
        }
        Ok(currents)
    }

    /// The current state as this process knows it: for what may be a moment behind, because it decides about nobody's
    /// access or is asked right after [`Rooms::current`].
    pub async fn known_current(&self, room: &Room) -> sqlx::Result<Option<Current>> {
        match room.current() {
            Some(current) => Ok(Some(current)),
            None => self.current(room).await,
        }
    }

    /// The current states of rooms, like [`Rooms::known_current`].
    pub async fn known_currents(
        &self,
        rooms: &[Arc<Room>],
    ) -> sqlx::Result<HashMap<RoomNid, Current>> {
        let mut known = HashMap::with_capacity(rooms.len());
        let mut unknown = Vec::new();
        for room in rooms {
            match room.current() {
                Some(current) => {
                    known.insert(room.nid, current);
                }
                None => unknown.push(Arc::clone(room)),
            }
        }
        known.extend(self.currents(&unknown).await?);
        Ok(known)
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
        let kinds: Vec<String> = keys.iter().map(|(kind, _)| kind.to_string()).collect();
        let pairs = kinds.iter().zip(&keys);
        let pairs: Vec<_> = pairs
            .map(|(kind, (_, key))| (kind.as_str(), key.as_str()))
            .collect();
        let found = self.interner().find_state_keys(&pairs).await?;
        let wanted: Vec<_> = keys
            .into_iter()
            .zip(found)
            .filter_map(|(key, found)| Some((key, state.get(&found?).copied()?)))
            .collect();
        let events = self
            .events()
            .map(wanted.iter().map(|(_, nid)| *nid))
            .await?;
        let held = wanted
            .into_iter()
            .filter_map(|(key, nid)| Some((key, Arc::clone(events.get(&nid)?))));
        Ok(held.collect())
    }

    /// Brings into memory, in one statement, the events that hold some keys of many states.
    pub async fn load_state(
        &self,
        snapshots: &[Arc<Snapshot>],
        keys: &[(&str, &str)],
    ) -> sqlx::Result<()> {
        let keys = self.interner().find_state_keys(keys).await?;
        let wanted: HashSet<EventNid> = snapshots
            .iter()
            .flat_map(|snapshot| keys.iter().flatten().map(|key| snapshot.get(*key)))
            .flatten()
            .collect();
        self.events().map(wanted).await?;
        Ok(())
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
