//! Invites that are turned down or taken back.

use serde_json::{Value, json};
use sqlx::PgPool;

use super::pair::{Pair, Side, User, encode};

/// Waits until a user whose invite came with `invited` sees that he is no longer invited, and gives the event.
async fn end_of_invite(side: &Side, user: &User, room: &str, invited: &Value) -> Value {
    let response = side
        .sync_from(user, Some(invited), "the end of the invite", |response| {
            response["rooms"]["leave"].get(room).is_some()
        })
        .await;
    let events = &response["rooms"]["leave"][room]["timeline"]["events"];
    assert_eq!(events.as_array().unwrap().len(), 1, "{response:#}");
    // A client that starts anew and wants to know sees the same.
    let filter = json!({ "room": { "include_leave": true } }).to_string();
    let path = format!("/sync?filter={}", encode(&filter));
    let anew = side.ask(user, "GET", &path, None).await;
    let again = &anew["rooms"]["leave"][room]["timeline"]["events"];
    assert_eq!(again[0]["event_id"], events[0]["event_id"]);
    events[0].clone()
}

#[sqlx::test(migrations = false)]
async fn who_turns_an_invite_down_sees_that_he_did(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let (host, guest) = (&pair.host, &pair.guest);
    let (alice, bob) = (host.register("alice").await, guest.register("bob").await);
    let room = host.room(&alice, json!({ "preset": "private_chat" })).await;
    for _ in 0..2 {
        host.act(&alice, &room, "invite", &bob).await;
        let invited = guest.is_in(&bob, &room, "invite").await;

        guest.leave(&bob, &room).await;

        let leave = end_of_invite(guest, &bob, &room, &invited).await;
        assert_eq!(leave["content"]["membership"], "leave");
        assert_eq!(leave["sender"], bob.id);
        let event_id = leave["event_id"].as_str().unwrap();
        host.sees(&alice, &room, event_id).await;
    }
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn an_invite_to_a_room_that_all_have_left_is_turned_down(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let (host, guest) = (&pair.host, &pair.guest);
    let (alice, bob) = (host.register("alice").await, guest.register("bob").await);
    let room = host.room(&alice, json!({ "preset": "private_chat" })).await;
    host.act(&alice, &room, "invite", &bob).await;
    let invited = guest.is_in(&bob, &room, "invite").await;
    host.leave(&alice, &room).await;

    guest.leave(&bob, &room).await;

    let leave = end_of_invite(guest, &bob, &room, &invited).await;
    assert_eq!(leave["state_key"], bob.id);
    assert_eq!(leave["content"]["membership"], "leave");
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn who_sent_an_invite_takes_it_back(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let (host, guest) = (&pair.host, &pair.guest);
    let (alice, bob) = (host.register("alice").await, guest.register("bob").await);
    let room = host.room(&alice, json!({ "preset": "private_chat" })).await;
    host.act(&alice, &room, "invite", &bob).await;
    let invited = guest.is_in(&bob, &room, "invite").await;

    host.act(&alice, &room, "kick", &bob).await;

    let leave = end_of_invite(guest, &bob, &room, &invited).await;
    assert_eq!(leave["content"]["membership"], "leave");
    assert_eq!(leave["sender"], alice.id);
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn nobody_else_is_believed_that_an_invite_is_taken_back(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let (host, guest) = (&pair.host, &pair.guest);
    let (alice, carol) = (host.register("alice").await, host.register("carol").await);
    let bob = guest.register("bob").await;
    let common = host.room(&alice, json!({ "preset": "public_chat" })).await;
    guest.join(&bob, &common, &host.name).await;
    let room = host.room(&alice, json!({ "preset": "private_chat" })).await;
    host.act(&alice, &room, "invite", &carol).await;
    host.join(&carol, &room, &host.name).await;
    host.act(&carol, &room, "invite", &bob).await;
    guest.is_in(&bob, &room, "invite").await;

    host.act(&alice, &room, "kick", &bob).await;

    // What is said after it arrives after it.
    let said = host.say(&alice, &common, "done").await;
    guest.sees(&bob, &common, &said).await;
    let anew = guest.ask(&bob, "GET", "/sync", None).await;
    assert!(anew["rooms"]["invite"].get(&room).is_some(), "{anew:#}");
    pair.end().await;
}
