//! Answers that are too large.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Response, header};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    certificates::Authority,
    foreign_room::{Event, ForeignRoom, sign},
    peer::{Peer, reply, trusting},
    process::Hearth,
    watch::{Usage, watch},
};

const MIB: usize = 1024 * 1024;

/// How large the answers would be.
const WHOLE: usize = 100 * MIB;

/// How much may be on its way when a server hears that nobody listens any more.
const UNDER_WAY: usize = 8 * MIB;

/// What else the server may take up meanwhile.
const ELSE: usize = 24 * MIB;

/// An endless answer to requests whose path begins with `path`: `begin`, and then `filling` again and again.
#[derive(Clone)]
struct Flood {
    path: &'static str,
    begin: &'static str,
    filling: &'static str,
    written: Arc<AtomicUsize>,
}

impl Flood {
    fn answer(&self) -> Response<Body> {
        let repeated = Bytes::from(self.filling.repeat(64 * 1024 / self.filling.len()));
        let begin = Bytes::from_static(self.begin.as_bytes());
        let written = Arc::clone(&self.written);
        let pieces = std::iter::once(begin).chain(std::iter::repeat_n(
            repeated.clone(),
            WHOLE / repeated.len(),
        ));
        let pieces = pieces.map(move |piece| {
            written.fetch_add(piece.len(), Ordering::Relaxed);
            Ok::<_, Infallible>(piece)
        });
        let response = Response::builder().header(header::CONTENT_TYPE, "application/json");
        response
            .body(Body::from_stream(stream::iter(pieces)))
            .unwrap()
    }
}

/// A server whose user is in a room of a peer that floods it with what it asks for.
struct Scene {
    hearth: Hearth,
    alice: String,
    peer: Peer,
    room: Arc<Mutex<ForeignRoom>>,
    /// What the peer tells when it is asked for missing events.
    earlier: Arc<Mutex<Value>>,
    flood: Arc<Mutex<Option<Flood>>>,
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new(pool: &PgPool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path());
        let hearth = Hearth::start_with(pool, &trusting(&authority), None).await;
        let peer = Peer::start(&authority, folder.path()).await;
        let room = Arc::new(Mutex::new(ForeignRoom::new(&peer)));
        let flood: Arc<Mutex<Option<Flood>>> = Arc::default();
        let earlier: Arc<Mutex<Value>> = Arc::default();
        let (told, floods) = (Arc::clone(&room), Arc::clone(&flood));
        let before = Arc::clone(&earlier);
        peer.answer(move |question| {
            let flood = floods.lock().unwrap().clone();
            match flood.filter(|flood| question.path.starts_with(flood.path)) {
                Some(flood) => Some(flood.answer()),
                None if question.path.starts_with(GAPS) => {
                    Some(reply(&json!({ "events": [*before.lock().unwrap()] })))
                }
                None if question.path.starts_with(STATE) => {
                    Some(reply(&json!({ "pdu_ids": [], "auth_chain_ids": [] })))
                }
                None => told.lock().unwrap().admit(question),
            }
        });
        let alice = hearth.register("alice").await;
        let scene = Self {
            hearth,
            alice,
            peer,
            room,
            earlier,
            flood,
            authority,
            folder,
        };
        let (status, answer) = scene.join().await;
        assert_eq!(status, 200, "{answer}");
        scene
    }

    async fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        let body = (method == "POST").then(|| json!({}));
        let asked = self.hearth.request(method, path, Some(&self.alice), body);
        asked.await.unwrap()
    }

    async fn join(&self) -> (u16, Value) {
        let path = {
            let room = self.room.lock().unwrap();
            format!("/join/{}?via={}", room.id, self.peer.name)
        };
        self.ask("POST", &path).await
    }

    /// Another room of the peer, which then is the room that it tells of.
    async fn join_another(&self) -> (u16, Value) {
        let mut another = ForeignRoom::new(&self.peer);
        another.id = another.id.replace("!tea", "!coffee");
        let before = std::mem::replace(&mut *self.room.lock().unwrap(), another);
        let outcome = self.join().await;
        *self.room.lock().unwrap() = before;
        outcome
    }

    /// An event of the peer that refers to one that nobody knows; says how the transaction was answered.
    async fn send_after(&self, field: &str) -> (u16, Value) {
        let [earlier, event] = {
            let room = self.room.lock().unwrap();
            let signer = (self.peer.name.as_str(), &self.peer.key);
            let draft = |text: &str, (field, named): (&str, &str)| {
                let content = json!({ "msgtype": "m.text", "body": text });
                let mut draft = room.draft(&room.creator, "m.room.message", &content);
                draft[field] = json!([named]);
                sign(signer, draft)
            };
            let earlier: Event = draft("earlier", (field, "$nobody_knows_it"));
            let event = match field {
                "prev_events" => draft("later", (field, &earlier.id)),
                _ => earlier.clone(),
            };
            [earlier, event]
        };
        *self.earlier.lock().unwrap() = earlier.json;
        let txn_id = rand::random::<u64>().to_string();
        let parts = (vec![event.json], vec![]);
        let sent = self.peer.transact(&self.hearth, &txn_id, parts);
        let (status, answer) = sent.await;
        assert!(answer["pdus"][&event.id].is_object(), "{answer}");
        (status.as_u16(), answer)
    }

    /// A server whose keys are not known yet makes a request.
    async fn introduce(&self) -> (u16, Value) {
        let folder = self.folder.path().join("stranger");
        std::fs::create_dir(&folder).unwrap();
        let stranger = Peer::start(&self.authority, &folder).await;
        let floods = Arc::clone(&self.flood);
        stranger.answer(move |_| floods.lock().unwrap().as_ref().map(Flood::answer));
        let path = "/_matrix/federation/v1/publicRooms";
        let asked = stranger.send(&self.hearth, Method::GET, path, Vec::new());
        let (status, answer) = asked.await;
        (status.as_u16(), answer)
    }
}

