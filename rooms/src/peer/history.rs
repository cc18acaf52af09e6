//! What other servers read of rooms: single events, states, auth chains, history.

use std::{collections::HashSet, sync::Arc};

use hearth_core::EventNid;
use hearth_store::{
    event as event_table,
    timeline::{self, Towards},
    write::Status,
};
use ruma::{EventId, OwnedEventId, RoomId, ServerName};

use super::{
    PeerError,
    walk::{Start, WalkRequest},
};
use crate::{Rooms, event::RoomEvent, peers::MissingEvents, room::Room};

/// How many events one answer to `/backfill` holds.
const BACKFILLED: usize = 100;

/// How many events one answer to `/get_missing_events` holds.
const MISSING: usize = 50;

/// How many event ids of a request are looked at.
const NAMED: usize = 100;

/// How many events close to a time are looked at for one that the server may see.
const CLOSE: i64 = 50;

/// The state before an event, and what authorises it.
#[derive(Clone, Debug)]
pub struct StateBefore<T> {
    /// The state.
    pub state: Vec<T>,
    /// The auth chains of its events.
    pub auth_chain: Vec<T>,
}

impl Rooms {
    /// An event, as `origin` may read it.
    ///
    /// # Errors
    ///
    /// See [`PeerError`].
    pub async fn event_for(
        &self,
        origin: &ServerName,
        event_id: &EventId,
    ) -> Result<Arc<RoomEvent>, PeerError> {
        let nids = self.events().nids(&[event_id]).await?;
        let nid = nids.get(event_id).ok_or(PeerError::NotFound)?;
        let event = self.events().get(*nid).await?;
        let room = self.find_by_nid(event.room).await?;
        let room = room.ok_or(PeerError::NotFound)?;
        let room = self.room_of_member(origin, &room.id).await?;
        if event.status == Status::Rejected {
            return Err(PeerError::NotFound);
        }
        let mut served = self.for_server(&room, origin, vec![event]).await?;
        served.pop().ok_or(PeerError::NotFound)
    }

    /// The state before an event of a room that `origin` is in.
    ///
    /// # Errors
    ///
    /// See [`PeerError`].
    pub async fn state_before(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateBefore<Arc<RoomEvent>>, PeerError> {
        let numbers = self.state_numbers(origin, room_id, event_id).await?;
        let state = self.events().map(numbers.state).await?;
        let auth_chain = self.events().map(numbers.auth_chain).await?;
        Ok(StateBefore {
            state: state.into_values().collect(),
            auth_chain: auth_chain.into_values().collect(),
        })
    }

    /// The ids of the state before an event of a room that `origin` is in.
    ///
    /// # Errors
    ///
    /// See [`PeerError`].
    pub async fn state_ids_before(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateBefore<OwnedEventId>, PeerError> {
        let numbers = self.state_numbers(origin, room_id, event_id).await?;
        Ok(StateBefore {
            state: self.ids_of(&numbers.state).await?,
            auth_chain: self.ids_of(&numbers.auth_chain).await?,
        })
    }

    async fn ids_of(&self, nids: &[EventNid]) -> sqlx::Result<Vec<OwnedEventId>> {
        let mut conn = self.pool().acquire().await?;
        let ids = event_table::list_ids(&mut conn, nids).await?;
        ids.iter()
            .map(|id| EventId::parse(id).map_err(|error| sqlx::Error::Decode(error.into())))
            .collect()
    }

    async fn state_numbers(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateBefore<EventNid>, PeerError> {
        let room = self.room_of_member(origin, room_id).await?;
        let event = self.event_in(&room, event_id).await?;
        let before = event.snapshot.ok_or(PeerError::NotFound)?;
        let before = self.snapshot(before).await?;
        let state: Vec<EventNid> = before.map.values().copied().collect();
        let auth_chain = self.auth_chain(&state).await?;
        Ok(StateBefore {
            auth_chain: auth_chain.into_iter().collect(),
            state,
        })
    }

    /// Everything that authorises an event of a room that `origin` is in.
    ///
    /// # Errors
    ///
    /// See [`PeerError`].
    pub async fn auth_chain_for(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<Vec<Arc<RoomEvent>>, PeerError> {
        let room = self.room_of_member(origin, room_id).await?;
        let event = self.event_in(&room, event_id).await?;
        let chain = self.auth_chain(&[event.nid]).await?;
        let chain = self.events().map(chain).await?;
        Ok(chain.into_values().collect())
    }

    /// The events `from` of a room that `origin` is in and those before them, the deepest first.
    ///
    /// # Errors
    ///
    /// See [`PeerError`].
    pub async fn history_for(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        from: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Arc<RoomEvent>>, PeerError> {
        let room = self.room_of_member(origin, room_id).await?;
        let from = from.get(..NAMED).unwrap_or(from);
        let request = WalkRequest {
            from: self.stored(&room, from).await?,
            earliest: HashSet::new(),
            min_depth: 0,
            limit: limit.min(BACKFILLED),
            start: Start::Included,
        };
        let events = self.walk_back(&room, request).await?;
        Ok(self.for_server(&room, origin, events).await?)
    }

    /// The events before `wanted.latest` that `origin`, which has `wanted.earliest`, has not, the deepest last.
    ///
    /// # Errors
    ///
    /// See [`PeerError`].
    pub async fn missing_events_for(
        &self,
        origin: &ServerName,
        wanted: &MissingEvents,
    ) -> Result<Vec<Arc<RoomEvent>>, PeerError> {
        let room = self.room_of_member(origin, &wanted.room_id).await?;
        let latest = wanted.latest.get(..NAMED).unwrap_or(&wanted.latest);
        let earliest = wanted.earliest.iter().take(NAMED).map(AsRef::as_ref);
        let request = WalkRequest {
            from: self.stored(&room, latest).await?,
            earliest: earliest.collect(),
            min_depth: wanted.min_depth,
            limit: usize::try_from(wanted.limit).map_or(MISSING, |limit| limit.min(MISSING)),
            start: Start::Excluded,
        };
        let mut events = self.walk_back(&room, request).await?;
        events.reverse();
        Ok(self.for_server(&room, origin, events).await?)
    }

    /// The event closest to `ts` in one direction that `origin`, which is in the room, may see.
    ///
    /// # Errors
    ///
    /// See [`PeerError`].
    pub async fn closest_for(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        ts: i64,
        towards: Towards,
    ) -> Result<Arc<RoomEvent>, PeerError> {
        let room = self.room_of_member(origin, room_id).await?;
        let mut conn = self.pool().acquire().await?;
        let close = timeline::list_by_time(&mut conn, room.nid, ts, towards, CLOSE).await?;
        drop(conn);
        let events = self.events().map(close.clone()).await?;
        let events: Vec<Arc<RoomEvent>> = close
            .iter()
            .filter_map(|nid| events.get(nid).cloned())
            .collect();
        let seen = self.seen_by(&room, origin, &events).await?;
        let mut events = events.into_iter();
        events
            .find(|event| seen.contains(&event.nid))
            .ok_or(PeerError::NotFound)
    }

    /// An event of a room that is not rejected.
    async fn event_in(&self, room: &Room, event_id: &EventId) -> Result<Arc<RoomEvent>, PeerError> {
        let nids = self.events().nids(&[event_id]).await?;
        let nid = nids.get(event_id).ok_or(PeerError::NotFound)?;
        let event = self.events().get(*nid).await?;
        if event.room != room.nid || event.status == Status::Rejected {
            return Err(PeerError::NotFound);
        }
        Ok(event)
    }
}
