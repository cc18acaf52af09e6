//! Asking to be let in.

use serde_json::json;

use crate::interop::{
    homeserver::Kind,
    scene::Scene,
    user::{User, agree, talk},
};

pub(super) async fn let_in(scene: Scene) {
    let (alice, bob, room) = knocked(&scene).await;

    alice.act("invite", &room, &bob).await;
    bob.sees_member(&room, &bob, "invite").await;
    bob.join(&room, &scene.host).await;

    alice.sees_member(&room, &bob, "join").await;
    talk(&room, &alice, &bob).await;
    agree(&room, &alice, &bob).await;
}

pub(super) async fn turned_away(scene: Scene) {
    let (alice, bob, room) = knocked(&scene).await;
    // Synapse tells only the servers that have a member in the room.
    let carol = scene.remote("carol").await;
    alice.act("invite", &room, &carol).await;
    carol.sees_member(&room, &carol, "invite").await;
    carol.join(&room, &scene.host).await;

    alice.act("kick", &room, &bob).await;

    carol.sees_member(&room, &bob, "leave").await;
    left(&bob, &room).await;
    bob.joining(&room, &scene.host)
        .refused(403, "M_FORBIDDEN")
        .await;
}

pub(super) async fn taken_back(scene: Scene) {
    let (alice, bob, room) = knocked(&scene).await;

    bob.leave(&room).await;

    left(&bob, &room).await;
    // Synapse looks for the room at its own address, and then forgets the knock.
    if scene.guest.kind != Kind::Synapse {
        alice.sees_member(&room, &bob, "leave").await;
    }
}

/// A room of Alice's on which Bob has knocked, both knowing it.
async fn knocked(scene: &Scene) -> (User, User, String) {
    let (alice, bob) = scene.users().await;
    let rule = json!({ "type": "m.room.join_rules", "content": { "join_rule": "knock" } });
    let room = alice
        .create(
            json!({ "preset": "private_chat", "name": "Behind a door", "initial_state": [rule] }),
        )
        .await;
    bob.post(&["v3", "knock", &room], &json!({ "reason": "It is cold." }))
        .query("via", &scene.host.name)
        .ok()
        .await;
    let knock = alice.sees_member(&room, &bob, "knock").await;
    assert_eq!(knock["content"]["reason"], "It is cold.");
    bob.until("the knock", |answer| {
        answer["rooms"]["knock"][&room]["knock_state"]["events"]
            .as_array()?
            .iter()
            .find(|event| event["content"]["name"] == "Behind a door")
            .map(drop)
    })
    .await;
    (alice, bob, room)
}

/// Waits until a user's client has put a room aside.
async fn left(user: &User, room: &str) {
    user.until("that the room is gone", |answer| {
        answer["rooms"]["leave"][room].as_object().map(drop)
    })
    .await;
}
