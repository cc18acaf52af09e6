//! A user with a client.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{
    homeserver::Homeserver,
    request::Request,
    sync::{self, News, PATIENCE},
};

/// The room version of the cases that are not about versions.
const VERSION: &str = "12";

/// A user of a server, logged in.
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) device: String,
    pub(crate) server: Arc<Homeserver>,
    token: String,
    news: Mutex<News>,
}

impl User {
    /// Registers somebody whose name begins with `name`.
    pub(crate) async fn register(server: &Arc<Homeserver>, name: &str) -> Self {
        let body = json!({
            "username": server.new_name(name),
            "password": "correct horse battery staple",
            "auth": { "type": "m.login.dummy" },
        });
        let answer = Request::new(server, Method::POST, &["v3", "register"])
            .body(&body)
            .ok()
            .await;
        let token = text(&answer["access_token"]);
        Self {
            id: text(&answer["user_id"]),
            device: text(&answer["device_id"]),
            server: Arc::clone(server),
            news: Mutex::new(News::begin(server, &token).await),
            token,
        }
    }

    /// A request of this user, to a path such as `["v3", "sync"]`.
    pub(crate) fn request(&self, method: Method, path: &[&str]) -> Request {
        Request::new(&self.server, method, path).token(&self.token)
    }

    pub(crate) fn get(&self, path: &[&str]) -> Request {
        self.request(Method::GET, path)
    }

    pub(crate) fn put(&self, path: &[&str], body: &Value) -> Request {
        self.request(Method::PUT, path).body(body)
    }

    pub(crate) fn post(&self, path: &[&str], body: &Value) -> Request {
        self.request(Method::POST, path).body(body)
    }

    /// Makes a room and gives its id.
    pub(crate) async fn create(&self, mut room: Value) -> String {
        if room["room_version"].is_null() {
            room["room_version"] = json!(VERSION);
        }
        let made = self.post(&["v3", "createRoom"], &room).ok().await;
        text(&made["room_id"])
    }

    /// Makes a room that everybody may join.
    pub(crate) async fn create_public(&self) -> String {
        self.create(json!({ "preset": "public_chat" })).await
    }

    /// A request to join a room by its id, by way of `server`.
    pub(crate) fn joining(&self, room: &str, server: &Homeserver) -> Request {
        self.post(&["v3", "join", room], &json!({}))
            .query("via", &server.name)
    }

    /// Joins a room by its id, by way of `server`.
    pub(crate) async fn join(&self, room: &str, server: &Homeserver) {
        let joined = self.joining(room, server).ok().await;
        assert_eq!(joined["room_id"], room);
    }

    /// Changes the membership of `other`: `action` is `invite`, `kick`, `ban` or `unban`.
    pub(crate) async fn act(&self, action: &str, room: &str, other: &Self) {
        let body = json!({ "user_id": other.id });
        self.post(&["v3", "rooms", room, action], &body).ok().await;
    }

    pub(crate) async fn leave(&self, room: &str) {
        self.post(&["v3", "rooms", room, "leave"], &json!({}))
            .ok()
            .await;
    }

    /// Sends an event of the type `kind` and gives its id.
    pub(crate) async fn send(&self, room: &str, kind: &str, content: &Value) -> String {
        let transaction = format!("{:x}", rand::random::<u64>());
        let path = ["v3", "rooms", room, "send", kind, &transaction];
        let sent = self.put(&path, content).ok().await;
        text(&sent["event_id"])
    }

    /// Sends a message and gives its id.
    pub(crate) async fn say(&self, room: &str, words: &str) -> String {
        let content = json!({ "msgtype": "m.text", "body": words });
        self.send(room, "m.room.message", &content).await
    }

    pub(crate) async fn redact(&self, room: &str, event_id: &str) {
        let transaction = format!("{:x}", rand::random::<u64>());
        let path = ["v3", "rooms", room, "redact", event_id, &transaction];
        self.put(&path, &json!({ "reason": "a slip" })).ok().await;
    }

