//! Random graphs in random orders: every engine comes to the same state.

use std::{collections::HashMap, sync::Arc};

use hearth_rooms::Room;
use hearth_store::{MIGRATOR, write::Status};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use ruma::{OwnedUserId, RoomVersionId, state_res::auth_types_for_event};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    counts::check_counts,
    engine::{Engine, alice},
    peer::{Event, Peer, Place, World},
};

/// How many events a graph has.
const EVENTS: usize = 24;

/// How many graphs are tried in each room version.
const GRAPHS: usize = 4;

/// What a step of a graph does: who, what, after which of the events so far.
#[derive(Clone, Debug)]
struct Step {
    sender: usize,
    what: What,
    after: Vec<prop::sample::Index>,
    later: u64,
}

#[derive(Clone, Debug)]
enum What {
    Topic,
    Note(u8),
    Ban(usize),
    Unban(usize),
    Join,
    Leave,
    Levels(usize, i64),
    Rules(bool),
    Message,
}

fn step() -> impl Strategy<Value = Step> {
    let what = prop_oneof![
        3 => Just(What::Topic),
        3 => (0..3_u8).prop_map(What::Note),
        2 => (0..4_usize).prop_map(What::Ban),
        1 => (0..4_usize).prop_map(What::Unban),
        2 => Just(What::Join),
        1 => Just(What::Leave),
        2 => (0..4_usize, 0..101_i64).prop_map(|(user, level)| What::Levels(user, level)),
        1 => any::<bool>().prop_map(What::Rules),
        2 => Just(What::Message),
    ];
    let after = prop::collection::vec(any::<prop::sample::Index>(), 1..4);
    (0..4_usize, what, after, 0..3_u64).prop_map(|(sender, what, after, later)| Step {
        sender,
        what,
        after,
        later,
    })
}

/// The users of the peer.
fn users(peer: &Peer) -> Vec<OwnedUserId> {
    ["bob", "carol", "dave", "erin"]
        .into_iter()
        .map(|name| peer.user(name))
        .collect()
}

/// Says what a step sends.
fn content(step: &Step, number: usize, users: &[OwnedUserId]) -> (String, Option<String>, Value) {
    let member = |user: &OwnedUserId, membership: &str| {
        let kind = "m.room.member".to_owned();
        (
            kind,
            Some(user.to_string()),
            json!({ "membership": membership, "n": number }),
        )
    };
    let state = |kind: &str, content: Value| (kind.to_owned(), Some(String::new()), content);
    match &step.what {
        What::Topic => state("m.room.topic", json!({ "topic": number.to_string() })),
        What::Note(key) => (
            "org.example.note".to_owned(),
            Some(key.to_string()),
            json!({ "n": number }),
        ),
        What::Ban(user) => member(&users[*user], "ban"),
        What::Unban(user) => member(&users[*user], "leave"),
        What::Join => member(&users[step.sender], "join"),
        What::Leave => member(&users[step.sender], "leave"),
        What::Levels(user, level) => {
            let mut levels: serde_json::Map<String, Value> = users
                .iter()
                .map(|user| (user.to_string(), json!(50)))
                .collect();
            levels.insert(users[*user].to_string(), json!(level));
            let content =
                json!({ "users": levels, "users_default": 0, "state_default": 25, "n": number });
            state("m.room.power_levels", content)
        }
        What::Rules(open) => {
            let rule = if *open { "public" } else { "invite" };
            state(
                "m.room.join_rules",
                json!({ "join_rule": rule, "n": number }),
            )
        }
        What::Message => (
            "m.room.message".to_owned(),
            None,
            json!({ "body": number.to_string(), "msgtype": "m.text" }),
        ),
    }
}

