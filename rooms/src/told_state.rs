//! The state at a place in a room's graph that this server has not, as another server tells it.
//!
//! Server-Server API, "Retrieving events". What is told is checked event by event and never simply taken over: it is
//! resolved with what we know.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt as _, stream};
use hearth_core::{EventNid, StateKeyNid};
use hearth_store::{event as event_table, write::Status};
use ruma::{EventId, OwnedEventId, OwnedServerName, ServerName};
use serde_json::value::RawValue;

use crate::{
    Rooms,
    incoming::{Incoming, Malformed, Verified},
    merge::After,
    peers::MOST_STATE,
    receive::ReceiveError,
    room::Room,
    snapshot::StateMap,
};

/// Up to how many events of a told state are fetched one by one; more come with the whole state.
const SINGLE: usize = 50;

/// How many events are fetched at the same time.
const AT_ONCE: usize = 8;

/// How many servers beside the one that sent an event are asked for what it does not tell.
const OTHERS: usize = 2;

/// How many events are verified at a time: before that an event is more than twice as large in memory.
const VERIFIED: usize = 2_000;

/// For how long the key of an event that is just told of may yet be had, in milliseconds.
const YOUNG: u64 = 60 * 60 * 1_000;

/// How many events of a told state may be had from nobody.
const HOLES: usize = 100;

impl Rooms {
    /// Asks `origin` for the state after an event that is not here; stores what is new of it.
    pub(crate) async fn told_state(
        &self,
        room: &Room,
        origin: &ServerName,
        event_id: &EventId,
    ) -> Result<After, ReceiveError> {
        let told = self.peers().state_ids(origin, &room.id, event_id).await;
        let told = told.map_err(|_| ReceiveError::Missing)?;
        if told.state.len() + told.auth_chain.len() > MOST_STATE {
            return Err(ReceiveError::Missing);
        }
        let mut all: Vec<&EventId> = told.state.iter().map(AsRef::as_ref).collect();
        all.extend(told.auth_chain.iter().map(|id| &**id));
        all.push(event_id);
        self.fetch(room, origin, (event_id, &all)).await?;
        let at = self.by_id(&[event_id]).await?.remove(event_id);
        let at = at.filter(|at| at.room == room.nid);
        if at.is_none() && !self.is_spoiled(room, origin, event_id).await {
            // What the event itself changed in the state cannot be told without it.
            return Err(ReceiveError::Missing);
        }

        let ids: Vec<&str> = told.state.iter().map(|id| id.as_str()).collect();
        let mut conn = self.pool().acquire().await?;
        let held = event_table::list_known(&mut conn, &ids).await?;
        drop(conn);
        let usable = held
            .iter()
            .filter(|event| event.room == room.nid && event.status != Status::Rejected as i16);
        let mut map: StateMap = usable
            .filter_map(|event| Some((event.state_key?, event.nid)))
            .collect();
        let holes = ids.len().saturating_sub(held.len());
        if holes > HOLES {
            return Err(ReceiveError::Missing);
        }
        if holes > 0 {
            tracing::debug!(%event_id, room_id = %room.id, "{holes} events of a state cannot be had");
            let depth = at.as_ref().map_or(i64::MAX, |at| at.pdu.depth);
            self.fill_holes(room, &mut map, depth).await?;
        }
        if let Some(at) = at.filter(|at| at.status != Status::Rejected)
            && let Some(key) = at.state_key
            && self.allows(room, &at.pdu, &map).await?.is_ok()
        {
            map.insert(key, at.nid);
        }
        Ok(After::Told(map))
    }

    /// Whether a server has an event that is to be dropped for what it is: then the state after it is the state before it.
    ///
    /// When only the key of its signature cannot be had, it may be a good one, and what it changes in the state counts.
    /// But the room does not wait for ever for a server that is gone: an old event is dropped then, too.
    async fn is_spoiled(&self, room: &Room, server: &ServerName, event_id: &EventId) -> bool {
        let Ok(event) = self.peers().event(server, event_id).await else {
            return false;
        };
        let Ok(event) = Incoming::read(&event, &room.id, &room.rules) else {
            return true;
        };
        if event.event_id() != event_id {
            return false;
        }
        let made = u64::from(event.origin_server_ts().get());
        let age = u64::from(self.clock().now().get()).abs_diff(made);
        let may_change_state = event.is_state();
        match self.verify(&room.rules, vec![event]).await.pop() {
            Some(Ok(_)) | None => false,
            Some(Err(Malformed::NoKey(_))) => !may_change_state || age > YOUNG,
            Some(Err(_)) => true,
        }
    }

    /// Reads events that are only to be stored, some at a time, and checks their signatures.
    async fn read_outliers(&self, room: &Room, events: &[Box<RawValue>]) -> Vec<Verified> {
        let mut read = Vec::with_capacity(events.len().min(MOST_STATE));
        for some in events[..events.len().min(MOST_STATE)].chunks(VERIFIED) {
            let verified = self.read_and_verify(room, some, some.len()).await;
            read.extend(verified.into_iter().map(Verified::without_object));
        }
        read
    }

