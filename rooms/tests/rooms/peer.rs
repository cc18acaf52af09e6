//! A server that is made up: it signs what tests want and answers what rooms ask.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use futures_util::future::BoxFuture;
use hearth_core::{Pdu, signing::ServerKey};
use hearth_rooms::{
    Room,
    peers::{
        ClosestEvent, MissingEvents, Peers, PolicyError, RemoteError, Signer, SignerKeys, StateIds,
    },
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId,
    OwnedServerName, OwnedUserId, RoomId, ServerName, UserId, api::Direction,
    room_version_rules::RoomVersionRules, serde::Base64, signatures::hash_and_sign_event,
};
use serde_json::{Value, json, value::RawValue};

use crate::engine::{Engine, canonical};

/// A server with a key and the events that it tells of when it is asked.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: OwnedServerName,
    pub(crate) key: ServerKey,
    events: Mutex<HashMap<OwnedEventId, Event>>,
    states: Mutex<HashMap<OwnedEventId, StateIds>>,
    /// Whether it signs as a policy server.
    pub(crate) recommends: Mutex<bool>,
    /// Whether it tells of no missing events.
    pub(crate) is_silent: AtomicBool,
    /// What it tells of by its id alone, not as a missing event.
    kept_back: Mutex<HashSet<OwnedEventId>>,
    /// How often it was asked for missing events.
    pub(crate) asked: AtomicUsize,
    /// How often it was asked for a state.
    pub(crate) asked_for_state: AtomicUsize,
    /// How often it was asked to sign as a policy server.
    pub(crate) asked_to_sign: AtomicUsize,
    /// Until when its key is good, in milliseconds.
    pub(crate) key_until: AtomicU64,
    /// Whether it gives no answer as a policy server.
    pub(crate) is_mute: AtomicBool,
}

/// A signed event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: OwnedEventId,
    pub(crate) pdu: Pdu,
    pub(crate) json: Box<RawValue>,
}

impl Event {
    pub(crate) fn server(&self) -> &ServerName {
        self.pdu.sender.server_name()
    }
}

/// A place in a room where events are put: after which events, and in which state.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    rules: RoomVersionRules,
    room_id: String,
    previous: Vec<(OwnedEventId, i64)>,
    /// The state there: type and key to event.
    state: BTreeMap<(String, String), OwnedEventId>,
    clock: u64,
}

/// An event that is not signed.
#[derive(Clone, Debug)]
pub(crate) struct Unsigned {
    pub(crate) rules: RoomVersionRules,
    pub(crate) object: CanonicalJsonObject,
}

impl Peer {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        let seed: [u8; 32] = std::array::from_fn(|at| name.as_bytes()[at % name.len()]);
        Arc::new(Self {
            name: ServerName::parse(name).unwrap(),
            key: ServerKey::from_seed(&seed),
            events: Mutex::default(),
            states: Mutex::default(),
            recommends: Mutex::new(true),
            is_silent: AtomicBool::new(false),
            kept_back: Mutex::default(),
            asked: AtomicUsize::new(0),
            asked_for_state: AtomicUsize::new(0),
            asked_to_sign: AtomicUsize::new(0),
            key_until: AtomicU64::new(u64::MAX),
            is_mute: AtomicBool::new(false),
        })
    }

    pub(crate) fn user(&self, name: &str) -> OwnedUserId {
        UserId::parse(format!("@{name}:{}", self.name)).unwrap()
    }

    /// Has the peer tell of events.
    pub(crate) fn tell(&self, events: &[&Event]) {
        let mut known = self.events.lock().unwrap();
        known.extend(
            events
                .iter()
                .map(|event| (event.id.clone(), (*event).clone())),
        );
    }

    /// Has the peer not know an event any more.
    pub(crate) fn forget(&self, event: &Event) {
        self.events.lock().unwrap().remove(&event.id);
    }

    /// Has the peer tell of an event that it is asked for by its id.
    pub(crate) fn tell_by_id(&self, event: &Event) {
        self.kept_back.lock().unwrap().insert(event.id.clone());
        self.tell(&[event]);
    }

    /// Has the peer tell of everything that it knows.
    pub(crate) fn tell_all(&self) {
        self.kept_back.lock().unwrap().clear();
    }

    /// Has the peer tell of the state before an event.
    pub(crate) fn tell_state(&self, event: &Event, state: Vec<OwnedEventId>) {
        let ids = StateIds {
            state,
            auth_chain: Vec::new(),
        };
        self.states.lock().unwrap().insert(event.id.clone(), ids);
    }

    /// The place after the newest events of a room.
    pub(crate) async fn on_top(&self, engine: &Engine, room: &Room) -> Place {
        let mut previous = Vec::new();
        for id in engine.extremities(room).await {
            let event = engine.event(&EventId::parse(&id).unwrap()).await.unwrap();
            previous.push((event.pdu.event_id.clone(), event.pdu.depth));
        }
        let state = engine.state(room).await;
        let state = state.iter().map(|event| {
            let key = event.pdu.state_key.clone().unwrap_or_default();
            (
                (event.pdu.kind.to_string(), key),
                event.pdu.event_id.clone(),
            )
        });
        Place {
            rules: room.rules.clone(),
            room_id: room.id.to_string(),
            previous,
            state: state.collect(),
            clock: engine.now(),
        }
    }

    fn event_of(&self, id: &EventId) -> Option<Event> {
        self.events.lock().unwrap().get(id).cloned()
    }
}

