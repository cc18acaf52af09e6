//! Two processes of one server, on one database, write to one room as fast as they can.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use super::{process::Hearth, redis::Redis};

/// How many users send through each process.
const SENDERS: usize = 8;

/// How many messages each sends.
const MESSAGES: usize = 40;

/// How many state events each sends.
const CHANGES: usize = 15;

/// How many branches one event merges: there are never many more.
const MERGED: usize = 10;

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

/// What was acknowledged: the event's id by what it says.
type Acknowledged = BTreeMap<String, String>;

/// Two processes, and a room in which all users are.
struct Scene {
    processes: [Hearth; 2],
    /// The users of each process.
    tokens: [Vec<String>; 2],
    room: String,
}

impl Scene {
    async fn new(pool: &PgPool, redis: &Redis) -> Self {
        let section = redis.section();
        let first = Hearth::start_with(pool, &section, None).await;
        let second = Hearth::start_with(pool, &section, Some(&first)).await;
        let mut scene = Self {
            processes: [first, second],
            tokens: [Vec::new(), Vec::new()],
            room: String::new(),
        };
        for which in 0..2 {
            for sender in 0..SENDERS {
                let name = format!("sender{which}-{sender}");
                let token = scene.processes[which].register(&name).await;
                scene.tokens[which].push(token);
            }
        }
        let body = json!({
            "preset": "public_chat",
            "power_level_content_override": { "state_default": 0 },
        });
        let token = Some(scene.tokens[0][0].as_str());
        let made = scene.processes[0]
            .ask("POST", "/createRoom", token, Some(body))
            .await;
        scene.room = made["room_id"].as_str().unwrap().to_owned();
        for (process, tokens) in scene.processes.iter().zip(&scene.tokens) {
            for token in tokens {
                let path = format!("/rooms/{}/join", scene.room);
                process
                    .ask("POST", &path, Some(token), Some(json!({})))
                    .await;
            }
        }
        scene
    }

    /// Lets every user of a process say `count` things of `round`, all at once; gives what was acknowledged.
    ///
    /// Until `stop`, anything but an acknowledgement fails the test.
    async fn say(&self, which: usize, round: &str, count: usize, stop: &Stop) -> Acknowledged {
        let users = (0..SENDERS).map(|sender| async move {
            let mut said = Vec::new();
            for number in 0..count {
                let body = format!("{round} {which} {sender} {number}");
                let path = format!("send/m.room.message/{round}{number}");
                let content = json!({ "msgtype": "m.text", "body": body });
                match self.put(which, sender, &path, content, stop).await {
                    Some(event_id) => said.push((body, event_id)),
                    None => break,
                }
            }
            said
        });
        let said = futures_util::future::join_all(users).await;
        said.into_iter().flatten().collect()
    }

    /// Lets every user of a process change state `count` times, partly what all others change too.
    async fn change(&self, which: usize, count: usize, stop: &Stop) -> Acknowledged {
        let users = (0..SENDERS).map(|sender| async move {
            let mut said = Vec::new();
            for number in 0..count {
                let body = format!("change {which} {sender} {number}");
                let key = match number % 2 {
                    0 => format!("{which}-{sender}"),
                    _ => "shared".to_owned(),
                };
                let path = format!("state/org.example.counter/{key}");
                let event_id = self
                    .put(which, sender, &path, json!({ "body": body }), stop)
                    .await;
                said.push((body, event_id.unwrap()));
            }
            said
        });
        let said = futures_util::future::join_all(users).await;
        said.into_iter().flatten().collect()
    }

    async fn put(
        &self,
        which: usize,
        sender: usize,
        path: &str,
        content: Value,
        stop: &Stop,
    ) -> Option<String> {
        let path = format!("/rooms/{}/{path}", self.room);
        let token = Some(self.tokens[which][sender].as_str());
        let answer = self.processes[which]
            .request("PUT", &path, token, Some(content))
            .await;
        match answer {
            Ok((200, answer)) => {
                stop.acknowledged.fetch_add(1, Ordering::Relaxed);
                Some(answer["event_id"].as_str().unwrap().to_owned())
            }
            _ if stop.is_set(which) => None,
            other => panic!("{path}: {other:?}"),
        }
    }

    /// Follows the room through `/sync` of a process until its last event is `last`; gives the ids in their order.
    async fn follow(&self, which: usize, last: &Last) -> Vec<String> {
        let filter = json!({ "room": { "timeline": { "limit": 1000 } } }).to_string();
        let mut path = format!("/sync?filter={filter}");
        let mut events: Vec<String> = Vec::new();
        let started = Instant::now();
        loop {
            let token = Some(self.tokens[which][0].as_str());
            let answer = self.processes[which].ask("GET", &path, token, None).await;
            let timeline = &answer["rooms"]["join"][&self.room]["timeline"];
            if !events.is_empty() {
                assert_ne!(timeline["limited"], true, "a timeline with a gap");
            }
            let ids = timeline["events"].as_array().into_iter().flatten();
            events.extend(ids.map(|event| event["event_id"].as_str().unwrap().to_owned()));
            if last.get().is_some_and(|last| events.contains(&last)) {
                return events;
            }
            assert!(started.elapsed() < LIMIT, "the last event does not come");
            let since = answer["next_batch"].as_str().unwrap();
            path = format!("/sync?filter={filter}&timeout=1000&since={since}");
        }
    }