/// What makes a server ask.
#[derive(Clone, Copy, Debug)]
enum Trigger {
    /// A request of a server whose keys are not known.
    Introduction,
    /// A request of Alice; `PEER` and `ROOM` stand for their names.
    Request(&'static str),
    /// Alice joins another room.
    Join,
    /// An event of the peer that names something unknown in this field.
    EventAfter(&'static str),
}

impl Scene {
    async fn pull(&self, trigger: Trigger) -> (u16, Value) {
        match trigger {
            Trigger::Introduction => self.introduce().await,
            Trigger::Join => self.join_another().await,
            Trigger::EventAfter(field) => self.send_after(field).await,
            Trigger::Request(path) => {
                let room_id = self.room.lock().unwrap().id.clone();
                let path = path.replace("PEER", self.peer.name.as_str());
                self.ask("GET", &path.replace("ROOM", &room_id)).await
            }
        }
    }
}

/// A question that a peer floods.
struct Case {
    /// What the path begins with.
    path: &'static str,
    begin: &'static str,
    filling: &'static str,
    trigger: Trigger,
    /// What who asked is told.
    status: u16,
    /// How many MiB of the answer are read at the most.
    most: usize,
}

const GAPS: &str = "/_matrix/federation/v1/get_missing_events";
const STATE: &str = "/_matrix/federation/v1/state_ids";
const TEXT: &str = "aaaaaaaaaaaaaaaa";
const NUMBERS: &str = "0,0,0,0,";

#[rustfmt::skip]
const CASES: [Case; 11] = [
    Case { path: "/_matrix/key/v2/server", begin: r#"{"server_name":""#, filling: TEXT, trigger: Trigger::Introduction, status: 401, most: 1 },
    Case { path: "/_matrix/federation/v1/query/profile", begin: r#"{"displayname":""#, filling: TEXT, trigger: Trigger::Request("/profile/@x:PEER"), status: 502, most: 1 },
    Case { path: "/_matrix/federation/v1/publicRooms", begin: r#"{"chunk":[{"name":""#, filling: TEXT, trigger: Trigger::Request("/publicRooms?server=PEER"), status: 502, most: 1 },
    Case { path: "/_matrix/federation/v1/query/directory", begin: r#"{"servers":[""#, filling: TEXT, trigger: Trigger::Request("/directory/room/%23tea:PEER"), status: 502, most: 1 },
    Case { path: "/_matrix/federation/v1/make_join", begin: r#"{"event":{"type":""#, filling: TEXT, trigger: Trigger::Join, status: 502, most: 1 },
    Case { path: "/_matrix/federation/v2/send_join", begin: r#"{"state":["#, filling: NUMBERS, trigger: Trigger::Join, status: 502, most: 16 },
    Case { path: GAPS, begin: r#"{"events":["#, filling: NUMBERS, trigger: Trigger::EventAfter("prev_events"), status: 200, most: 8 },
    Case { path: STATE, begin: r#"{"pdu_ids":["$"#, filling: TEXT, trigger: Trigger::EventAfter("prev_events"), status: 200, most: 32 },
    Case { path: "/_matrix/federation/v1/event/", begin: r#"{"pdus":[{"type":""#, filling: TEXT, trigger: Trigger::EventAfter("prev_events"), status: 200, most: 1 },
    Case { path: "/_matrix/federation/v1/event_auth", begin: r#"{"auth_chain":["#, filling: NUMBERS, trigger: Trigger::EventAfter("auth_events"), status: 200, most: 32 },
    Case { path: "/_matrix/federation/v1/backfill", begin: r#"{"pdus":["#, filling: NUMBERS, trigger: Trigger::Request("/rooms/ROOM/messages?dir=b"), status: 200, most: 8 },
];

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn of_an_endless_answer_only_so_much_is_read(pool: PgPool) {
    let scene = Scene::new(&pool).await;

    for case in CASES {
        let flood = Flood {
            path: case.path,
            begin: case.begin,
            filling: case.filling,
            written: Arc::default(),
        };
        let written = Arc::clone(&flood.written);
        *scene.flood.lock().unwrap() = Some(flood);
        let before = Usage::of(&scene.hearth).memory;

        let ((status, answer), most) = watch(&scene.hearth, scene.pull(case.trigger)).await;

        let (path, more) = (case.path, most.memory.saturating_sub(before));
        let written = written.load(Ordering::Relaxed);
        println!("{path}: {status}, {written} bytes read, {more} bytes more in memory");
        assert_eq!(status, case.status, "{path}: {answer}");
        assert!(written > 0, "{path} was not asked for");
        assert!(written < case.most * MIB + UNDER_WAY, "{path}: {written}");
        assert!(more < 2 * case.most * MIB + ELSE, "{path}: {more}");
    }
}
