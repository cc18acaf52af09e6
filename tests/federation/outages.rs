//! One server is away for a while.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::PgPool;

use super::pair::Pair;

#[sqlx::test(migrations = false)]
async fn what_was_said_while_a_server_was_away_is_caught_up(pool: PgPool) {
    let mut pair = Pair::start(pool).await;
    let (alice, bob) = (
        pair.host.register("alice").await,
        pair.guest.register("bob").await,
    );
    let room = pair
        .host
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    pair.guest.join(&bob, &room, &pair.host.name).await;
    pair.guest.stop().await;

    let mut said = Vec::new();
    for number in 0..25 {
        said.push(pair.host.say(&alice, &room, &number.to_string()).await);
    }
    // It would be tried again by itself; that it talks is a sign that it is back.
    pair.guest.restart().await;
    pair.guest.say(&bob, &room, "I am back").await;

    let path = format!(
        "/rooms/{}/messages?dir=b&limit=100",
        super::pair::encode(&room)
    );
    let begun = Instant::now();
    loop {
        let page = pair.guest.ask(&bob, "GET", &path, None).await;
        let known: Vec<&str> = page["chunk"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|event| event["event_id"].as_str())
            .collect();
        if said
            .iter()
            .all(|event_id| known.contains(&event_id.as_str()))
        {
            break;
        }
        assert!(begun.elapsed() < super::pair::PATIENCE, "{page:#}");
        pair.guest.ask(&bob, "GET", "/sync?timeout=500", None).await;
    }
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn what_waits_is_sent_after_a_new_start(pool: PgPool) {
    let mut pair = Pair::start(pool).await;
    let (alice, bob) = (
        pair.host.register("alice").await,
        pair.guest.register("bob").await,
    );
    let room = pair
        .host
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    pair.guest.join(&bob, &room, &pair.host.name).await;
    pair.guest.stop().await;
    let said = pair.host.say(&alice, &room, "are you there?").await;

    pair.host.restart().await;
    pair.guest.restart().await;

    pair.guest.sees(&bob, &room, &said).await;
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn what_could_not_be_read_is_sent_later_though_nothing_else_happens(pool: PgPool) {
    let pair = Pair::start(pool.clone()).await;
    let (alice, bob) = (
        pair.host.register("alice").await,
        pair.guest.register("bob").await,
    );
    let room = pair
        .host
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    pair.guest.join(&bob, &room, &pair.host.name).await;
    let hello = pair.host.say(&alice, &room, "hello").await;
    pair.guest.sees(&bob, &room, &hello).await;

    let (away, back) = (
        "ALTER TABLE outbox_message RENAME TO away",
        "ALTER TABLE away RENAME TO outbox_message",
    );
    pair.host.execute(&pool, away).await;
    let said = pair.host.say(&alice, &room, "can you hear me?").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    pair.host.execute(&pool, back).await;

    pair.guest.sees(&bob, &room, &said).await;
    pair.end().await;
}
