//! Rooms with users of both servers.

use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use super::pair::{Pair, encode, has};

#[sqlx::test(migrations = false)]
async fn users_of_both_servers_talk(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let (host, guest) = (&pair.host, &pair.guest);
    let (alice, bob) = (host.register("alice").await, guest.register("bob").await);
    let body = json!({ "preset": "public_chat", "room_alias_name": "tea" });
    let room = host.room(&alice, body).await;

    let alias = encode(&format!("#tea:{}", host.name));
    guest
        .ask(&bob, "POST", &format!("/join/{alias}"), Some(json!({})))
        .await;
    let hello = host.say(&alice, &room, "hello").await;
    guest.sees(&bob, &room, &hello).await;
    let answer = guest.say(&bob, &room, "hello yourself").await;
    host.sees(&alice, &room, &answer).await;

    // A second user comes in through his own server, and the host hears of it.
    let carol = guest.register("carol").await;
    guest.join(&carol, &room, &guest.name).await;
    host.sync_until(&alice, "Carol", |response| {
        let events = &response["rooms"]["join"][&room]["timeline"]["events"];
        has(events, |event| event["state_key"] == carol.id.as_str())
    })
    .await;
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn an_invite_reaches_the_other_server_and_is_accepted(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let (host, guest) = (&pair.host, &pair.guest);
    let (alice, bob) = (host.register("alice").await, guest.register("bob").await);
    let body = json!({ "preset": "private_chat", "name": "Secrets" });
    let room = host.room(&alice, body).await;
    let path = format!("/join/{}?via={}", encode(&room), encode(&host.name));
    let (status, _) = guest.send(Some(&bob), "POST", &path, Some(json!({}))).await;
    assert_eq!(status, StatusCode::FORBIDDEN);

    host.act(&alice, &room, "invite", &bob).await;
    let response = guest
        .sync_until(&bob, "the invite", |response| {
            response["rooms"]["invite"].get(&room).is_some()
        })
        .await;
    let told = &response["rooms"]["invite"][&room]["invite_state"]["events"];
    assert!(has(told, |event| event["content"]["name"] == "Secrets"));
    guest.join(&bob, &room, &host.name).await;

    let hello = guest.say(&bob, &room, "thank you").await;
    host.sees(&alice, &room, &hello).await;
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn an_invite_is_turned_down(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let (host, guest) = (&pair.host, &pair.guest);
    let (alice, bob) = (host.register("alice").await, guest.register("bob").await);
    let room = host.room(&alice, json!({ "preset": "private_chat" })).await;
    host.act(&alice, &room, "invite", &bob).await;
    guest.is_in(&bob, &room, "invite").await;

    guest.leave(&bob, &room).await;

    host.sync_until(&alice, "the refusal", |response| {
        let events = &response["rooms"]["join"][&room]["timeline"]["events"];
        has(events, |event| {
            event["state_key"] == bob.id.as_str() && event["content"]["membership"] == "leave"
        })
    })
    .await;
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn a_user_who_is_thrown_out_sees_it_and_nothing_after(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let (host, guest) = (&pair.host, &pair.guest);
    let (alice, bob) = (host.register("alice").await, guest.register("bob").await);
    let room = host.room(&alice, json!({ "preset": "public_chat" })).await;
    guest.join(&bob, &room, &host.name).await;
    let hello = host.say(&alice, &room, "hello").await;
    guest.sees(&bob, &room, &hello).await;

    host.act(&alice, &room, "kick", &bob).await;

    guest.is_in(&bob, &room, "leave").await;
    let secret = host.say(&alice, &room, "he is gone").await;
    guest.join(&bob, &room, &host.name).await;
    let back = host.say(&alice, &room, "he is back").await;
    guest.sees(&bob, &room, &back).await;
    assert_ne!(secret, back);
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn a_user_leaves_a_room_of_the_other_server(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let (host, guest) = (&pair.host, &pair.guest);
    let (alice, bob) = (host.register("alice").await, guest.register("bob").await);
    let room = host.room(&alice, json!({ "preset": "public_chat" })).await;
    guest.join(&bob, &room, &host.name).await;

    guest.leave(&bob, &room).await;

    host.sync_until(&alice, "the leave", |response| {
        let events = &response["rooms"]["join"][&room]["timeline"]["events"];
        has(events, |event| {
            event["state_key"] == bob.id.as_str() && event["content"]["membership"] == "leave"
        })
    })
    .await;
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn a_knock_is_heard_and_answered(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let (host, guest) = (&pair.host, &pair.guest);
    let (alice, bob) = (host.register("alice").await, guest.register("bob").await);
    let rules = json!({
        "preset": "private_chat",
        "initial_state": [{
            "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" },
        }],
    });
    let room = host.room(&alice, rules).await;

    let path = format!("/knock/{}?via={}", encode(&room), encode(&host.name));
    guest.ask(&bob, "POST", &path, Some(json!({}))).await;
    host.sync_until(&alice, "the knock", |response| {
        let events = &response["rooms"]["join"][&room]["timeline"]["events"];
        has(events, |event| event["content"]["membership"] == "knock")
    })
    .await;
    host.act(&alice, &room, "invite", &bob).await;
    guest.is_in(&bob, &room, "invite").await;
    guest.join(&bob, &room, &host.name).await;

    pair.end().await;
}