impl Place {
    /// The place after an event that was put at one or more places.
    pub(crate) fn after(mut self, event: &Event) -> Self {
        self.previous = vec![(event.id.clone(), event.pdu.depth)];
        if let Some(key) = &event.pdu.state_key {
            let key = (event.pdu.kind.to_string(), key.clone());
            self.state.insert(key, event.id.clone());
        }
        self.clock += 1;
        self
    }

    /// The place after these events too; the state stays.
    pub(crate) fn and(mut self, events: &[&Event]) -> Self {
        let more = events
            .iter()
            .map(|event| (event.id.clone(), event.pdu.depth));
        self.previous.extend(more);
        self
    }

    /// The place after these events and no others; the state stays.
    pub(crate) fn only_after(mut self, events: &[&Event]) -> Self {
        self.previous.clear();
        self.and(events)
    }

    /// The ids of the events before.
    pub(crate) fn previous_ids(&self) -> Vec<OwnedEventId> {
        self.previous.iter().map(|(id, _)| id.clone()).collect()
    }

    /// The same place with another state.
    pub(crate) fn holding(mut self, state: HashMap<(String, String), OwnedEventId>) -> Self {
        self.state = state.into_iter().collect();
        self
    }

    /// The ids of the state here.
    pub(crate) fn state_ids(&self) -> Vec<OwnedEventId> {
        self.state.values().cloned().collect()
    }

    /// Lets time go by.
    pub(crate) fn later(mut self, millis: u64) -> Self {
        self.clock += millis;
        self
    }

    /// Lets an event hold its key, whatever came before.
    pub(crate) fn with(mut self, event: &Event) -> Self {
        if let Some(key) = &event.pdu.state_key {
            let key = (event.pdu.kind.to_string(), key.clone());
            self.state.insert(key, event.id.clone());
        }
        self
    }

    pub(crate) fn message(&self, sender: &UserId, body: &str) -> Unsigned {
        let content = json!({ "body": body, "msgtype": "m.text" });
        self.event(sender, ("m.room.message", None), &content)
    }

    pub(crate) fn state(
        &self,
        sender: &UserId,
        (kind, key): (&str, &str),
        content: &Value,
    ) -> Unsigned {
        self.event(sender, (kind, Some(key)), content)
    }

