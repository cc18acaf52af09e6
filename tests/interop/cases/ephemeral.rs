//! What is not kept.

use serde_json::json;

use crate::interop::{scene::Scene, sync, user::User};

pub(super) async fn typing(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    for (typist, watcher) in [(&alice, &bob), (&bob, &alice)] {
        let path = ["v3", "rooms", &room, "typing", &typist.id];

        typist
            .put(&path, &json!({ "typing": true, "timeout": 30_000 }))
            .ok()
            .await;

        watcher
            .until("that somebody types", |answer| {
                sync::ephemeral(answer, &room, "m.typing")
                    .any(|event| event["content"]["user_ids"] == json!([typist.id]))
                    .then_some(())
            })
            .await;
        typist.put(&path, &json!({ "typing": false })).ok().await;
        watcher
            .until("that nobody types", |answer| {
                sync::ephemeral(answer, &room, "m.typing")
                    .any(|event| event["content"]["user_ids"] == json!([]))
                    .then_some(())
            })
            .await;
    }
}

pub(super) async fn receipts(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    for (writer, reader) in [(&alice, &bob), (&bob, &alice)] {
        let id = writer.say(&room, "read this").await;
        reader.hears(&room, &id).await;

        let path = ["v3", "rooms", &room, "receipt", "m.read", &id];
        reader.post(&path, &json!({})).ok().await;

        writer
            .until("the receipt", |answer| {
                sync::ephemeral(answer, &room, "m.receipt")
                    .any(|event| event["content"][&id]["m.read"][&reader.id].is_object())
                    .then_some(())
            })
            .await;
    }
}

pub(super) async fn presence(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    bob.sees_member(&room, &alice, "join").await;
    for (user, watcher) in [(&alice, &bob), (&bob, &alice)] {
        let message = format!("{} is here", user.id);
        let path = ["v3", "presence", &user.id, "status"];
        let status = json!({ "presence": "online", "status_msg": message });

        user.put(&path, &status).ok().await;

        watcher
            .until("the presence", |answer| {
                answer["presence"]["events"]
                    .as_array()?
                    .iter()
                    .find(|event| {
                        event["sender"] == user.id && event["content"]["status_msg"] == message
                    })
                    .map(drop)
            })
            .await;
    }
}

pub(super) async fn to_device(scene: Scene) {
    let (alice, bob) = scene.users().await;
    for (sender, receiver) in [(&alice, &bob), (&bob, &alice)] {
        deliver(sender, receiver, &receiver.device).await;
    }
}

/// A message goes to a device.
async fn deliver(sender: &User, receiver: &User, device: &str) {
    let content = json!({ "from": sender.id, "to": device });
    let path = ["v3", "sendToDevice", "org.example.note", &sender.device];
    let messages = json!({ &receiver.id: { device: content } });

    sender
        .put(&path, &json!({ "messages": messages }))
        .ok()
        .await;

    let event = receiver
        .until("the message to the device", |answer| {
            answer["to_device"]["events"]
                .as_array()?
                .iter()
                .find(|event| event["type"] == "org.example.note")
                .cloned()
        })
        .await;
    assert_eq!(event["content"], content);
    assert_eq!(event["sender"], sender.id);
}
