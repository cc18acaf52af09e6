//! Another server, as far as it makes requests.

use hearth_core::signing::ServerKey;
use hearth_federation::authentication::Content;
use hearth_store::server_key;
use http::{Method, Request, StatusCode};
use ruma::{
    CanonicalJsonObject, OwnedServerName, OwnedServerSigningKeyId, RoomVersionId, ServerName,
    api::federation::authentication::XMatrix,
    serde::Base64,
    signatures::{KeyPair as _, hash_and_sign_event, reference_hash},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    chat::encode,
    server::{Answer, TestServer},
};

/// A server that signs its requests.
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: OwnedServerName,
    /// Its key.
    pub(crate) key: ServerKey,
}

impl Peer {
    /// A server whose key is known to the server of `pool` and valid for a day.
    pub(crate) async fn known(pool: &PgPool, server: &TestServer, name: &str) -> Self {
        let peer = Self::stranger(name);
        let now = server.state.clock.millis();
        let key = server_key::Stored {
            server_name: name.to_owned(),
            key_id: peer.key.id(),
            key: peer.key.public().as_bytes().to_vec(),
            is_old: false,
            valid_until_ts: now + 24 * 60 * 60 * 1_000,
        };
        let mut conn = pool.acquire().await.unwrap();
        server_key::upsert(&mut conn, &[key], now).await.unwrap();
        peer
    }

    /// A server that nobody knows.
    pub(crate) fn stranger(name: &str) -> Self {
        Self {
            name: ServerName::parse(name).unwrap(),
            key: ServerKey::from_seed(&[9; 32]),
        }
    }

    /// The value of `Authorization` for a request to `destination`.
    pub(crate) fn sign(
        &self,
        destination: &str,
        (method, uri, body): (&Method, &str, &[u8]),
    ) -> String {
        let uri = uri.parse().unwrap();
        let content = Content {
            method,
            uri: &uri,
            body,
        };
        let destination = ServerName::parse(destination).unwrap();
        let signed = content.signed(&self.name, &destination).unwrap();
        let signature = self.key.sign(signed.as_bytes());
        let key_id = OwnedServerSigningKeyId::try_from(self.key.id()).unwrap();
        let signature = Base64::new(signature.as_bytes().to_vec());
        XMatrix::new(self.name.clone(), destination, key_id, signature).to_string()
    }

    /// Makes a signed request.
    pub(crate) async fn send(
        &self,
        server: &TestServer,
        method: Method,
        uri: &str,
        body: Value,
    ) -> Answer {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let header = self.sign("example.org", (&method, uri, &body));
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("authorization", header);
        server.answer(request.body(body.into()).unwrap()).await
    }

    /// Makes a signed `GET`.
    pub(crate) async fn get(&self, server: &TestServer, uri: &str) -> Answer {
        self.send(server, Method::GET, uri, Value::Null).await
    }
}

/// The version of the rooms that peers join.
pub(crate) const VERSION: RoomVersionId = RoomVersionId::V12;

/// A room as a peer knows it that has just joined.
pub(crate) struct Joined {
    /// The room.
    pub(crate) room_id: String,
    /// The peer's user in it.
    pub(crate) user_id: String,
    /// The state before the join.
    pub(crate) state: Vec<Value>,
    /// The id of the join.
    pub(crate) join: String,
    /// The depth of the join.
    pub(crate) depth: i64,
}

impl Peer {
    /// Adds hashes and a signature to an event; gives its id.
    pub(crate) fn complete(&self, event: &mut CanonicalJsonObject) -> String {
        let rules = VERSION.rules().unwrap();
        hash_and_sign_event(self.name.as_str(), &self.key, event, &rules.redaction).unwrap();
        format!("${}", reference_hash(event, &rules).unwrap())
    }

    /// A member event of a user of the peer, as the server says it must be: its id and the event.
    pub(crate) async fn member(
        &self,
        server: &TestServer,
        room_id: &str,
        (user_id, membership): (&str, &str),
    ) -> (String, Value) {
        let place = format!("{}/{}", encode(room_id), encode(user_id));
        let uri = format!("/_matrix/federation/v1/make_{membership}/{place}?ver=12");
        let (status, template) = self.get(server, &uri).await;
        assert_eq!(status, StatusCode::OK, "{template}");
        assert_eq!(template["room_version"], "12");
        let mut event = serde_json::from_value(template["event"].clone()).unwrap();
        let event_id = self.complete(&mut event);
        (event_id, serde_json::to_value(event).unwrap())
    }

    /// Hands an event over; `endpoint` is `v2/send_join`, for example.
    pub(crate) async fn hand_over(
        &self,
        server: &TestServer,
        endpoint: &str,
        (event_id, event): (&str, &Value),
    ) -> Answer {
        let room_id = encode(event["room_id"].as_str().unwrap());
        let uri = format!(
            "/_matrix/federation/{endpoint}/{room_id}/{}",
            encode(event_id)
        );
        self.send(server, Method::PUT, &uri, event.clone()).await
    }

    /// Lets a user of the peer join a room.
    pub(crate) async fn join(&self, server: &TestServer, room_id: &str, name: &str) -> Joined {
        let user_id = format!("@{name}:{}", self.name);
        let (join, event) = self.member(server, room_id, (&user_id, "join")).await;
        let handed = (join.as_str(), &event);
        let (status, answer) = self.hand_over(server, "v2/send_join", handed).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        Joined {
            room_id: room_id.to_owned(),
            user_id,
            state: answer["state"].as_array().unwrap().clone(),
            join,
            depth: event["depth"].as_i64().unwrap(),
        }
    }

    /// A message into a room that the peer has just joined, as JSON with its id.
    pub(crate) fn message(&self, joined: &Joined, text: &str) -> (String, Value) {
        let content = json!({ "msgtype": "m.text", "body": text });
        let event = json!({ "type": "m.room.message", "content": content, "depth": 50 });
        self.event(joined, event)
    }

    /// An event right after the peer's join, of which type, content, depth and perhaps a state key are given.
    pub(crate) fn event(&self, joined: &Joined, mut event: Value) -> (String, Value) {
        let is_member = event["type"] == "m.room.member";
        let authorises = |other: &&Value| {
            other["type"] == "m.room.power_levels"
                || (is_member && other["type"] == "m.room.join_rules")
        };
        let state = joined.state.iter().filter(authorises);
        let rules = VERSION.rules().unwrap();
        let mut auth: Vec<String> = state
            .map(|event| {
                let event: CanonicalJsonObject = serde_json::from_value(event.clone()).unwrap();
                format!("${}", reference_hash(&event, &rules).unwrap())
            })
            .collect();
        auth.push(joined.join.clone());
        event["room_id"] = json!(joined.room_id);
        event["sender"] = json!(joined.user_id);
        event["prev_events"] = json!([joined.join]);
        event["auth_events"] = json!(auth);
        event["origin_server_ts"] = json!(1_750_000_000_000_i64);
        let mut event = serde_json::from_value(event).unwrap();
        let event_id = self.complete(&mut event);
        (event_id, serde_json::to_value(event).unwrap())
    }

    /// Sends a transaction.
    pub(crate) async fn transact(
        &self,
        server: &TestServer,
        txn_id: &str,
        (pdus, edus): (Vec<Value>, Vec<Value>),
    ) -> Answer {
        let body = json!({
            "origin": self.name, "origin_server_ts": 1_750_000_000_000_i64, "pdus": pdus, "edus": edus,
        });
        let uri = format!("/_matrix/federation/v1/send/{txn_id}");
        self.send(server, Method::PUT, &uri, body).await
    }
}