/// Delivers steps to one engine in their order, each event made on the engine's own view of the state before it; gives
/// the events.
async fn grow(
    engine: &Engine,
    room: &Room,
    peer: &Peer,
    start: &Place,
    steps: &[Step],
) -> Vec<Event> {
    let users = users(peer);
    let mut events: Vec<Event> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let mut previous: Vec<usize> = step
            .after
            .iter()
            .map(|index| index.index(events.len() + 1))
            .collect();
        previous.sort_unstable();
        previous.dedup();
        // Number 0 is where the graph begins.
        let chosen: Vec<&Event> = previous
            .iter()
            .filter_map(|at| events.get(at.checked_sub(1)?))
            .collect();
        let mut place = start.clone();
        if !chosen.is_empty() {
            place = place.only_after(&chosen);
        }
        let (kind, key, content) = content(step, number, &users);
        let sender = &users[step.sender];
        let state = engine.state_before(room, &place.previous_ids()).await;
        let types = auth_types_for_event(
            &kind.as_str().into(),
            sender,
            key.as_deref(),
            &serde_json::value::to_raw_value(&content).unwrap(),
            &room.rules.authorization,
        )
        .unwrap();
        let held: HashMap<(String, String), ruma::OwnedEventId> = types
            .into_iter()
            .filter_map(|(kind, key)| {
                let key = (kind.to_string(), key);
                Some((key.clone(), state.get(&key)?.clone()))
            })
            .collect();
        let place = place
            .holding(held)
            .later(step.later + u64::try_from(number).unwrap());
        let event = place
            .event(sender, (&kind, key.as_deref()), &content)
            .sign(peer);
        engine.receive(room, &event).await.unwrap();
        events.push(event);
    }
    events
}

/// Delivers events in an order of the generator's in which each comes after those before it, so many at a time.
async fn deliver(
    engine: &Engine,
    room: &Room,
    (events, together): (&[Event], usize),
    rng: &mut TestRng,
) {
    let mut open: Vec<&Event> = events.iter().collect();
    let mut ordered = Vec::with_capacity(events.len());
    while !open.is_empty() {
        let ready: Vec<usize> = (0..open.len())
            .filter(|at| {
                let previous = &open[*at].pdu.prev_events;
                previous
                    .iter()
                    .all(|id| open.iter().all(|event| event.id != *id))
            })
            .collect();
        let random = usize::try_from(rng.next_u32()).unwrap();
        ordered.push(open.remove(ready[random % ready.len()]));
    }
    for some in ordered.chunks(together) {
        engine.receive_all(room, some).await;
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn engines_that_get_the_same_events_come_to_the_same_state(pool: PgPool) {
    let peer = Peer::new("there.org");
    let world = Arc::new(World(vec![Arc::clone(&peer)]));
    let engine = Engine::start(&pool, Arc::clone(&world) as _).await;
    let mut rooms = Vec::new();
    for version in [RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
        for _ in 0..GRAPHS {
            let room = engine.room(version.clone()).await;
            for name in ["bob", "carol", "dave", "erin"] {
                engine.join(&room, &peer, name).await;
            }
            let named = users(&peer);
            let mut levels: serde_json::Map<String, Value> = named
                .iter()
                .map(|user| (user.to_string(), json!(50)))
                .collect();
            if version != RoomVersionId::V12 {
                levels.insert(alice().to_string(), json!(100));
            }
            let content = json!({ "users": levels, "events": { "m.room.power_levels": 50 }, "state_default": 25 });
            engine.set(&room, "m.room.power_levels", "", content).await;
            let start = peer.on_top(&engine, &room).await;
            rooms.push((room.id.clone(), start));
        }
    }
    engine.end().await;
    let copies = [
        copy(&pool, 0).await,
        copy(&pool, 1).await,
        copy(&pool, 2).await,
    ];
    let mut engines = Vec::new();
    for copy in &copies {
        engines.push(Engine::start(copy, Arc::clone(&world) as _).await);
    }
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let (mut accepted, mut all) = (0, 0);
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));

    for (id, start) in rooms {
        let steps = prop::collection::vec(step(), EVENTS)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let [first, others @ ..] = engines.as_slice() else {
            unreachable!("there are three")
        };
        let room = first.rooms.find(&id).await.unwrap().unwrap();
        let events = grow(first, &room, &peer, &start, &steps).await;
        // An event of somebody who saw everything makes soft failures, which depend on the order, undone.
        let ends: Vec<&Event> = events
            .iter()
            .filter(|event| is_end(event, &events))
            .collect();
        let state = first.state_before(&room, &ids(&ends)).await;
        let last = start
            .clone()
            .only_after(&ends)
            .holding(state.into_iter().collect())
            .later(1_000);
        let last = last
            .message(&peer.user("bob"), "saw everything")
            .sign(&peer);
        let judged = first.status(&room, &last).await;
        for (other, together) in others.iter().zip([1, 7]) {
            let there = other.rooms.find(&id).await.unwrap().unwrap();
            deliver(other, &there, (&events, together), runner.rng()).await;
            let judged_there = other.status(&there, &last).await;
            if judged == Status::Accepted && judged_there == Status::Accepted {
                let states = [first.state_ids(&room).await, other.state_ids(&there).await];
                assert_eq!(states[0], states[1], "{steps:?}");
            }
            for event in events.iter().chain([&last]) {
                all += 1;
                accepted += u32::from(other.event(&event.id).await.unwrap().is_accepted());
                let before = [first.before(event).await, other.before(event).await];
                assert_eq!(before[0], before[1], "{} {steps:?}", event.json);
            }
        }
    }
    assert!(
        accepted > all / 3,
        "{accepted} of {all} events were accepted"
    );
    for copy in &copies {
        check_counts(copy).await;
    }
}

