//! Servers that cannot reach each other, or that are not there.

use serde_json::json;

use super::{history::read_back, state::empower};
use crate::interop::{
    scene::Scene,
    user::{agree, eventually, talk},
};

pub(super) async fn conflict(scene: Scene) {
    let (alice, bob) = scene.users().await;
    let dora = scene.local("dora").await;
    let mut rooms = Vec::new();
    for version in ["10", "11", "12"] {
        let room = alice
            .create(json!({ "preset": "public_chat", "room_version": version }))
            .await;
        bob.join(&room, &scene.host).await;
        dora.join(&room, &scene.host).await;
        alice.sees_member(&room, &bob, "join").await;
        bob.sees_member(&room, &dora, "join").await;
        empower(&alice, &bob, &room).await;
        rooms.push(room);
    }

    scene.cut();
    for room in &rooms {
        let content = |kind: &str, whose: &str| json!({ kind: whose });
        for (user, whose) in [(&alice, "hers"), (&bob, "his"), (&alice, "hers again")] {
            let (name, topic) = (content("name", whose), content("topic", whose));
            user.set(room, "m.room.topic", "", &topic).await;
            user.set(room, "m.room.name", "", &name).await;
        }
        bob.act("ban", room, &dora).await;
        dora.say(room, "not banned here yet").await;
        let mut levels = alice.look_up(room, "m.room.power_levels", "").await;
        levels["events"]["org.example.new"] = json!(10);
        alice.set(room, "m.room.power_levels", "", &levels).await;
    }
    scene.mend();

    for room in &rooms {
        scene.talk_again(room, &alice, &bob).await;
        agree(room, &alice, &bob).await;
        for user in [&alice, &bob] {
            let member = user.look_up(room, "m.room.member", &dora.id).await;
            assert_eq!(member["membership"], "ban");
        }
    }
}

pub(super) async fn long_talk(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    let mut said = (Vec::new(), Vec::new());

    scene.cut();
    for number in 0..70 {
        said.0
            .push(alice.say(&room, &format!("hers {number}")).await);
        said.1.push(bob.say(&room, &format!("his {number}")).await);
    }
    scene.mend();

    scene.talk_again(&room, &alice, &bob).await;
    // A server that was away is told the latest events, and fetches the others when somebody looks.
    for user in [&alice, &bob] {
        eventually("all that was said can be read", async || {
            let history = read_back(user, &room).await;
            let has = |id: &String| history.iter().any(|event| event["event_id"] == *id);
            match said.0.iter().chain(&said.1).find(|id| !has(id)) {
                None => Ok(()),
                Some(id) => Err(format!("{} of {} misses {id}", user.id, history.len())),
            }
        })
        .await;
    }
    agree(&room, &alice, &bob).await;
}

pub(super) async fn declined(scene: Scene) {
    let (alice, bob) = scene.users().await;
    let room = alice.create(json!({ "preset": "private_chat" })).await;
    alice.act("invite", &room, &bob).await;
    bob.sees_member(&room, &bob, "invite").await;

    scene.cut();
    bob.leave(&room).await;
    scene.mend();

    bob.until("that the room is gone", |answer| {
        answer["rooms"]["leave"][&room].as_object().map(drop)
    })
    .await;
}

pub(super) async fn guest_stopped(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    talk(&room, &alice, &bob).await;

    scene.guest.stop().await;
    let topic = json!({ "topic": "while Bob's server slept" });
    alice.set(&room, "m.room.topic", "", &topic).await;
    let said = alice.say(&room, "Good night").await;
    scene.guest.start().await;

    bob.hears(&room, &said).await;
    assert_eq!(bob.look_up(&room, "m.room.topic", "").await, topic);
    talk(&room, &alice, &bob).await;
    agree(&room, &alice, &bob).await;
}

pub(super) async fn host_killed(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    talk(&room, &alice, &bob).await;
    let last = alice.say(&room, "My last words").await;

    scene.host.kill();
    let said = bob.say(&room, "Are you there?").await;
    scene.host.start().await;

    alice.hears(&room, &said).await;
    bob.hears(&room, &last).await;
    talk(&room, &alice, &bob).await;
    agree(&room, &alice, &bob).await;
}