    /// All events of the room from `/messages` of a process, the oldest first.
    async fn history(&self, which: usize) -> Vec<Value> {
        let mut events = Vec::new();
        let mut from = String::new();
        loop {
            let path = format!("/rooms/{}/messages?dir=b&limit=500{from}", self.room);
            let token = Some(self.tokens[which][0].as_str());
            let page = self.processes[which].ask("GET", &path, token, None).await;
            events.extend(page["chunk"].as_array().unwrap().iter().cloned());
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => break,
            }
        }
        events.reverse();
        events
    }

    /// The room's current state: the event by type and key.
    async fn state(&self, which: usize) -> BTreeMap<(String, String), String> {
        let path = format!("/rooms/{}/state", self.room);
        let token = Some(self.tokens[which][0].as_str());
        let state = self.processes[which].ask("GET", &path, token, None).await;
        let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        let events = state.as_array().unwrap().iter();
        events
            .map(|event| {
                let key = (text(event, "type"), text(event, "state_key"));
                (key, text(event, "event_id"))
            })
            .collect()
    }
}

/// When the first process is killed, and how much was acknowledged so far.
#[derive(Default)]
struct Stop {
    killed: AtomicBool,
    acknowledged: AtomicUsize,
}

impl Stop {
    /// Whether requests to a process may fail.
    fn is_set(&self, which: usize) -> bool {
        which == 0 && self.killed.load(Ordering::Relaxed)
    }
}

/// The last event, once it is known.
#[derive(Default)]
struct Last(std::sync::OnceLock<String>);

