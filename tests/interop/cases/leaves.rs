//! Ways out of a room.

use super::state::empower;
use crate::interop::{
    scene::Scene,
    user::{agree, talk},
};

pub(super) async fn left(scene: Scene) {
    let (alice, bob, room) = scene.room().await;

    bob.leave(&room).await;

    alice.sees_member(&room, &bob, "leave").await;
    let secret = alice.say(&room, "Now that Bob is gone").await;
    let (status, answer) = bob
        .get(&["v3", "rooms", &room, "event", &secret])
        .send()
        .await;
    assert!(status == 403 || status == 404, "{status} {answer}");
}

pub(super) async fn kicked(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    talk(&room, &alice, &bob).await;

    alice.act("kick", &room, &bob).await;

    let kick = bob.sees_member(&room, &bob, "leave").await;
    assert_eq!(kick["sender"], alice.id);
    bob.join(&room, &scene.host).await;
    talk(&room, &alice, &bob).await;
    agree(&room, &alice, &bob).await;
}

pub(super) async fn banned(scene: Scene) {
    let (alice, bob, room) = scene.room().await;

    alice.act("ban", &room, &bob).await;

    bob.sees_member(&room, &bob, "ban").await;
    bob.joining(&room, &scene.host)
        .refused(403, "M_FORBIDDEN")
        .await;
    alice.act("unban", &room, &bob).await;
    bob.join(&room, &scene.host).await;
    talk(&room, &alice, &bob).await;
    agree(&room, &alice, &bob).await;
}

pub(super) async fn by_the_guest(scene: Scene) {
    let (alice, bob, room) = scene.room().await;
    empower(&alice, &bob, &room).await;
    let (dora, erin) = (scene.local("dora").await, scene.local("erin").await);
    for user in [&dora, &erin] {
        user.join(&room, &scene.host).await;
        bob.sees_member(&room, user, "join").await;
    }

    bob.act("kick", &room, &dora).await;
    bob.act("ban", &room, &erin).await;

    alice.sees_member(&room, &dora, "leave").await;
    dora.sees_member(&room, &dora, "leave").await;
    alice.sees_member(&room, &erin, "ban").await;
    // The specification leaves the code open.
    let (status, answer) = erin.joining(&room, &scene.host).send().await;
    assert_eq!(status, 403, "{answer}");
    agree(&room, &alice, &bob).await;
}
