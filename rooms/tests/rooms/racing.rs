//! Several processes that send and receive in one room at once.

use std::{collections::HashSet, sync::Arc};

use futures_util::future::join_all;
use hearth_store::{MIGRATOR, write::Status};
use ruma::{EventId, OwnedEventId, RoomVersionId};
use serde_json::json;
use sqlx::PgPool;

use crate::{
    engine::Engine,
    peer::{Event, Peer, World},
};

/// How many events each of the four does.
const EACH: usize = 40;

/// Sends messages, and now and then a note.
async fn send(engine: &Engine, room: &hearth_rooms::Room, name: &str) -> Vec<OwnedEventId> {
    let mut sent = Vec::new();
    for number in 0..EACH {
        let event = match number % 4 {
            0 => {
                let key = (number % 8).to_string();
                let content = json!({ "by": name, "n": number });
                engine.set(room, "org.example.note", &key, content).await
            }
            _ => engine.say(room, &format!("{name} {number}")).await,
        };
        sent.push(event.pdu.event_id.clone());
    }
    sent
}

/// Receives what a branch of another server holds.
async fn receive(
    engine: &Engine,
    room: &hearth_rooms::Room,
    branch: &[Event],
) -> Vec<OwnedEventId> {
    let mut received = Vec::new();
    for event in branch {
        assert_eq!(engine.status(room, event).await, Status::Accepted);
        received.push(event.id.clone());
    }
    received
}

/// One process gets a redaction while another gets what it redacts.
#[sqlx::test(migrator = "MIGRATOR")]
async fn a_redaction_that_meets_its_target_applies(pool: PgPool) {
    let peer = Peer::new("there.org");
    let world = Arc::new(World(vec![Arc::clone(&peer)]));
    let one = Engine::start(&pool, Arc::clone(&world) as _).await;
    let two = Engine::start(&pool, world).await;
    let room = one.room(RoomVersionId::V12).await;
    one.join(&room, &peer, "bob").await;
    let bob = peer.user("bob");
    let there = two.rooms.find(&room.id).await.unwrap().unwrap();
    let mut place = peer.on_top(&one, &room).await;

    for number in 0..EACH {
        let target = place.message(&bob, &number.to_string()).sign(&peer);
        let content = json!({ "redacts": target.id });
        let redaction = place.event(&bob, ("m.room.redaction", None), &content);
        let redaction = redaction.sign(&peer);
        let statuses = tokio::join!(one.status(&room, &redaction), two.status(&there, &target));
        assert_eq!(statuses, (Status::Accepted, Status::Accepted));
        place = place.only_after(&[&target, &redaction]);
    }

    let kept: Vec<String> = sqlx::query_scalar(
        "SELECT event_id FROM event WHERE type = 'm.room.message' AND redacted_by IS NULL",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(kept.is_empty(), "{kept:?} are not redacted");
    two.end().await;
    one.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn nothing_is_lost_and_all_agree(pool: PgPool) {
    let peer = Peer::new("there.org");
    let world = Arc::new(World(vec![Arc::clone(&peer)]));
    let one = Engine::start(&pool, Arc::clone(&world) as _).await;
    let two = Engine::start(&pool, world).await;
    let room = one.room(RoomVersionId::V12).await;
    one.join(&room, &peer, "bob").await;
    let bob = peer.user("bob");
    let levels = json!({ "users": { bob.as_str(): 50 } });
    one.set(&room, "m.room.power_levels", "", levels).await;
    let there = two.rooms.find(&room.id).await.unwrap().unwrap();
    let start = peer.on_top(&one, &room).await;
    let branches: Vec<Vec<Event>> = ["left", "right"]
        .into_iter()
        .map(|name| {
            let mut place = start.clone();
            let events = (0..EACH).map(|number| {
                let content = json!({ "by": name, "n": number });
                let key = (number % 8).to_string();
                let event = match number % 4 {
                    0 => place.state(&bob, ("org.example.note", &key), &content),
                    _ => place.message(&bob, &format!("{name} {number}")),
                };
                let event = event.sign(&peer);
                place = place.clone().after(&event);
                event
            });
            events.collect()
        })
        .collect();

    let (a, b, c, d) = tokio::join!(
        send(&one, &room, "one"),
        send(&two, &there, "two"),
        receive(&one, &room, &branches[0]),
        receive(&two, &there, &branches[1]),
    );

    let timeline = one.timeline(&room).await;
    let known: HashSet<&str> = timeline.iter().map(String::as_str).collect();
    assert_eq!(known.len(), timeline.len());
    for id in [a, b, c, d].iter().flatten() {
        assert!(known.contains(id.as_str()), "{id} is lost");
    }
    let ids: Vec<OwnedEventId> = timeline
        .iter()
        .map(|id| EventId::parse(id).unwrap())
        .collect();
    let events = join_all(ids.iter().map(|id| one.event(id))).await;
    for event in events.into_iter().flatten() {
        for previous in &event.pdu.prev_events {
            assert!(known.contains(previous.as_str()), "{previous} is not there");
        }
    }
    // One more event each, so that both hear of the last one of the other.
    one.say(&room, "last").await;
    two.say(&there, "very last").await;
    let states = [one.state_ids(&room).await, two.state_ids(&there).await];
    assert_eq!(states[0], states[1]);
    let ends = one.extremities(&room).await;
    let ends: Vec<OwnedEventId> = ends.iter().map(|id| EventId::parse(id).unwrap()).collect();
    let resolved = one.rooms.state_after_all(&room, &ends).await.unwrap();
    let row: (Option<i64>,) = sqlx::query_as("SELECT snapshot_nid FROM room WHERE nid = $1")
        .bind(room.nid)
        .fetch_one(&pool)
        .await
        .unwrap();
    let current = one.rooms.snapshot(row.0.unwrap().into()).await.unwrap();
    assert_eq!(current.map, resolved);
    two.end().await;
    one.end().await;
}
