//! Rooms to read in.

use std::fmt::Write as _;

use http::StatusCode;
use serde_json::{Value, json};

use super::server::{Answer, TestServer, User};

/// The text as it stands in a query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => write!(encoded, "%{other:02X}").unwrap(),
        }
    }
    encoded
}

/// The `event_id`s of a list of events.
pub(crate) fn ids(events: &Value) -> Vec<&str> {
    let events = events.as_array().unwrap();
    events
        .iter()
        .map(|event| event["event_id"].as_str().unwrap())
        .collect()
}

impl TestServer {
    /// Makes a room and returns its id.
    pub(crate) async fn create_room(&self, user: &User, body: Value) -> String {
        let (status, body) = self.post(user, "/createRoom", body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["room_id"].as_str().unwrap().to_owned()
    }

    /// Makes a room that anyone may join.
    pub(crate) async fn create_public_room(&self, user: &User) -> String {
        self.create_room(user, json!({ "preset": "public_chat" }))
            .await
    }

    /// Joins a room.
    pub(crate) async fn join(&self, user: &User, room: &str) {
        let path = format!("/rooms/{room}/join");
        let (status, body) = self.post(user, &path, json!({})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }

    /// Sets state with an empty key.
    pub(crate) async fn set_state(&self, user: &User, room: &str, kind: &str, content: Value) {
        let path = format!("/rooms/{room}/state/{kind}/");
        let (status, body) = self.put(user, &path, content).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }

    /// Reads state.
    pub(crate) async fn state_of(&self, user: &User, room: &str, kind: &str, key: &str) -> Answer {
        let path = format!("/rooms/{room}/state/{kind}/{key}");
        self.get(user, &path).await
    }

    /// Lets a user leave.
    pub(crate) async fn leave(&self, user: &User, room: &str) {
        let (status, body) = self
            .post(user, &format!("/rooms/{room}/leave"), json!({}))
            .await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }

    /// Sends a text and returns the event's id.
    pub(crate) async fn say(&self, user: &User, room: &str, text: &str) -> String {
        let content = json!({ "msgtype": "m.text", "body": text });
        self.send_as(user, room, "m.room.message", text, content)
            .await
    }

    /// Sends an event under a transaction id and returns its id.
    pub(crate) async fn send_as(
        &self,
        user: &User,
        room: &str,
        kind: &str,
        txn: &str,
        content: Value,
    ) -> String {
        let path = format!("/rooms/{room}/send/{kind}/{}", encode(txn));
        let (status, body) = self.put(user, &path, content).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["event_id"].as_str().unwrap().to_owned()
    }

    /// Reads a page of history.
    pub(crate) async fn messages(&self, user: &User, room: &str, query: &str) -> Answer {
        self.get(user, &format!("/rooms/{room}/messages?{query}"))
            .await
    }
}