    /// The servers in a room that are asked for what `origin` does not tell.
    pub(crate) async fn others_to_ask(
        &self,
        room: &Room,
        origin: &ServerName,
    ) -> sqlx::Result<Vec<OwnedServerName>> {
        let listed = self.list_servers(room).await?;
        let own = &self.identity().server_name;
        let others = listed.iter().filter(|name| *name != origin && *name != own);
        Ok(others.take(OTHERS).cloned().collect())
    }

    /// Puts what we know in place of what nobody could tell of a state before `depth`: which keys lack their events is
    /// not known, so every key that the state lacks gets what it holds now, unless that came later.
    ///
    /// Else who leaves things out of a state could take away what stands against him.
    async fn fill_holes(
        &self,
        room: &Room,
        map: &mut StateMap,
        depth: i64,
    ) -> Result<(), ReceiveError> {
        let Some(current) = self.known_current(room).await? else {
            return Ok(());
        };
        let ours = current.snapshot.map.iter();
        let absent: HashMap<StateKeyNid, EventNid> = ours
            .filter(|(key, _)| !map.contains_key(*key))
            .map(|(key, nid)| (*key, *nid))
            .collect();
        let events = self.events().map(absent.values().copied()).await?;
        let is_earlier = |nid: &EventNid| events.get(nid).is_some_and(|e| e.pdu.depth < depth);
        let earlier = absent.into_iter().filter(|(_, nid)| is_earlier(nid));
        map.extend(earlier);
        Ok(())
    }

    /// Fetches those of `wanted` that are not here, which are the state before `at`, what authorises it, and `at`
    /// itself, and stores them as outliers. What `origin` does not tell, others in the room are asked for.
    async fn fetch(
        &self,
        room: &Room,
        origin: &ServerName,
        (at, wanted): (&EventId, &[&EventId]),
    ) -> Result<(), ReceiveError> {
        let mut others = Vec::new();
        for round in 0..=OTHERS {
            let stored = self.events().nids(wanted).await?;
            let lacked: HashSet<&EventId> = wanted
                .iter()
                .copied()
                .filter(|id| !stored.contains_key(*id))
                .collect();
            if lacked.is_empty() {
                break;
            }
            if round == 1 {
                others = self.others_to_ask(room, origin).await?;
            }
            let server = match round {
                0 => Some(origin),
                _ => others.get(round - 1).map(AsRef::as_ref),
            };
            let Some(server) = server else { break };
            let events = self.ask_for(room, server, (at, &lacked)).await;
            let mut events = self.read_outliers(room, &events).await;
            events.retain(|event| lacked.contains(event.event_id()));
            self.store_outliers(room, &events).await?;
        }
        Ok(())
    }

    /// Asks a server for events of the state before `at`, one by one or, when they are many, for all of it at once.
    async fn ask_for(
        &self,
        room: &Room,
        server: &ServerName,
        (at, lacked): (&EventId, &HashSet<&EventId>),
    ) -> Vec<Box<RawValue>> {
        let peers = self.peers();
        let mut single: Vec<&EventId> = lacked.iter().copied().collect();
        let mut events: Vec<Box<RawValue>> = Vec::new();
        if single.len() > SINGLE {
            let whole = peers.state(server, &room.id, at).await;
            events = whole.unwrap_or_default();
            single.retain(|id| *id == at);
        }
        // Collected first: with closures in the stream the compiler cannot see that the future is `Send`.
        let asked: Vec<_> = single
            .into_iter()
            .map(|id| peers.event(server, id))
            .collect();
        let fetched = stream::iter(asked).buffer_unordered(AT_ONCE);
        let fetched: Vec<_> = fetched.collect().await;
        events.extend(fetched.into_iter().filter_map(Result::ok));
        events
    }

    /// Fetches what authorises an event and is neither here nor about to come: from `origin`, or from others in the room.
    pub(crate) async fn complete_authorities(
        &self,
        room: &Room,
        origin: &ServerName,
        (event, coming): (&Verified, &HashSet<OwnedEventId>),
    ) -> Result<(), ReceiveError> {
        let mut ids = event.authorities(&room.rules);
        ids.retain(|id| !coming.contains(id));
        // An event may cite another one twice, and is rejected for it later.
        ids.sort_unstable();
        ids.dedup();
        let ids: Vec<&EventId> = ids.iter().map(AsRef::as_ref).collect();
        if self.events().nids(&ids).await?.len() == ids.len() {
            return Ok(());
        }
        let _alone = room.authorities.lock().await;
        // Who waited finds what was fetched meanwhile.
        if self.events().nids(&ids).await?.len() == ids.len() {
            return Ok(());
        }
        let mut servers = vec![origin.to_owned()];
        servers.extend(self.others_to_ask(room, origin).await?);
        for server in &servers {
            let asking = self.peers().event_auth(server, &room.id, event.event_id());
            let Ok(told) = asking.await else { continue };
            let events = self.read_outliers(room, &told).await;
            self.store_outliers(room, &events).await?;
            if self.events().nids(&ids).await?.len() == ids.len() {
                return Ok(());
            }
        }
        Err(ReceiveError::Missing)
    }
}
