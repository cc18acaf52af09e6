//! Ways into a room.

use futures_util::future::join_all;
use serde_json::json;

use crate::interop::{
    scene::Scene,
    user::{User, agree, talk},
};

pub(super) async fn by_alias(scene: Scene) {
    let (alice, bob) = scene.users().await;
    let alias = scene.host.new_name("tea");
    let room = alice
        .create(json!({ "preset": "public_chat", "room_alias_name": alias }))
        .await;

    let address = format!("#{alias}:{}", scene.host.name);
    let joined = bob.post(&["v3", "join", &address], &json!({})).ok().await;

    assert_eq!(joined["room_id"], room);
    alice.sees_member(&room, &bob, "join").await;
    bob.sees_member(&room, &alice, "join").await;
    talk(&room, &alice, &bob).await;
    agree(&room, &alice, &bob).await;
}

pub(super) async fn by_via(scene: Scene) {
    let (alice, bob) = scene.users().await;
    let room = alice.create_public().await;

    bob.join(&room, &scene.host).await;

    alice.sees_member(&room, &bob, "join").await;
    talk(&room, &alice, &bob).await;
    agree(&room, &alice, &bob).await;
}

pub(super) async fn by_a_second_user(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    let carol = scene.remote("carol").await;

    carol.join(&room, &scene.host).await;

    alice.sees_member(&room, &carol, "join").await;
    bob.sees_member(&room, &carol, "join").await;
    talk(&room, &alice, &carol).await;
    agree(&room, &alice, &carol).await;
}

pub(super) async fn again(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    talk(&room, &alice, &bob).await;
    bob.leave(&room).await;
    alice.sees_member(&room, &bob, "leave").await;
    let topic = json!({ "topic": "what Bob missed" });
    alice.set(&room, "m.room.topic", "", &topic).await;
    alice.say(&room, "nobody hears this").await;

    bob.join(&room, &scene.host).await;

    assert_eq!(bob.look_up(&room, "m.room.topic", "").await, topic);
    talk(&room, &alice, &bob).await;
    agree(&room, &alice, &bob).await;
}

pub(super) async fn refused(scene: Scene) {
    let (alice, bob) = scene.users().await;
    let room = alice.create(json!({ "preset": "private_chat" })).await;

    bob.joining(&room, &scene.host)
        .refused(403, "M_FORBIDDEN")
        .await;
}

pub(super) async fn restricted(scene: Scene) {
    let (alice, bob) = scene.users().await;
    let club = alice.create_public().await;
    let room = alice.create(for_members_of(&club)).await;

    bob.joining(&room, &scene.host)
        .refused(403, "M_FORBIDDEN")
        .await;
    bob.join(&club, &scene.host).await;
    alice.sees_member(&club, &bob, "join").await;
    bob.join(&room, &scene.host).await;

    let member = alice.sees_member(&room, &bob, "join").await;
    assert_eq!(
        member["content"]["join_authorised_via_users_server"],
        alice.id
    );
    talk(&room, &alice, &bob).await;
    agree(&room, &alice, &bob).await;
}

pub(super) async fn of_many(scene: Scene) {
    let alice = scene.local("alice").await;
    let room = alice.create_public().await;
    let guests: Vec<User> = join_all((0..10).map(|_| scene.remote("guest"))).await;

    join_all(guests.iter().map(|guest| guest.join(&room, &scene.host))).await;

    for guest in &guests {
        alice.sees_member(&room, guest, "join").await;
    }
    let last = &guests[guests.len() - 1];
    talk(&room, &alice, last).await;
    agree(&room, &alice, last).await;
}

/// A room for the members of another one.
fn for_members_of(club: &str) -> serde_json::Value {
    json!({
        "preset": "private_chat",
        "initial_state": [{
            "type": "m.room.join_rules",
            "content": {
                "join_rule": "restricted",
                "allow": [{ "type": "m.room_membership", "room_id": club }],
            },
        }],
    })
}
