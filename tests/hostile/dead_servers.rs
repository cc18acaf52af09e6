//! A room with the users of hundreds of servers that are gone, and of one that is there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use hearth_core::signing::ServerKey;
use hearth_store::server_key;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Notify,
    time::Instant,
};

use super::{
    certificates::Authority,
    foreign_room::ForeignRoom,
    peer::{FOREVER, Peer, reply},
    process::Hearth,
    watch::{Usage, watch},
};

/// How many servers are gone, a third of each kind.
const GONE: usize = 500;

/// How long a message may take to the server that is there.
const PROMPT: Duration = Duration::from_secs(1);

/// How many messages are sent at least.
const MESSAGES: usize = 8;

/// What the process may take up more than before.
const MOST_SOCKETS: usize = 700;
const MOST_MEMORY: usize = 64 * 1024 * 1024;

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The events that arrived, and when.
#[derive(Default)]
struct Arrivals {
    events: Mutex<HashMap<String, Instant>>,
    news: Notify,
}

impl Arrivals {
    fn note(&self, transaction: &Value) {
        let mut events = self.events.lock().unwrap();
        for pdu in transaction["pdus"].as_array().into_iter().flatten() {
            let text = pdu["content"]["body"].as_str().unwrap_or_default();
            events.entry(text.to_owned()).or_insert_with(Instant::now);
        }
        self.news.notify_waiters();
    }

    async fn wait(&self, text: &str) -> Instant {
        loop {
            let news = self.news.notified();
            if let Some(at) = self.events.lock().unwrap().get(text) {
                return *at;
            }
            tokio::time::timeout(LIMIT, news).await.unwrap();
        }
    }
}

/// Ports at which nobody is to be reached: one that refuses, and one that takes connections and says nothing.
struct Void {
    refusing: TcpSocket,
    silent: TcpListener,
}

impl Void {
    fn open() -> Self {
        let refusing = TcpSocket::new_v4().unwrap();
        refusing.bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind("0.0.0.0:0".parse().unwrap()).unwrap();
        // The system takes connections as long as there is space.
        let silent = silent.listen(4_096).unwrap();
        Self { refusing, silent }
    }

    /// The names of servers that are gone.
    fn servers(&self) -> Vec<String> {
        let refusing = self.refusing.local_addr().unwrap().port();
        let silent = self.silent.local_addr().unwrap().port();
        let name = |number: usize| {
            let address = format!("127.7.{}.{}", number / 200, number % 200 + 1);
            match number % 3 {
                0 => format!("{address}:{refusing}"),
                1 => format!("{address}:{silent}"),
                _ => format!("gone{number}.invalid"),
            }
        };
        (0..GONE).map(name).collect()
    }
}

/// Makes the key known with which all of `servers` sign.
async fn introduce(pool: &PgPool, servers: &[String], key: &ServerKey) {
    let keys = servers.iter().map(|server| server_key::Stored {
        server_name: server.clone(),
        key_id: key.id(),
        key: key.public().as_bytes().to_vec(),
        is_old: false,
        valid_until_ts: FOREVER,
    });
    let keys: Vec<server_key::Stored> = keys.collect();
    let mut conn = pool.acquire().await.unwrap();
    server_key::upsert(&mut conn, &keys, FOREVER).await.unwrap();
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn servers_that_are_gone_hold_nobody_up(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let more = super::peer::trusting(&authority);
    let hearth = Hearth::start_with(&pool, &more, None).await;
    let there = Peer::start(&authority, folder.path()).await;
    let void = Void::open();
    let gone = void.servers();
    introduce(&pool, &gone, &there.key).await;
    let mut room = ForeignRoom::new(&there);
    for server in &gone {
        room.join(&format!("@user:{server}"), &there.key);
    }
    let arrivals = Arc::new(Arrivals::default());
    let (room_id, noted) = (room.id.clone(), Arc::clone(&arrivals));
    let room = Mutex::new(room);
    there.answer(move |question| {
        if question.path.starts_with("/_matrix/federation/v1/send/") {
            noted.note(&serde_json::from_slice(&question.body).unwrap());
            return Some(reply(&json!({ "pdus": {} })));
        }
        room.lock().unwrap().admit(question)
    });
    let alice = hearth.register("alice").await;
    let path = format!("/join/{room_id}?via={}", there.name);
    hearth
        .ask("POST", &path, Some(&alice), Some(json!({})))
        .await;
    let before = Usage::of(&hearth);

    let mut most = Usage::default();
    let mut times = Vec::new();
    let started = Instant::now();
    // Until many servers that are silent hold a connection at once.
    while times.len() < MESSAGES || most.sockets < before.sockets + GONE / 6 {
        assert!(started.elapsed() < LIMIT, "{most:?} {times:?}");
        let number = times.len();
        let text = format!("message {number}");
        let path = format!("/rooms/{room_id}/send/m.room.message/{number}");
        let body = json!({ "msgtype": "m.text", "body": text });
        let begun = Instant::now();
        hearth.ask("PUT", &path, Some(&alice), Some(body)).await;
        let (arrived, usage) = watch(&hearth, arrivals.wait(&text)).await;
        most = most.max(usage);
        times.push(arrived - begun);
    }

    println!("{GONE} servers gone: {times:?}; before {before:?}, at most {most:?}");
    let slowest = times.iter().max().unwrap();
    assert!(*slowest < PROMPT, "{times:?}");
    assert!(most.sockets < before.sockets + MOST_SOCKETS, "{most:?}");
    assert!(
        most.memory < before.memory + MOST_MEMORY,
        "{before:?} {most:?}"
    );
}
