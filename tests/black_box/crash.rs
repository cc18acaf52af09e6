//! What was acknowledged is there after a crash, once.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use sqlx::PgPool;

use super::process::Hearth;

const SENDERS: usize = 20;

/// Event ids by (sender, transaction).
type Acknowledged = Arc<Mutex<HashMap<(usize, usize), String>>>;

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_killed_server_keeps_what_it_acknowledged(pool: PgPool) {
    let mut hearth = Hearth::start(&pool).await;
    let (tokens, room) = room_of_senders(&hearth).await;

    let acknowledged = send_until_killed(&mut hearth, &tokens, &room).await;
    hearth.restart().await;

    let timeline = timeline(&hearth, &tokens[0], &room).await;
    assert!(
        acknowledged.len() >= SENDERS,
        "too few were sent before the crash"
    );
    for ((sender, number), event_id) in &acknowledged {
        let body = format!("{sender} {number}");
        let found: Vec<_> = timeline
            .iter()
            .filter(|event| event["content"]["body"] == body)
            .collect();
        assert_eq!(found.len(), 1, "message {body}");
        assert_eq!(found[0]["event_id"], event_id.as_str());
    }
    for sender in 0..SENDERS {
        let (&(_, number), first) = acknowledged
            .iter()
            .find(|((who, _), _)| *who == sender)
            .unwrap();
        let (_, answer) = send(&hearth, &tokens, &room, sender, number).await.unwrap();
        assert_eq!(answer["event_id"], first.as_str(), "a repeated transaction");
    }
}

/// Users who are all in one room, and the room.
async fn room_of_senders(hearth: &Hearth) -> (Vec<String>, String) {
    let mut tokens = Vec::new();
    for sender in 0..SENDERS {
        tokens.push(hearth.register(&format!("sender{sender}")).await);
    }
    let body = json!({ "preset": "public_chat" });
    let made = hearth
        .ask("POST", "/createRoom", Some(&tokens[0]), Some(body))
        .await;
    let room = made["room_id"].as_str().unwrap().to_owned();
    for token in &tokens[1..] {
        let path = format!("/rooms/{room}/join");
        hearth
            .ask("POST", &path, Some(token), Some(json!({})))
            .await;
    }
    (tokens, room)
}

/// Lets all send until the server is killed under them; gives what was acknowledged.
async fn send_until_killed(
    hearth: &mut Hearth,
    tokens: &[String],
    room: &str,
) -> HashMap<(usize, usize), String> {
    let acknowledged = Acknowledged::default();
    let stopped = AtomicBool::new(false);
    let senders = futures_util::future::join_all((0..SENDERS).map(|sender| {
        let (hearth, stopped, acknowledged) = (&*hearth, &stopped, Arc::clone(&acknowledged));
        async move {
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok((200, answer)) = send(hearth, tokens, room, sender, number).await else {
                    return;
                };
                let id = answer["event_id"].as_str().unwrap().to_owned();
                acknowledged.lock().unwrap().insert((sender, number), id);
            }
        }
    }));
    let enough = async {
        while acknowledged.lock().unwrap().len() < 10 * SENDERS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = senders => panic!("the senders stopped by themselves"),
        () = enough => {}
    }
    hearth.kill();
    stopped.store(true, Ordering::Relaxed);
    let acknowledged = acknowledged.lock().unwrap();
    acknowledged.clone()
}

async fn send(
    hearth: &Hearth,
    tokens: &[String],
    room: &str,
    sender: usize,
    number: usize,
) -> Result<(u16, Value), reqwest::Error> {
    let path = format!("/rooms/{room}/send/m.room.message/t{number}");
    let body = json!({ "msgtype": "m.text", "body": format!("{sender} {number}") });
    hearth
        .request("PUT", &path, Some(&tokens[sender]), Some(body))
        .await
}

/// All events of a room, newest first.
async fn timeline(hearth: &Hearth, token: &str, room: &str) -> Vec<Value> {
    let mut events = Vec::new();
    let mut from = String::new();
    loop {
        let path = format!("/rooms/{room}/messages?dir=b&limit=500{from}");
        let page = hearth.ask("GET", &path, Some(token), None).await;
        events.extend(page["chunk"].as_array().unwrap().iter().cloned());
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => return events,
        }
    }
}