    /// An event with the auth events that the specification selects.
    pub(crate) fn event(
        &self,
        sender: &UserId,
        (kind, key): (&str, Option<&str>),
        content: &Value,
    ) -> Unsigned {
        let types = ruma::state_res::auth_types_for_event(
            &kind.into(),
            sender,
            key,
            &serde_json::value::to_raw_value(content).unwrap(),
            &self.rules.authorization,
        )
        .unwrap_or_default();
        let auth: Vec<Value> = types
            .into_iter()
            .filter_map(|(kind, key)| self.state.get(&(kind.to_string(), key)))
            .map(|id| json!(id))
            .collect();
        let previous: Vec<Value> = self.previous.iter().map(|(id, _)| json!(id)).collect();
        let depth = self.previous.iter().map(|(_, depth)| depth).max();
        let mut event = json!({
            "auth_events": auth,
            "content": content,
            "depth": depth.unwrap_or(&0) + 1,
            "origin_server_ts": self.clock,
            "prev_events": previous,
            "room_id": self.room_id,
            "sender": sender,
            "type": kind,
        });
        if let Some(key) = key {
            event["state_key"] = json!(key);
        }
        Unsigned {
            rules: self.rules.clone(),
            object: canonical(event),
        }
    }
}

impl Unsigned {
    /// Changes a field.
    pub(crate) fn set(mut self, key: &str, value: Value) -> Self {
        let value: CanonicalJsonValue = serde_json::from_value(value).unwrap();
        self.object.insert(key.to_owned(), value);
        self
    }

    /// Hashes and signs it.
    pub(crate) fn sign(mut self, peer: &Peer) -> Event {
        let name = peer.name.as_str();
        hash_and_sign_event(name, &peer.key, &mut self.object, &self.rules.redaction).unwrap();
        self.unsigned()
    }

    /// Takes it as it is.
    pub(crate) fn unsigned(self) -> Event {
        let pdu = Pdu::from_canonical(&self.object, &self.rules).unwrap();
        Event {
            id: pdu.event_id.clone(),
            json: pdu.json.clone(),
            pdu,
        }
    }
}

/// All peers of an engine.
#[derive(Debug, Default)]
pub(crate) struct World(pub(crate) Vec<Arc<Peer>>);

impl World {
    fn find(&self, name: &ServerName) -> Result<&Arc<Peer>, RemoteError> {
        let found = self.0.iter().find(|peer| peer.name == name);
        found.ok_or(RemoteError::Unknown)
    }
}

impl Peers for World {
    fn keys<'a>(&'a self, wanted: &'a [Signer]) -> BoxFuture<'a, SignerKeys> {
        let mut map = SignerKeys::new();
        for signer in wanted {
            let at = signer.at.map_or(0, |at| u64::from(at.get()));
            if let Ok(peer) = self.find(&signer.server)
                && peer.key.id() == signer.key_id
                && at <= peer.key_until.load(Ordering::Relaxed)
            {
                map.insert(signer.clone(), peer.key.public());
            }
        }
        Box::pin(async move { map })
    }

