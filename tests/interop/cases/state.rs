//! What a room is.

use serde_json::json;

use crate::interop::{
    scene::Scene,
    user::{User, agree, talk, text},
};

pub(super) async fn powers(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    let name = json!({ "name": "Bob's room" });
    bob.put(&["v3", "rooms", &room, "state", "m.room.name", ""], &name)
        .refused(403, "M_FORBIDDEN")
        .await;

    empower(&alice, &bob, &room).await;
    let named = bob.set(&room, "m.room.name", "", &name).await;

    alice.hears(&room, &named).await;
    assert_eq!(alice.look_up(&room, "m.room.name", "").await, name);
    agree(&room, &alice, &bob).await;
}

pub(super) async fn upgraded(scene: Scene) {
    let (alice, bob) = scene.users().await;
    let room = alice
        .create(json!({ "preset": "public_chat", "room_version": "10", "name": "Old and new" }))
        .await;
    bob.join(&room, &scene.host).await;
    alice.sees_member(&room, &bob, "join").await;

    let path = ["v3", "rooms", &room, "upgrade"];
    let answer = alice
        .post(&path, &json!({ "new_version": "12" }))
        .ok()
        .await;
    let new = text(&answer["replacement_room"]);

    let tombstone = bob
        .sees(&room, "the tombstone", |event| {
            event["type"] == "m.room.tombstone"
        })
        .await;
    assert_eq!(tombstone["content"]["replacement_room"], new);
    bob.join(&new, &scene.host).await;
    alice.sees_member(&new, &bob, "join").await;
    let create = bob.look_up(&new, "m.room.create", "").await;
    assert_eq!(create["predecessor"]["room_id"], room);
    assert_eq!(create["room_version"], "12");
    let name = bob.look_up(&new, "m.room.name", "").await;
    assert_eq!(name["name"], "Old and new");
    talk(&new, &alice, &bob).await;
    agree(&room, &alice, &bob).await;
    agree(&new, &alice, &bob).await;
}

pub(super) async fn closed_to_a_server(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    let other = alice.create_public().await;
    bob.join(&other, &scene.host).await;
    let host = scene.guest.host();
    let closed = json!({ "allow": ["*"], "deny": [host], "allow_ip_literals": true });
    let open = json!({ "allow": ["*"], "deny": [], "allow_ip_literals": true });

    alice.set(&room, "m.room.server_acl", "", &closed).await;
    let unheard = bob.say(&room, "unheard").await;
    let after = bob.say(&other, "sent after that").await;
    alice.hears(&other, &after).await;
    alice
        .get(&["v3", "rooms", &room, "event", &unheard])
        .refused(404, "M_NOT_FOUND")
        .await;
    let opened = alice.set(&room, "m.room.server_acl", "", &open).await;

    bob.hears(&room, &opened).await;
    let heard = bob.say(&room, "heard").await;
    alice.hears(&room, &heard).await;
    agree(&room, &alice, &bob).await;
}

pub(super) async fn profiles(scene: Scene) {
    let (alice, bob, room) = scene.room().await;

    for (user, other) in [(&alice, &bob), (&bob, &alice)] {
        let name = format!("The famous {}", user.id);
        user.put(
            &["v3", "profile", &user.id, "displayname"],
            &json!({ "displayname": name }),
        )
        .ok()
        .await;

        other
            .sees(&room, "the new name", |event| {
                event["type"] == "m.room.member"
                    && event["state_key"] == user.id
                    && event["content"]["displayname"] == name
            })
            .await;
    }
    agree(&room, &alice, &bob).await;
}

/// Alice lets Bob change the state of a room, and he knows.
pub(super) async fn empower(alice: &User, bob: &User, room: &str) {
    let mut levels = alice.look_up(room, "m.room.power_levels", "").await;
    levels["users"][&bob.id] = json!(50);
    let changed = alice.set(room, "m.room.power_levels", "", &levels).await;
    bob.hears(room, &changed).await;
}