    /// Sets a piece of state and gives the id of the event.
    pub(crate) async fn set(&self, room: &str, kind: &str, key: &str, content: &Value) -> String {
        let path = ["v3", "rooms", room, "state", kind, key];
        let sent = self.put(&path, content).ok().await;
        text(&sent["event_id"])
    }

    /// The content of a piece of state.
    pub(crate) async fn look_up(&self, room: &str, kind: &str, key: &str) -> Value {
        self.get(&["v3", "rooms", room, "state", kind, key])
            .ok()
            .await
    }

    /// The ids of all state events, by type and state key.
    pub(crate) async fn state(&self, room: &str) -> BTreeMap<(String, String), String> {
        let state = self.get(&["v3", "rooms", room, "state"]).ok().await;
        state
            .as_array()
            .expect("it is a list")
            .iter()
            .map(|event| {
                let key = (text(&event["type"]), text(&event["state_key"]));
                (key, text(&event["event_id"]))
            })
            .collect()
    }

    /// Waits until `/sync` brings what `find` finds.
    pub(crate) async fn until<T>(&self, what: &str, find: impl Fn(&Value) -> Option<T>) -> T {
        let mut news = self.news.lock().await;
        let found = news.until((&self.server, &self.token), find).await;
        found.unwrap_or_else(|| panic!("{} never saw {what}, only:\n{}", self.id, news.heard()))
    }

    /// Waits for an event of `room` for which `right` is true.
    pub(crate) async fn sees(
        &self,
        room: &str,
        what: &str,
        right: impl Fn(&Value) -> bool,
    ) -> Value {
        self.until(what, |answer| {
            sync::events(answer, room)
                .find(|event| right(event))
                .cloned()
        })
        .await
    }

    /// Waits for the event with this id.
    pub(crate) async fn hears(&self, room: &str, event_id: &str) -> Value {
        self.sees(room, event_id, |event| event["event_id"] == event_id)
            .await
    }

    /// Waits until the user's server has an event.
    pub(crate) async fn finds(&self, room: &str, event_id: &str) -> Value {
        eventually("the event is there", async || {
            let path = ["v3", "rooms", room, "event", event_id];
            match self.get(&path).send().await {
                (200, event) => Ok(event),
                (status, answer) => Err(format!("{event_id}: {status} {answer}")),
            }
        })
        .await
    }

    /// Waits until somebody has become a member of some kind: `join`, `leave`, ...
    pub(crate) async fn sees_member(&self, room: &str, who: &Self, membership: &str) -> Value {
        let what = format!("the {membership} of {}", who.id);
        self.sees(room, &what, |event| {
            event["type"] == "m.room.member"
                && event["state_key"] == who.id
                && event["content"]["membership"] == membership
        })
        .await
    }
}

/// Two users in a room say something, and each hears the other.
pub(crate) async fn talk(room: &str, one: &User, other: &User) {
    for (speaker, listener) in [(one, other), (other, one)] {
        let words = format!("from {}", speaker.id);
        let id = speaker.say(room, &words).await;
        let event = listener.hears(room, &id).await;
        assert_eq!(event["content"]["body"], words);
        assert_eq!(event["sender"], speaker.id);
    }
}

/// Waits until both users' servers have the same state of a room.
pub(crate) async fn agree(room: &str, one: &User, other: &User) {
    eventually("the servers have the same state", async || {
        let (left, right) = (one.state(room).await, other.state(room).await);
        match left == right {
            true => Ok(()),
            false => Err(format!(
                "{}: {left:#?}\n{}: {right:#?}",
                one.server.name, other.server.name
            )),
        }
    })
    .await;
}

/// Asks again and again until the answer is good, and gives up with the last complaint.
pub(crate) async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(complaint) => {
                assert!(started.elapsed() < PATIENCE, "not so: {what}: {complaint}");
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The text of a value that is a string.
pub(crate) fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => panic!("not a string: {value}"),
    }
}
