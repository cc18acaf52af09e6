//! Rooms of every version that is in wide use.

use serde_json::json;

use crate::interop::{
    scene::Scene,
    user::{agree, talk},
};

pub(super) async fn v10(scene: Scene) {
    room_of(scene, "10").await;
}

pub(super) async fn v11(scene: Scene) {
    room_of(scene, "11").await;
}

pub(super) async fn v12(scene: Scene) {
    room_of(scene, "12").await;
}

/// Bob comes, talks, gets power and uses it; a message is redacted.
async fn room_of(scene: Scene, version: &str) {
    let (alice, bob) = scene.users().await;
    let room = alice
        .create(json!({
            "preset": "public_chat",
            "room_version": version,
            "power_level_content_override": { "users": powers(version, &[(&alice.id, 100)]) },
        }))
        .await;
    bob.join(&room, &scene.host).await;
    alice.sees_member(&room, &bob, "join").await;
    talk(&room, &alice, &bob).await;

    let mut levels = alice.look_up(&room, "m.room.power_levels", "").await;
    levels["users"] = powers(version, &[(&alice.id, 100), (&bob.id, 50)]);
    let changed = alice.set(&room, "m.room.power_levels", "", &levels).await;
    bob.hears(&room, &changed).await;
    let named = bob
        .set(&room, "m.room.name", "", &json!({ "name": "Bob's" }))
        .await;
    alice.hears(&room, &named).await;
    let said = alice.say(&room, "a slip").await;
    bob.hears(&room, &said).await;
    alice.redact(&room, &said).await;
    bob.sees(&room, "the redaction", |event| {
        event["type"] == "m.room.redaction"
            && (event["redacts"] == said || event["content"]["redacts"] == said)
    })
    .await;

    let create = bob.look_up(&room, "m.room.create", "").await;
    assert_eq!(create["room_version"], version);
    agree(&room, &alice, &bob).await;
}

/// The `users` of power levels. Since version 12 creators may not be among them.
fn powers(version: &str, users: &[(&str, i64)]) -> serde_json::Value {
    users
        .iter()
        .filter(|(_, level)| version != "12" || *level < 100)
        .map(|(user, level)| ((*user).to_owned(), json!(level)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
