//! What was said before somebody came.

use serde_json::{Value, json};

use crate::interop::{
    scene::Scene,
    user::{User, eventually},
};

/// More than a server asks for at once.
const MESSAGES: usize = 130;

pub(super) async fn paged_back(scene: Scene) {
    let (alice, bob) = scene.users().await;
    let room = alice.create_public().await;
    let mut said = Vec::new();
    for number in 0..MESSAGES {
        said.push(alice.say(&room, &format!("number {number}")).await);
    }
    bob.join(&room, &scene.host).await;

    eventually("Bob reads all that was said", async || {
        let history = read_back(&bob, &room).await;
        let mut heard: Vec<_> = history
            .iter()
            .filter(|event| event["type"] == "m.room.message")
            .map(|event| event["event_id"].as_str().unwrap().to_owned())
            .collect();
        heard.reverse();
        match heard == said && history.iter().any(|event| event["type"] == "m.room.create") {
            true => Ok(()),
            false => Err(format!(
                "{} events, {} messages",
                history.len(),
                heard.len()
            )),
        }
    })
    .await;
}

pub(super) async fn hidden(scene: Scene) {
    let (alice, bob) = scene.users().await;
    let rule = json!({
        "type": "m.room.history_visibility",
        "content": { "history_visibility": "joined" },
    });
    let room = alice
        .create(json!({ "preset": "public_chat", "initial_state": [rule] }))
        .await;
    let secret = alice.say(&room, "a secret").await;
    bob.join(&room, &scene.host).await;
    let said = alice.say(&room, "no secret").await;
    bob.hears(&room, &said).await;

    let history = read_back(&bob, &room).await;

    assert!(history.iter().any(|event| event["event_id"] == said));
    assert!(!history.iter().any(|event| event["event_id"] == secret));
    let (status, answer) = bob
        .get(&["v3", "rooms", &room, "event", &secret])
        .send()
        .await;
    assert!(status == 403 || status == 404, "{status} {answer}");
}

pub(super) async fn by_time(scene: Scene) {
    let (alice, bob) = scene.users().await;
    let room = alice.create_public().await;
    let mut said = Vec::new();
    for number in 0..5 {
        said.push(alice.say(&room, &format!("number {number}")).await);
    }
    let path = ["v3", "rooms", &room, "event", &said[2]];
    let event = alice.get(&path).ok().await;
    let time = event["origin_server_ts"].as_u64().expect("it has a time");
    bob.join(&room, &scene.host).await;

    let found = bob
        .get(&["v1", "rooms", &room, "timestamp_to_event"])
        .query("ts", time)
        .query("dir", "f")
        .ok()
        .await;

    assert_eq!(found["origin_server_ts"], time);
    // Others may have been said in the same millisecond.
    assert!(said.iter().any(|id| found["event_id"] == *id), "{found}");
}

pub(super) async fn around_an_event(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    let mut said = Vec::new();
    for number in 0..7 {
        said.push(alice.say(&room, &format!("number {number}")).await);
    }
    bob.hears(&room, &said[6]).await;

    let context = bob
        .get(&["v3", "rooms", &room, "context", &said[3]])
        .query("limit", 6)
        .ok()
        .await;

    let ids = |part: &str| -> Vec<String> {
        context[part]
            .as_array()
            .expect("it is a list")
            .iter()
            .map(|event| event["event_id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(context["event"]["event_id"], said[3]);
    assert_eq!(ids("events_after"), said[4..]);
    let before: Vec<_> = said[..3].iter().rev().cloned().collect();
    assert_eq!(ids("events_before"), before);
}

/// Everything that a user can page back to, newest first.
pub(super) async fn read_back(user: &User, room: &str) -> Vec<Value> {
    let mut events = Vec::new();
    let mut from = None;
    for _ in 0..50 {
        let mut request = user
            .get(&["v3", "rooms", room, "messages"])
            .query("dir", "b")
            .query("limit", 50);
        if let Some(from) = &from {
            request = request.query("from", from);
        }
        let page = request.ok().await;
        events.extend(page["chunk"].as_array().unwrap().iter().cloned());
        match page["end"].as_str() {
            Some(end) => from = Some(end.to_owned()),
            None => break,
        }
    }
    events
}
