//! What is said.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::interop::{
    scene::Scene,
    user::{User, agree, eventually},
};

pub(super) async fn redacted(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    let hers = alice.say(&room, "hers").await;
    let his = bob.say(&room, "his").await;
    let his_own = bob.say(&room, "his own").await;
    for id in [&hers, &his, &his_own] {
        alice.hears(&room, id).await;
        bob.hears(&room, id).await;
    }

    alice.redact(&room, &hers).await;
    alice.redact(&room, &his).await;
    bob.redact(&room, &his_own).await;

    for user in [&alice, &bob] {
        for id in [&hers, &his, &his_own] {
            eventually("the message is redacted", async || {
                let event = look_at(user, &room, id).await;
                match event["content"] == json!({}) && event["unsigned"].is_object() {
                    true => Ok(()),
                    false => Err(event.to_string()),
                }
            })
            .await;
        }
    }
    agree(&room, &alice, &bob).await;
}

pub(super) async fn related(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    let root = alice.say(&room, "Tea?").await;
    bob.hears(&room, &root).await;

    let new = json!({ "msgtype": "m.text", "body": "Coffee?" });
    let edit = json!({
        "msgtype": "m.text", "body": "* Coffee?", "m.new_content": new,
        "m.relates_to": { "rel_type": "m.replace", "event_id": root },
    });
    let edit = alice.send(&room, "m.room.message", &edit).await;
    let reply = json!({
        "msgtype": "m.text", "body": "Please.",
        "m.relates_to": { "rel_type": "m.thread", "event_id": root },
    });
    let reply = bob.send(&room, "m.room.message", &reply).await;
    let key = json!({
        "m.relates_to": { "rel_type": "m.annotation", "event_id": root, "key": "👍" },
    });
    let reaction = bob.send(&room, "m.reaction", &key).await;

    for user in [&alice, &bob] {
        for id in [&edit, &reply, &reaction] {
            user.hears(&room, id).await;
        }
        eventually("the relations are bundled", async || {
            let event = look_at(user, &room, &root).await;
            let bundled = &event["unsigned"]["m.relations"];
            match bundled["m.thread"]["count"] == 1
                && bundled["m.thread"]["latest_event"]["event_id"] == reply
                && bundled["m.replace"]["event_id"] == edit
            {
                true => Ok(()),
                false => Err(event.to_string()),
            }
        })
        .await;
        let path = ["v1", "rooms", &room, "relations", &root, "m.annotation"];
        let reactions = user.get(&path).ok().await;
        assert_eq!(reactions["chunk"][0]["event_id"], reaction);
    }
}

pub(super) async fn at_once(scene: Scene) {
    const MESSAGES: usize = 60;

    let (alice, bob, room) = scene.room().await;
    let say = async |user: &User| {
        let words = (0..MESSAGES).map(|number| format!("{number} from {}", user.id));
        join_all(words.map(async |words| user.say(&room, &words).await)).await
    };

    let (hers, his) = tokio::join!(say(&alice), say(&bob));

    let said: BTreeSet<_> = hers.into_iter().chain(his).collect();
    assert_eq!(said.len(), 2 * MESSAGES);
    for user in [&alice, &bob] {
        for id in &said {
            user.finds(&room, id).await;
        }
        let path = ["v3", "rooms", &room, "messages"];
        let page = user
            .get(&path)
            .query("dir", "b")
            .query("limit", 200)
            .ok()
            .await;
        let chunk = page["chunk"].as_array().unwrap();
        let messages: Vec<_> = chunk
            .iter()
            .filter(|event| event["type"] == "m.room.message")
            .map(|event| event["event_id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(messages.len(), said.len(), "each once");
        assert_eq!(messages.into_iter().collect::<BTreeSet<_>>(), said);
    }
    agree(&room, &alice, &bob).await;
}

pub(super) async fn with_any_content(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    let content = json!({
        "text": "\u{0}\u{1f}\"\\/ \u{7f}\u{80} é 日本 🔥 \u{feff}",
        "numbers": [0, -1, 9_007_199_254_740_991_i64, -9_007_199_254_740_991_i64],
        "nothing": null, "yes": true, "no": false,
        "": { "empty": {}, "list": [[], [{}]] },
        "z": { "b": 1, "a": 2, "é": 3, "🔥": 4, "\u{ffff}": 5 },
    });

    for (speaker, listener) in [(&alice, &bob), (&bob, &alice)] {
        let id = speaker.send(&room, "org.example.any", &content).await;
        let event = listener.hears(&room, &id).await;
        assert_eq!(event["content"], content);
    }
}

async fn look_at(user: &User, room: &str, event_id: &str) -> Value {
    user.get(&["v3", "rooms", room, "event", event_id])
        .ok()
        .await
}
