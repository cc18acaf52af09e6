//! The state after several events: where a room's branches meet.

use std::sync::Arc;

use hearth_core::{EventNid, SnapshotNid, StateKeyNid};
use hearth_store::write::Status;
use moka::future::Cache;
use ruma::{EventId, OwnedEventId};

use crate::{
    Rooms,
    event::RoomEvent,
    room::Room,
    snapshot::{Snapshot, StateMap, is_same},
};

/// How many merged states are remembered. They share most of their entries with the snapshots.
const REMEMBERED: u64 = 10_000;

/// The state after an event.
#[derive(Clone, Debug)]
pub(crate) enum After {
    /// A snapshot, with the entry that the event changed in it.
    Event {
        before: Arc<Snapshot>,
        own: Option<(StateKeyNid, EventNid)>,
    },
    /// What another server told.
    Told(StateMap),
}

/// Which state an [`After`] is.
pub(crate) type Key = (SnapshotNid, Option<EventNid>);

impl After {
    /// The state after `event`; a rejected one changes nothing.
    pub(crate) fn of(event: &RoomEvent, before: Arc<Snapshot>) -> Self {
        let own = event.state_key.map(|key| (key, event.nid));
        let own = own.filter(|_| event.status != Status::Rejected);
        Self::Event { before, own }
    }

    fn key(&self) -> Option<Key> {
        match self {
            Self::Event { before, own } => Some((before.nid, own.map(|(_, nid)| nid))),
            Self::Told(_) => None,
        }
    }

    fn map(&self) -> StateMap {
        match self {
            Self::Event { before, own: None } => before.map.clone(),
            Self::Event {
                before,
                own: Some((key, event)),
            } => before.map.update(*key, *event),
            Self::Told(map) => map.clone(),
        }
    }
}

/// What several states come to.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    /// The state.
    pub(crate) map: StateMap,
    /// The snapshot that holds it, if one is known.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    /// Which states it was made of, for the snapshot that will hold it.
    pub(crate) key: Option<Vec<Key>>,
    /// A snapshot that is not far from it.
    pub(crate) near: Option<Arc<Snapshot>>,
}

/// The states that were merged lately.
#[derive(Debug)]
pub(crate) struct MergedStates(Cache<Vec<Key>, (StateMap, Option<Arc<Snapshot>>)>);

impl Default for MergedStates {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl MergedStates {
    /// Remembers which snapshot holds a merged state, once it is committed.
    pub(crate) async fn remember(&self, key: Vec<Key>, snapshot: Arc<Snapshot>) {
        self.0
            .insert(key, (snapshot.map.clone(), Some(snapshot)))
            .await;
    }

    /// Forgets which snapshot holds a merged state: it may be gone, if nothing used it.
    pub(crate) async fn doubt(&self, key: &Vec<Key>) {
        if let Some((map, Some(_))) = self.0.get(key).await {
            self.0.insert(key.clone(), (map, None)).await;
        }
    }

    /// Forgets everything: the numbers may mean something else now.
    pub(crate) fn forget_all(&self) {
        self.0.invalidate_all();
    }
}

impl Rooms {
    /// The state before an event that comes after `previous`.
    ///
    /// # Errors
    ///
    /// When the database fails, or one of them has no place in the room.
    pub async fn state_after_all(
        &self,
        room: &Room,
        previous: &[OwnedEventId],
    ) -> sqlx::Result<StateMap> {
        let ids: Vec<&EventId> = previous.iter().map(AsRef::as_ref).collect();
        let events = self.by_id(&ids).await?;
        let mut states = Vec::with_capacity(previous.len());
        for id in previous {
            let event = events.get(id).filter(|event| event.room == room.nid);
            let event = event.ok_or(sqlx::Error::RowNotFound)?;
            let before = event.snapshot.ok_or(sqlx::Error::RowNotFound)?;
            states.push(After::of(event, self.snapshots().get(before).await?));
        }
        Ok(self.merge(room, &states).await?.map)
    }

    /// Resolves states; none at all come to the empty state.
    pub(crate) async fn merge(&self, room: &Room, states: &[After]) -> sqlx::Result<Merged> {
        let key: Option<Vec<Key>> = states.iter().map(After::key).collect();
        let key = key.map(|mut key| {
            key.sort_unstable();
            key.dedup();
            key
        });
        let near = states.iter().find_map(|state| match state {
            After::Event { before, .. } => Some(Arc::clone(before)),
            After::Told(_) => None,
        });
        if let (Some([_]), Some(After::Event { before, own: None })) =
            (key.as_deref(), states.first())
        {
            return Ok(Merged {
                map: before.map.clone(),
                snapshot: Some(Arc::clone(before)),
                key: None,
                near,
            });
        }
        if let Some(key) = &key
            && let Some((map, snapshot)) = self.0.merged.0.get(key).await
        {
            return Ok(Merged {
                map,
                snapshot,
                key: Some(key.clone()),
                near,
            });
        }
        let mut maps: Vec<StateMap> = Vec::with_capacity(states.len());
        for map in states.iter().map(After::map) {
            if !maps.iter().any(|known| is_same(known, &map)) {
                maps.push(map);
            }
        }
        let map = match maps.as_slice() {
            [] => StateMap::new(),
            [map] => map.clone(),
            maps => self.resolve(room, maps).await?,
        };
        let snapshot = states.iter().find_map(|state| match state {
            After::Event { before, .. } if is_same(&before.map, &map) => Some(Arc::clone(before)),
            After::Event { .. } | After::Told(_) => None,
        });
        if let Some(key) = key.clone().filter(|key| key.len() > 1) {
            let value = (map.clone(), snapshot.clone());
            self.0.merged.0.insert(key, value).await;
        }
        Ok(Merged {
            map,
            snapshot,
            key,
            near,
        })
    }
}
