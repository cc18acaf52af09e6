//! Invitations.

use serde_json::json;

use super::state::empower;
use crate::interop::{
    scene::Scene,
    sync,
    user::{User, agree, talk},
};

pub(super) async fn accepted(scene: Scene) {
    let (alice, bob, room) = invited(&scene).await;

    let name = bob
        .sees(&room, "the room's name", |event| {
            event["type"] == "m.room.name"
        })
        .await;
    assert_eq!(name["content"]["name"], "The quiet room");
    bob.join(&room, &scene.host).await;

    alice.sees_member(&room, &bob, "join").await;
    talk(&room, &alice, &bob).await;
    agree(&room, &alice, &bob).await;
}

pub(super) async fn rejected(scene: Scene) {
    let (alice, bob, room) = invited(&scene).await;

    bob.leave(&room).await;

    alice.sees_member(&room, &bob, "leave").await;
    gone(&bob, &room).await;
}

pub(super) async fn withdrawn(scene: Scene) {
    let (alice, bob, room) = invited(&scene).await;

    alice.act("kick", &room, &bob).await;

    gone(&bob, &room).await;
    bob.joining(&room, &scene.host)
        .refused(403, "M_FORBIDDEN")
        .await;
}

pub(super) async fn by_the_guest(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    empower(&alice, &bob, &room).await;
    let rule = json!({ "join_rule": "invite" });
    let closed = alice.set(&room, "m.room.join_rules", "", &rule).await;
    bob.hears(&room, &closed).await;
    let (dora, erin) = (scene.local("dora").await, scene.remote("erin").await);

    for (invitee, server) in [(&dora, &scene.guest), (&erin, &scene.host)] {
        bob.act("invite", &room, invitee).await;
        invitee.sees_member(&room, invitee, "invite").await;
        invitee.join(&room, server).await;
        alice.sees_member(&room, invitee, "join").await;
        bob.sees_member(&room, invitee, "join").await;
    }

    talk(&room, &dora, &erin).await;
    agree(&room, &alice, &bob).await;
}

/// Alice's private room, into which she has invited Bob, who knows it.
async fn invited(scene: &Scene) -> (User, User, String) {
    let (alice, bob) = scene.users().await;
    let room = alice
        .create(json!({ "preset": "private_chat", "name": "The quiet room" }))
        .await;
    alice.act("invite", &room, &bob).await;
    let invite = bob.sees_member(&room, &bob, "invite").await;
    assert_eq!(invite["sender"], alice.id);
    (alice, bob, room)
}

/// Waits until a user's client has put a room aside.
async fn gone(user: &User, room: &str) {
    user.until("that the room is gone", |answer| {
        let left = &answer["rooms"]["leave"][room];
        (left.is_object() && sync::events(answer, room).count() < 10).then_some(())
    })
    .await;
}
