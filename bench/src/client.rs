//! A client of a homeserver: the requests that the scenarios are made of.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Method};
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::{
    connection::{Ask, Connection, Target},
    error::BenchError,
    scan,
};

/// How long anything but a long poll may take.
const LIMIT: Duration = Duration::from_mins(2);

/// An account that is logged in.
#[derive(Debug)]
pub(crate) struct User {
    token: HeaderValue,
}

impl User {
    /// Takes the access token from the answer to a registration.
    pub(crate) fn from_answer(body: &[u8]) -> Result<Self, BenchError> {
        let token =
            scan::string(body, "access_token").ok_or(BenchError::Missing("access_token"))?;
        Ok(Self {
            token: HeaderValue::from_str(&format!("Bearer {token}")).map_err(http::Error::from)?,
        })
    }
}

/// How a sync is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Poll<'a> {
    /// Where the last one ended.
    pub(crate) since: Option<&'a str>,
    /// How long the server may wait for news.
    pub(crate) timeout: Duration,
    /// The most messages of a room, if not the server's own choice.
    pub(crate) timeline: Option<u32>,
}

/// A user on a connection of its own.
#[derive(Debug)]
pub(crate) struct Client {
    /// Who it is.
    pub(crate) user: Arc<User>,
    connection: Connection,
}

impl Client {
    /// Lets `user` talk to `target`.
    pub(crate) fn new(target: Arc<Target>, user: Arc<User>) -> Self {
        Self {
            user,
            connection: Connection::new(target),
        }
    }

    /// Makes a room that everybody may join, and gives its id.
    pub(crate) async fn create_room(&mut self, name: &str) -> Result<String, BenchError> {
        let body = json!({ "preset": "public_chat", "name": name });
        let answer = self
            .post("/_matrix/client/v3/createRoom".to_owned(), &body)
            .await?;
        let id = scan::string(&answer, "room_id").ok_or(BenchError::Missing("room_id"))?;
        Ok(id.to_owned())
    }

    /// Joins a room.
    pub(crate) async fn join(&mut self, room: &str) -> Result<(), BenchError> {
        let path = format!("/_matrix/client/v3/join/{}", encode(room));
        self.post(path, &json!({})).await.map(drop)
    }

    /// Leaves a room.
    pub(crate) async fn leave(&mut self, room: &str) -> Result<(), BenchError> {
        let path = format!("/_matrix/client/v3/rooms/{}/leave", encode(room));
        self.post(path, &json!({})).await.map(drop)
    }

    /// Sends a message and gives the id of the event.
    pub(crate) async fn send(&mut self, room: &str, text: &str) -> Result<String, BenchError> {
        static TRANSACTION: AtomicU64 = AtomicU64::new(0);
        let path = format!(
            "/_matrix/client/v3/rooms/{}/send/m.room.message/t{}",
            encode(room),
            TRANSACTION.fetch_add(1, Ordering::Relaxed)
        );
        // The texts are made here and hold nothing that JSON would want escaped.
        let body = format!(
            r#"{{"msgtype":"m.text","body":"{text} And so we beat on, boats against the current."}}"#
        );
        let answer = self.ask(Method::PUT, path, body, LIMIT).await?;
        let id = scan::string(&answer, "event_id").ok_or(BenchError::Missing("event_id"))?;
        Ok(id.to_owned())
    }

    /// Reads one event.
    pub(crate) async fn event(&mut self, room: &str, event: &str) -> Result<Bytes, BenchError> {
        let path = format!(
            "/_matrix/client/v3/rooms/{}/event/{}",
            encode(room),
            encode(event)
        );
        self.ask(Method::GET, path, String::new(), LIMIT).await
    }

    /// Reads a page of history, newest first.
    pub(crate) async fn messages(
        &mut self,
        room: &str,
        from: Option<&str>,
        limit: u32,
    ) -> Result<Bytes, BenchError> {
        let mut path = format!(
            "/_matrix/client/v3/rooms/{}/messages?dir=b&limit={limit}",
            encode(room)
        );
        if let Some(from) = from {
            path.push_str("&from=");
            path.push_str(&encode(from));
        }
        self.ask(Method::GET, path, String::new(), LIMIT).await
    }

    /// Asks what is new. The answer and where it ends.
    pub(crate) async fn sync(&mut self, poll: Poll<'_>) -> Result<(Bytes, String), BenchError> {
        let mut path = format!(
            "/_matrix/client/v3/sync?set_presence=offline&timeout={}",
            poll.timeout.as_millis()
        );
        if let Some(since) = poll.since {
            path.push_str("&since=");
            path.push_str(&encode(since));
        }
        if let Some(limit) = poll.timeline {
            path.push_str("&filter=");
            let filter = format!(r#"{{"room":{{"timeline":{{"limit":{limit}}}}}}}"#);
            path.push_str(&encode(&filter));
        }
        let body = self
            .ask(Method::GET, path, String::new(), LIMIT + poll.timeout)
            .await?;
        let next = scan::string(&body, "next_batch").ok_or(BenchError::Missing("next_batch"))?;
        let next = next.to_owned();
        Ok((body, next))
    }

    async fn post(&mut self, path: String, body: &Value) -> Result<Bytes, BenchError> {
        self.ask(Method::POST, path, body.to_string(), LIMIT).await
    }

    async fn ask(
        &mut self,
        method: Method,
        path: String,
        body: String,
        limit: Duration,
    ) -> Result<Bytes, BenchError> {
        let token = Some(&self.user.token);
        self.connection
            .ask(Ask {
                method,
                path,
                body,
                token,
                limit,
            })
            .await
    }
}

/// Writes `text` so that it can be a part of a path or the value of a query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes everything");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_encoded() {
        assert_eq!(encode("!a-Z_9:x.y"), "%21a-Z_9%3Ax.y");
    }
}