impl Last {
    fn get(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

fn ids(events: &[Value]) -> Vec<String> {
    let ids = events
        .iter()
        .map(|event| event["event_id"].as_str().unwrap());
    ids.map(ToOwned::to_owned).collect()
}

/// Everything that was acknowledged is there once, with the id that was told.
fn assert_complete(history: &[Value], acknowledged: &Acknowledged) {
    let mut found: HashMap<&str, Vec<&str>> = HashMap::new();
    for event in history {
        if let Some(body) = event["content"]["body"].as_str() {
            let id = event["event_id"].as_str().unwrap();
            found.entry(body).or_default().push(id);
        }
    }
    for (body, event_id) in acknowledged {
        assert_eq!(
            found.get(body.as_str()),
            Some(&vec![event_id.as_str()]),
            "{body}"
        );
    }
}

/// Every event but the first follows events that are there, and so many at most have no successor.
async fn assert_whole(pool: &PgPool, most: usize) {
    let events: Vec<(String, String)> = sqlx::query_as("SELECT event_id, json FROM event")
        .fetch_all(pool)
        .await
        .unwrap();
    let known: HashSet<&str> = events.iter().map(|(id, _)| id.as_str()).collect();
    let mut followed: HashSet<String> = HashSet::new();
    for (id, pdu) in &events {
        let pdu: Value = serde_json::from_str(pdu).unwrap();
        let previous = pdu["prev_events"].as_array().unwrap();
        assert!(
            !previous.is_empty() || pdu["type"] == "m.room.create",
            "{id} follows nothing"
        );
        for before in previous {
            let before = before.as_str().unwrap();
            assert!(
                known.contains(before),
                "{id} follows {before}, which is missing"
            );
            followed.insert(before.to_owned());
        }
    }
    let ends: HashSet<&str> = known
        .iter()
        .copied()
        .filter(|id| !followed.contains(*id))
        .collect();
    let extremities: Vec<String> = sqlx::query_scalar(
        "SELECT event_id FROM event JOIN room ON event.nid = ANY (room.extremities)",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(
        extremities
            .iter()
            .map(String::as_str)
            .collect::<HashSet<_>>(),
        ends
    );
    assert!(
        ends.len() <= most,
        "{} events without a successor",
        ends.len()
    );
    let dangling: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT snapshot_nid AS nid FROM event UNION ALL SELECT parent_nid FROM snapshot
                               UNION ALL SELECT snapshot_nid FROM current_state) named
         WHERE nid <> 0 AND NOT EXISTS (SELECT FROM snapshot s WHERE s.nid = named.nid)",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(dangling, 0, "states that are missing");
}

/// Both write messages and state at once while both are followed; then one is killed and the other goes on.
async fn write_together(pool: PgPool, redis: &Redis) {
    let mut scene = Scene::new(&pool, redis).await;
    let (stop, last) = (Stop::default(), Last::default());
    let load = async {
        let (a, b, c, d) = tokio::join!(
            scene.say(0, "calm", MESSAGES, &stop),
            scene.say(1, "calm", MESSAGES, &stop),
            scene.change(0, CHANGES, &stop),
            scene.change(1, CHANGES, &stop),
        );
        let mut said: Acknowledged = [a, b, c, d].into_iter().flatten().collect();
        // Whatever forked is merged by what comes next.
        for which in [0, 1] {
            said.extend(scene.say(which, "end", 1, &stop).await);
        }
        let content = json!({ "msgtype": "m.text", "body": "last" });
        let id = scene
            .put(1, 0, "send/m.room.message/last", content, &stop)
            .await;
        last.0.set(id.unwrap()).unwrap();
        said
    };
    let (acknowledged, first, second) =
        tokio::join!(load, scene.follow(0, &last), scene.follow(1, &last));

    let expected = 2 * SENDERS * (MESSAGES + CHANGES + 1);
    assert_eq!(acknowledged.len(), expected);
    assert_eq!(first, second, "the order of /sync");
    let (here, there) = (scene.history(0).await, scene.history(1).await);
    assert_eq!(ids(&here), ids(&there), "the order of /messages");
    assert_eq!(
        ids(&here).into_iter().collect::<HashSet<_>>(),
        first.iter().cloned().collect::<HashSet<_>>(),
    );
    assert_eq!(first.len(), here.len(), "each event once");
    assert_complete(&here, &acknowledged);
    assert_eq!(scene.state(0).await, scene.state(1).await);
    assert_whole(&pool, MERGED).await;

    go_on_alone(&mut scene, &pool).await;
}

/// Kills the first process while both write; the second goes on.
async fn go_on_alone(scene: &mut Scene, pool: &PgPool) {
    let stop = Stop::default();
    let survivors = {
        let scene = &*scene;
        let both = async {
            tokio::join!(
                scene.say(0, "crash", usize::MAX, &stop),
                scene.say(1, "crash", MESSAGES, &stop),
            )
        };
        let killing = async {
            while stop.acknowledged.load(Ordering::Relaxed) < 10 * SENDERS {
                sleep(Duration::from_millis(5)).await;
            }
            stop.killed.store(true, Ordering::Relaxed);
            scene.processes[0].kill();
        };
        let ((a, b), ()) = tokio::join!(both, killing);
        assert_eq!(b.len(), SENDERS * MESSAGES);
        a.into_iter().chain(b).collect::<Acknowledged>()
    };

    let history = scene.history(1).await;
    assert_complete(&history, &survivors);
    let (one, event_id) = survivors
        .iter()
        .find(|(body, _)| body.starts_with("crash 1 0 "))
        .unwrap();
    let number = one.rsplit(' ').next().unwrap();
    let path = format!("send/m.room.message/crash{number}");
    let again = scene.put(1, 0, &path, json!({ "body": one }), &stop).await;
    assert_eq!(again.as_ref(), Some(event_id), "a repeated transaction");
    scene.say(1, "alone", 3, &Stop::default()).await;
    let before = ids(&scene.history(1).await);
    scene.processes[0].restart().await;
    assert_eq!(ids(&scene.history(0).await), before);
    assert_eq!(scene.state(0).await, scene.state(1).await);
    // Its next event merges all branches.
    let stop = Stop::default();
    let content = json!({ "msgtype": "m.text", "body": "back" });
    scene
        .put(0, 0, "send/m.room.message/back", content, &stop)
        .await;
    assert_whole(pool, 1).await;
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn two_processes_write_to_one_room(pool: PgPool) {
    let redis = Redis::start().await;
    write_together(pool, &redis).await;
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn two_processes_write_to_one_room_while_redis_is_away(pool: PgPool) {
    write_together(pool, &Redis::absent()).await;
}

/// Whoever builds while a room's row is locked needs more than that connection; there are fewer than rooms.
#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn few_connections_suffice_for_many_rooms_that_both_change(pool: PgPool) {
    const ROOMS: usize = 12;
    let redis = Redis::start().await;
    let more = format!("max_connections = 6\n{}", redis.section());
    let first = Hearth::start_with(&pool, &more, None).await;
    let second = Hearth::start_with(&pool, &more, Some(&first)).await;
    let processes = [first, second];
    let token = processes[0].register("alice").await;
    let token = Some(token.as_str());
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        let made = processes[0]
            .ask("POST", "/createRoom", token, Some(json!({})))
            .await;
        rooms.push(made["room_id"].as_str().unwrap().to_owned());
    }

    let changes = rooms.iter().enumerate().flat_map(|(which, room)| {
        let processes = &processes;
        (0..6).map(move |writer| async move {
            for number in 0..5 {
                let path = format!("/rooms/{room}/state/org.example.counter/{writer}");
                let content = json!({ "number": number });
                let process = &processes[(writer + which) % 2];
                process.ask("PUT", &path, token, Some(content)).await;
            }
        })
    });
    futures_util::future::join_all(changes).await;

    for room in &rooms {
        let path = format!("/rooms/{room}/state");
        for process in &processes {
            let state = process.ask("GET", &path, token, None).await;
            let counters = state.as_array().unwrap().iter();
            let counters: Vec<_> = counters
                .filter(|event| event["type"] == "org.example.counter")
                .collect();
            assert_eq!(counters.len(), 6);
            assert!(counters.iter().all(|event| event["content"]["number"] == 4));
        }
    }
}