fn ids(events: &[&Event]) -> Vec<ruma::OwnedEventId> {
    events.iter().map(|event| event.id.clone()).collect()
}

/// Whether nothing comes after an event.
fn is_end(event: &Event, events: &[Event]) -> bool {
    events
        .iter()
        .all(|other| !other.pdu.prev_events.contains(&event.id))
}

/// A database like another one, to which nobody is connected.
async fn copy(pool: &PgPool, number: usize) -> PgPool {
    let options = pool.connect_options();
    let name = options.get_database().unwrap().to_owned();
    pool.close().await;
    let maintenance = PgPool::connect_with((*options).clone().database("postgres"))
        .await
        .unwrap();
    // Names have at most 63 bytes.
    let copy = format!("{number}{}", &name[name.len() - 40..]);
    let statement = format!("CREATE DATABASE \"{copy}\" TEMPLATE \"{name}\"");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(&maintenance)
        .await
        .unwrap();
    maintenance.close().await;
    PgPool::connect_with((*options).clone().database(&copy))
        .await
        .unwrap()
}

proptest! {
    #[test]
    fn random_text_is_no_event_and_no_panic(text in ".{0,200}") {
        if let Ok(raw) = serde_json::value::RawValue::from_string(text) {
            let rules = RoomVersionId::V12.rules().unwrap();
            let id = ruma::room_id!("!AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
            prop_assert!(hearth_rooms::Incoming::read(&raw, id, &rules).is_err());
        }
    }

    #[test]
    fn random_fields_make_no_panic(
        fields in prop::collection::btree_map(field(), value(), 0..14),
        version in prop::sample::select(&hearth_rooms::version::SUPPORTED[..]),
    ) {
        let raw = serde_json::value::to_raw_value(&fields).unwrap();
        let id = ruma::room_id!("!r:there.org");
        let _ = hearth_rooms::Incoming::read(&raw, id, &version.rules().unwrap());
    }
}

fn field() -> impl Strategy<Value = String> {
    const KNOWN: [&str; 14] = [
        "auth_events",
        "content",
        "depth",
        "hashes",
        "origin_server_ts",
        "prev_events",
        "redacts",
        "room_id",
        "sender",
        "signatures",
        "state_key",
        "type",
        "unsigned",
        "event_id",
    ];
    prop::sample::select(&KNOWN[..]).prop_map(ToOwned::to_owned)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(json!("@bob:there.org")),
        Just(json!("!r:there.org")),
        Just(json!("m.room.member")),
        Just(json!("$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(field(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
