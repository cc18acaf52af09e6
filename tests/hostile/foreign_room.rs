//! A room that another server has: events as that server makes them.

use std::collections::BTreeMap;

use axum::body::Body;
use hearth_core::signing::ServerKey;
use http::Response;
use ruma::{
    CanonicalJsonObject, RoomVersionId,
    room_version_rules::RoomVersionRules,
    signatures::{hash_and_sign_event, reference_hash},
};
use serde_json::{Value, json};

use super::peer::{Peer, Question, reply};

/// When everything happens.
const NOW: i64 = 1_750_000_000_000;

/// An event with its id.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) json: Value,
}

/// A room in which everybody may do anything.
#[derive(Clone, Debug)]
pub(crate) struct ForeignRoom {
    pub(crate) id: String,
    /// The user who made it.
    pub(crate) creator: String,
    /// The current state, by type and key.
    state: BTreeMap<(String, String), Event>,
    /// The newest event.
    last: Option<Event>,
}

fn rules() -> RoomVersionRules {
    RoomVersionId::V11.rules().unwrap()
}

/// Adds hashes and the signature of a server.
pub(crate) fn sign((server, key): (&str, &ServerKey), event: Value) -> Event {
    let mut object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
    let rules = rules();
    hash_and_sign_event(server, key, &mut object, &rules.redaction).unwrap();
    Event {
        id: format!("${}", reference_hash(&object, &rules).unwrap()),
        json: serde_json::to_value(object).unwrap(),
    }
}

fn server_of(user_id: &str) -> &str {
    user_id.split_once(':').unwrap().1
}

impl ForeignRoom {
    /// A public room of `host`.
    pub(crate) fn new(host: &Peer) -> Self {
        let mut room = Self {
            id: format!("!tea:{}", host.name),
            creator: format!("@carol:{}", host.name),
            state: BTreeMap::new(),
            last: None,
        };
        let carol = room.creator.clone();
        let powers =
            json!({ "users": { (carol.as_str()): 100 }, "state_default": 0, "events_default": 0 });
        for (kind, key, content) in [
            ("m.room.create", "", json!({ "room_version": "11" })),
            ("m.room.member", &*carol, json!({ "membership": "join" })),
            ("m.room.power_levels", "", powers),
            ("m.room.join_rules", "", json!({ "join_rule": "public" })),
        ] {
            room.set((&carol, &host.key), (kind, key), &content);
        }
        room
    }

    /// An event of `sender` on top of the room, complete but for hashes and signatures.
    pub(crate) fn draft(&self, sender: &str, kind: &str, content: &Value) -> Value {
        let depth = self
            .last
            .as_ref()
            .map_or(0, |last| last.json["depth"].as_i64().unwrap());
        let auth =
            ["create", "power_levels", "join_rules"].map(|kind| (format!("m.room.{kind}"), ""));
        let auth = auth
            .iter()
            .map(|(kind, key)| (kind.clone(), (*key).to_owned()));
        let own = ("m.room.member".to_owned(), sender.to_owned());
        let is_member = kind == "m.room.member";
        let auth = auth
            .filter(|(kind, _)| is_member || kind != "m.room.join_rules")
            .chain([own]);
        let auth: Vec<&str> = auth
            .filter_map(|place| Some(self.state.get(&place)?.id.as_str()))
            .collect();
        let last: Vec<&str> = self.last.iter().map(|event| event.id.as_str()).collect();
        json!({
            "room_id": self.id, "type": kind, "sender": sender, "content": content, "depth": depth + 1,
            "auth_events": auth, "prev_events": last, "origin_server_ts": NOW,
        })
    }

    /// Adds an event to the state, signed by the sender's server with `key`.
    pub(crate) fn set(
        &mut self,
        (sender, signer): (&str, &ServerKey),
        (kind, key): (&str, &str),
        content: &Value,
    ) -> Event {
        let mut event = self.draft(sender, kind, content);
        event["state_key"] = json!(key);
        let event = sign((server_of(sender), signer), event);
        let place = (kind.to_owned(), key.to_owned());
        self.state.insert(place, event.clone());
        self.last = Some(event.clone());
        event
    }

    /// A user of another server joins.
    pub(crate) fn join(&mut self, user_id: &str, key: &ServerKey) -> Event {
        let member = ("m.room.member", user_id);
        self.set((user_id, key), member, &json!({ "membership": "join" }))
    }

    /// The events of the current state.
    pub(crate) fn state(&self) -> Vec<Value> {
        self.state
            .values()
            .map(|event| event.json.clone())
            .collect()
    }

    /// Takes in a join that another server signed.
    fn follow(&mut self, join: Value) {
        let object: CanonicalJsonObject = serde_json::from_value(join.clone()).unwrap();
        let id = format!("${}", reference_hash(&object, &rules()).unwrap());
        let user = join["state_key"].as_str().unwrap().to_owned();
        let event = Event { id, json: join };
        let place = ("m.room.member".to_owned(), user);
        self.state.insert(place, event.clone());
        self.last = Some(event);
    }

    /// What the room's server answers to who wants to join.
    pub(crate) fn admit(&mut self, question: &Question) -> Option<Response<Body>> {
        if question
            .path
            .starts_with("/_matrix/federation/v1/make_join/")
        {
            let user = question.path.split('/').next_back()?.split('?').next()?;
            let user = user.replace("%40", "@").replace("%3A", ":");
            let mut event = self.draft(&user, "m.room.member", &json!({ "membership": "join" }));
            event["state_key"] = json!(user);
            return Some(reply(&json!({ "room_version": "11", "event": event })));
        }
        if question
            .path
            .starts_with("/_matrix/federation/v2/send_join/")
        {
            let join: Value = serde_json::from_slice(&question.body).ok()?;
            let state = self.state();
            self.follow(join.clone());
            let answer = json!({ "state": state, "auth_chain": state, "event": join, "members_omitted": false });
            return Some(reply(&answer));
        }
        None
    }
}