    fn missing_events<'a>(
        &'a self,
        from: &'a ServerName,
        wanted: &'a MissingEvents,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>> {
        Box::pin(async move {
            let peer = self.find(from)?;
            peer.asked.fetch_add(1, Ordering::Relaxed);
            if peer.is_silent.load(Ordering::Relaxed) {
                return Ok(Vec::new());
            }
            let mut open = wanted.latest.clone();
            let mut found: Vec<Event> = Vec::new();
            while let Some(id) = open.pop() {
                let Some(event) = peer.event_of(&id) else {
                    continue;
                };
                for id in &event.pdu.prev_events {
                    let is_new = !wanted.earliest.contains(id)
                        && found.iter().all(|event| event.id != *id)
                        && found.len() < wanted.limit as usize;
                    let is_told = !peer.kept_back.lock().unwrap().contains(id);
                    if let Some(event) = peer.event_of(id).filter(|_| is_new && is_told) {
                        found.push(event);
                        open.push(id.clone());
                    }
                }
            }
            Ok(found.into_iter().map(|event| event.json).collect())
        })
    }

    fn event<'a>(
        &'a self,
        from: &'a ServerName,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Result<Box<RawValue>, RemoteError>> {
        let event = self.find(from).map(|peer| peer.event_of(event_id));
        Box::pin(async move { event?.map(|event| event.json).ok_or(RemoteError::Refused) })
    }

    fn state_ids<'a>(
        &'a self,
        from: &'a ServerName,
        _: &'a RoomId,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Result<StateIds, RemoteError>> {
        Box::pin(async move {
            let peer = self.find(from)?;
            peer.asked_for_state.fetch_add(1, Ordering::Relaxed);
            let states = peer.states.lock().unwrap();
            states.get(event_id).cloned().ok_or(RemoteError::Refused)
        })
    }

    fn state<'a>(
        &'a self,
        from: &'a ServerName,
        _: &'a RoomId,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>> {
        Box::pin(async move {
            let peer = self.find(from)?;
            let states = peer.states.lock().unwrap();
            let ids = states.get(event_id).ok_or(RemoteError::Refused)?;
            let ids = ids.state.iter().chain(&ids.auth_chain);
            Ok(ids.filter_map(|id| Some(peer.event_of(id)?.json)).collect())
        })
    }

    fn event_auth<'a>(
        &'a self,
        from: &'a ServerName,
        _: &'a RoomId,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>> {
        Box::pin(async move {
            let peer = self.find(from)?;
            let mut open = vec![event_id.to_owned()];
            let mut found: Vec<Event> = Vec::new();
            while let Some(id) = open.pop() {
                let Some(event) = peer.event_of(&id) else {
                    continue;
                };
                for id in &event.pdu.auth_events {
                    let is_new = found.iter().all(|event| event.id != *id);
                    if let Some(event) = peer.event_of(id).filter(|_| is_new) {
                        found.push(event);
                        open.push(id.clone());
                    }
                }
            }
            Ok(found.into_iter().map(|event| event.json).collect())
        })
    }

    fn backfill<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a RoomId,
        _: &'a [OwnedEventId],
        _: u32,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>> {
        Box::pin(async { Err(RemoteError::Refused) })
    }

    fn closest_event<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a RoomId,
        _: MilliSecondsSinceUnixEpoch,
        _: Direction,
    ) -> BoxFuture<'a, Result<ClosestEvent, RemoteError>> {
        Box::pin(async { Err(RemoteError::Refused) })
    }

    fn policy_signature<'a>(
        &'a self,
        policy_server: &'a ServerName,
        pdu: &'a RawValue,
    ) -> BoxFuture<'a, Result<Base64, PolicyError>> {
        Box::pin(async move {
            let peer = self
                .find(policy_server)
                .map_err(|_| PolicyError::Unreachable)?;
            peer.asked_to_sign.fetch_add(1, Ordering::Relaxed);
            if peer.is_mute.load(Ordering::Relaxed) {
                return Err(PolicyError::Unreachable);
            }
            if !*peer.recommends.lock().unwrap() {
                return Err(PolicyError::Refused {
                    status: 403,
                    errcode: "M_FORBIDDEN".to_owned(),
                    message: "spam".to_owned(),
                });
            }
            Ok(sign_as_policy_server(peer, pdu))
        })
    }
}

/// What a policy server signs with, for the room's `m.room.policy`.
pub(crate) fn policy_key() -> ServerKey {
    ServerKey::parse(&format!(
        "ed25519 policy_server {}",
        Base64::<ruma::serde::base64::Standard>::new(vec![9; 32]).encode()
    ))
    .unwrap()
}

fn sign_as_policy_server(peer: &Peer, pdu: &RawValue) -> Base64 {
    let mut object: CanonicalJsonObject = serde_json::from_str(pdu.get()).unwrap();
    object.remove("signatures");
    let rules = ruma::RoomVersionId::V12.rules().unwrap();
    ruma::signatures::sign_event(
        peer.name.as_str(),
        &policy_key(),
        &mut object,
        &rules.redaction,
    )
    .unwrap();
    let signature = &object["signatures"].as_object().unwrap()[peer.name.as_str()];
    let signature = signature.as_object().unwrap()["ed25519:policy_server"]
        .as_str()
        .unwrap();
    Base64::parse(signature).unwrap()
}
