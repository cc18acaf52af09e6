//! What is no event.

use serde_json::json;
use sqlx::PgPool;

use super::pair::{Pair, encode, has};

#[sqlx::test(migrations = false)]
async fn typing_receipts_and_presence_are_seen_on_the_other_server(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let (host, guest) = (&pair.host, &pair.guest);
    let (alice, bob) = (host.register("alice").await, guest.register("bob").await);
    let room = host.room(&alice, json!({ "preset": "public_chat" })).await;
    guest.join(&bob, &room, &host.name).await;
    let hello = guest.say(&bob, &room, "hello").await;
    host.sees(&alice, &room, &hello).await;
    let (in_room, bob_id) = (encode(&room), encode(&bob.id));

    let path = format!("/rooms/{in_room}/typing/{bob_id}");
    let body = json!({ "typing": true, "timeout": 30_000 });
    guest.ask(&bob, "PUT", &path, Some(body)).await;
    host.sync_until(&alice, "Bob types", |response| {
        let events = &response["rooms"]["join"][&room]["ephemeral"]["events"];
        has(events, |event| {
            event["content"]["user_ids"] == json!([bob.id])
        })
    })
    .await;

    let path = format!("/rooms/{in_room}/receipt/m.read/{}", encode(&hello));
    guest.ask(&bob, "POST", &path, Some(json!({}))).await;
    host.sync_until(&alice, "Bob has read", |response| {
        let events = &response["rooms"]["join"][&room]["ephemeral"]["events"];
        has(events, |event| {
            event["content"][&hello]["m.read"].get(&bob.id).is_some()
        })
    })
    .await;

    let path = format!("/presence/{bob_id}/status");
    let body = json!({ "presence": "online", "status_msg": "tea time" });
    guest.ask(&bob, "PUT", &path, Some(body)).await;
    host.sync_until(&alice, "Bob is there", |response| {
        has(&response["presence"]["events"], |event| {
            event["sender"] == bob.id.as_str() && event["content"]["status_msg"] == "tea time"
        })
    })
    .await;
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn a_receipt_without_a_thread_is_not_lost_behind_one_with_a_thread(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let (host, guest) = (&pair.host, &pair.guest);
    let (alice, bob) = (host.register("alice").await, guest.register("bob").await);
    let room = host.room(&alice, json!({ "preset": "public_chat" })).await;
    guest.join(&bob, &room, &host.name).await;
    for body in ["one", "two", "three"] {
        let event = guest.say(&bob, &room, body).await;
        host.sees(&alice, &room, &event).await;

        let path = format!("/rooms/{}/receipt/m.read/{}", encode(&room), encode(&event));
        for receipt in [json!({}), json!({ "thread_id": "main" })] {
            guest.ask(&bob, "POST", &path, Some(receipt)).await;
        }

        host.sync_until(&alice, "Bob has read all", |response| {
            let events = &response["rooms"]["join"][&room]["ephemeral"]["events"];
            has(events, |content| {
                let receipt = content["content"][&event]["m.read"].get(&bob.id);
                receipt.is_some_and(|receipt| receipt.get("thread_id").is_none())
            })
        })
        .await;
    }
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn a_message_to_a_device_arrives_once_though_the_server_was_away(pool: PgPool) {
    let mut pair = Pair::start(pool).await;
    let (alice, bob) = (
        pair.host.register("alice").await,
        pair.guest.register("bob").await,
    );
    pair.host.stop().await;

    let body = json!({ "messages": { (alice.id.as_str()): { "*": { "cup": "of tea" } } } });
    pair.guest
        .ask(&bob, "PUT", "/sendToDevice/x.tea/1", Some(body))
        .await;
    pair.host.restart().await;

    let response = pair
        .host
        .sync_until(&alice, "the message", |response| {
            has(&response["to_device"]["events"], |event| {
                event["type"] == "x.tea"
            })
        })
        .await;
    let events = response["to_device"]["events"].as_array().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["sender"], bob.id);
    assert_eq!(events[0]["content"]["cup"], "of tea");
    pair.end().await;
}
