//! A server that answers the requests of the bench from memory, checks nothing and keeps nothing.
//!
//! What it reaches is what the machine and the generator can show at most.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Notify, task::JoinSet, time::timeout};

use crate::error::BenchError;

/// How many messages wait for a user at most; older ones are forgotten.
const PENDING: usize = 100;

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener) -> Result<(), BenchError> {
    let floor = Arc::new(Floor::default());
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        while connections.try_join_next().is_some() {}
        let floor = Arc::clone(&floor);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&floor), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away is no matter.
            let _ = connection.await;
        });
    }
}

#[derive(Debug, Default)]
struct Floor(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    users: Vec<Mailbox>,
    /// The members of each room.
    rooms: Vec<Vec<usize>>,
    events: u64,
}

#[derive(Debug, Default)]
struct Mailbox {
    pending: VecDeque<(usize, Bytes)>,
    arrived: Arc<Notify>,
}

impl Floor {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self) -> String {
        let users = &mut self.state().users;
        users.push(Mailbox::default());
        let n = users.len() - 1;
        format!(r#"{{"user_id":"@{n}:floor","access_token":"{n}"}}"#)
    }

    fn create_room(&self, user: usize) -> String {
        let rooms = &mut self.state().rooms;
        rooms.push(vec![user]);
        format!(r#"{{"room_id":"!{}:floor"}}"#, rooms.len() - 1)
    }

    fn join(&self, user: usize, room: usize) -> String {
        self.state().rooms[room].push(user);
        format!(r#"{{"room_id":"!{room}:floor"}}"#)
    }

    fn leave(&self, user: usize, room: usize) -> String {
        self.state().rooms[room].retain(|member| *member != user);
        "{}".to_owned()
    }

    fn send(&self, user: usize, room: usize, content: &[u8]) -> String {
        let mut state = self.state();
        let State {
            users,
            rooms,
            events,
        } = &mut *state;
        *events += 1;
        let content = String::from_utf8_lossy(content);
        let event = Bytes::from(format!(
            r#"{{"event_id":"${events}","sender":"@{user}:floor","type":"m.room.message","content":{content}}}"#
        ));
        for member in &rooms[room] {
            let mailbox = &mut users[*member];
            mailbox.pending.truncate(PENDING - 1);
            mailbox.pending.push_front((room, event.clone()));
            mailbox.arrived.notify_one();
        }
        format!(r#"{{"event_id":"${events}"}}"#)
    }

    async fn sync(&self, user: usize, query: &str) -> String {
        let arrived = Arc::clone(&self.state().users[user].arrived);
        if query.contains("since=") {
            let wait = Duration::from_millis(number_after(query, "timeout="));
            // When the time is up the answer is empty.
            while self.state().users[user].pending.is_empty() {
                if timeout(wait, arrived.notified()).await.is_err() {
                    break;
                }
            }
        }
        let mut rooms = BTreeMap::<usize, Vec<Bytes>>::new();
        for (room, event) in self.state().users[user].pending.drain(..).rev() {
            rooms.entry(room).or_default().push(event);
        }
        let mut body = r#"{"next_batch":"s","rooms":{"join":{"#.to_owned();
        for (n, (room, events)) in rooms.iter().enumerate() {
            body.push_str(if n == 0 { "" } else { "," });
            body.push_str("\"!");
            body.push_str(&room.to_string());
            body.push_str(r#":floor":{"timeline":{"events":["#);
            for (n, event) in events.iter().enumerate() {
                body.push_str(if n == 0 { "" } else { "," });
                body.push_str(&String::from_utf8_lossy(event));
            }
            body.push_str("]}}");
        }
        body.push_str("}}}");
        body
    }
}

async fn answer(
    floor: Arc<Floor>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let token = parts
        .headers
        .get("authorization")
        .and_then(|token| token.to_str().ok());
    let user = index_after(token.unwrap_or_default(), "Bearer ");
    let path = parts.uri.path();
    let room = index_after(path, "%21");
    let answer = if path.ends_with("/register") {
        floor.register()
    } else if path.ends_with("/createRoom") {
        floor.create_room(user)
    } else if path.contains("/join/") {
        floor.join(user, room)
    } else if path.ends_with("/leave") {
        floor.leave(user, room)
    } else if path.contains("/send/") {
        floor.send(user, room, &body)
    } else if path.ends_with("/sync") {
        floor
            .sync(user, parts.uri.query().unwrap_or_default())
            .await
    } else {
        "{}".to_owned()
    };
    Ok(Response::new(Full::from(answer)))
}

/// The number behind `key` in `text`, 0 if there is none.
fn number_after(text: &str, key: &str) -> u64 {
    let rest = text.split_once(key).map_or("", |(_, rest)| rest);
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_default()
}

fn index_after(text: &str, key: &str) -> usize {
    usize::try_from(number_after(text, key)).unwrap_or_default()
}
