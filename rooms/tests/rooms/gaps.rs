//! Events that come after others which are not here.

use std::sync::{Arc, atomic::Ordering};

use hearth_rooms::{ReceiveError, Room};
use hearth_store::{MIGRATOR, write::Status};
use ruma::{OwnedUserId, RoomVersionId};
use serde_json::json;
use sqlx::PgPool;

use crate::{
    engine::Engine,
    peer::{Event, Peer, Place, World},
};

/// A room that a user of a peer has joined.
struct Scene {
    engine: Engine,
    peer: Arc<Peer>,
    room: Arc<Room>,
    bob: OwnedUserId,
}

impl Scene {
    async fn new(pool: &PgPool, version: RoomVersionId) -> Self {
        let peer = Peer::new("there.org");
        let engine = Engine::start(pool, Arc::new(World(vec![Arc::clone(&peer)]))).await;
        let room = engine.room(version).await;
        engine.join(&room, &peer, "bob").await;
        let bob = peer.user("bob");
        Self {
            engine,
            peer,
            room,
            bob,
        }
    }

    async fn place(&self) -> Place {
        self.peer.on_top(&self.engine, &self.room).await
    }

    /// Bob changes his name again and again; the last event is not told.
    async fn names(&self, count: usize) -> Vec<Event> {
        let mut place = self.place().await;
        let mut events = Vec::new();
        for number in 0..count {
            let content = json!({ "membership": "join", "displayname": number.to_string() });
            let event = place.state(&self.bob, ("m.room.member", self.bob.as_str()), &content);
            let event = event.sign(&self.peer);
            place = place.after(&event);
            self.peer.tell(&[&event]);
            events.push(event);
        }
        events
    }
}

fn ids(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.id.to_string()).collect()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_long_branch_is_fetched_whole(pool: PgPool) {
    let scene = Scene::new(&pool, RoomVersionId::V12).await;
    let events = scene.names(250).await;
    let topic = json!({ "topic": "meanwhile" });
    scene
        .engine
        .set(&scene.room, "m.room.topic", "", topic)
        .await;

    let status = scene.engine.status(&scene.room, &events[249]).await;

    assert_eq!(status, Status::Accepted);
    let timeline = scene.engine.timeline(&scene.room).await;
    assert_eq!(timeline[timeline.len() - 250..], ids(&events));
    assert_eq!(scene.peer.asked.load(Ordering::Relaxed), 13);
    assert_eq!(scene.peer.asked_for_state.load(Ordering::Relaxed), 0);
    let held = scene
        .engine
        .held(&scene.room, "m.room.member", scene.bob.as_str())
        .await;
    assert_eq!(held.unwrap().pdu.event_id, events[249].id);
    assert!(
        scene
            .engine
            .held(&scene.room, "m.room.topic", "")
            .await
            .is_some()
    );
    scene.engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_does_not_tell_what_came_before_is_not_asked_for_a_state(pool: PgPool) {
    let scene = Scene::new(&pool, RoomVersionId::V12).await;
    let start = scene.place().await;
    let lost = start.message(&scene.bob, "lost").sign(&scene.peer);
    let last = start.clone().after(&lost).message(&scene.bob, "last");
    let last = last.sign(&scene.peer);
    scene.peer.tell(&[&last]);
    scene.peer.tell_by_id(&lost);
    scene.peer.tell_state(&lost, start.state_ids());

    let refused = scene.engine.receive(&scene.room, &last).await.unwrap_err();

    assert!(matches!(refused, ReceiveError::Missing));
    assert_eq!(scene.peer.asked_for_state.load(Ordering::Relaxed), 0);
    assert!(scene.engine.event(&last.id).await.is_none());

    // Where another event tells of it, it is made up for.
    let next = start
        .after(&last)
        .message(&scene.bob, "next")
        .sign(&scene.peer);
    scene.peer.tell(&[&next]);
    assert_eq!(
        scene.engine.status(&scene.room, &next).await,
        Status::Accepted
    );
    assert!(scene.engine.event(&last.id).await.unwrap().is_accepted());
    scene.engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn events_after_one_that_is_to_be_dropped_are_taken_in(pool: PgPool) {
    let scene = Scene::new(&pool, RoomVersionId::V12).await;
    let start = scene.place().await;
    let stranger = Peer::new("stranger.org");
    let bad = start.message(&scene.bob, "forged").sign(&stranger);
    let good = start.clone().after(&bad).message(&scene.bob, "good");
    let good = good.sign(&scene.peer);
    let last = start.clone().after(&good).message(&scene.bob, "last");
    let last = last.sign(&scene.peer);
    scene.peer.tell(&[&bad, &good, &last]);
    scene.peer.tell_state(&bad, start.state_ids());

    assert_eq!(
        scene.engine.status(&scene.room, &last).await,
        Status::Accepted
    );

    assert!(scene.engine.event(&good.id).await.unwrap().is_accepted());
    assert!(scene.engine.event(&bad.id).await.is_none());
    scene.engine.end().await;
}

/// Of a chain of events that authorise each other, one cannot be had: what rests on it is not taken.
#[sqlx::test(migrator = "MIGRATOR")]
async fn a_state_at_an_event_that_cannot_be_authorised_is_not_believed(pool: PgPool) {
    let scene = Scene::new(&pool, RoomVersionId::V11).await;
    let start = scene.place().await;
    let join = scene
        .engine
        .held(&scene.room, "m.room.member", scene.bob.as_str())
        .await
        .unwrap();
    let names = scene.names(3).await;
    let place = start.after(&names[2]);
    let at = place.message(&scene.bob, "at").sign(&scene.peer);
    let after = place.clone().after(&at);
    let told = after.message(&scene.bob, "told").sign(&scene.peer);
    let last = after
        .after(&told)
        .message(&scene.bob, "last")
        .sign(&scene.peer);
    let liar = Arc::clone(&scene.peer);
    liar.forget(&names[1]);
    liar.tell_by_id(&at);
    liar.tell_by_id(&names[0]);
    liar.tell_by_id(&names[2]);
    liar.tell(&[&told, &last]);
    liar.tell_state(&at, place.state_ids());

    let refused = scene.engine.receive(&scene.room, &last).await.unwrap_err();

    assert!(matches!(refused, ReceiveError::Missing));
    assert_eq!(liar.asked_for_state.load(Ordering::Relaxed), 1);
    for event in [&names[2], &at, &told, &last] {
        assert!(scene.engine.event(&event.id).await.is_none());
    }
    let held = scene
        .engine
        .held(&scene.room, "m.room.member", scene.bob.as_str())
        .await;
    assert_eq!(held.unwrap().pdu.event_id, join.pdu.event_id);
    scene.engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_a_told_state_leaves_out_and_nobody_has_is_as_we_know_it(pool: PgPool) {
    let scene = Scene::new(&pool, RoomVersionId::V12).await;
    let topic = json!({ "topic": "known here" });
    let topic = scene
        .engine
        .set(&scene.room, "m.room.topic", "", topic)
        .await;
    let start = scene.place().await;
    let content = json!({ "topic": "nobody has it" });
    let lost = start.state(&scene.peer.user("bob"), ("m.room.topic", ""), &content);
    let lost = lost.sign(&scene.peer);
    let at = start.message(&scene.bob, "at").sign(&scene.peer);
    let after = start.clone().after(&at);
    let told = after.message(&scene.bob, "told").sign(&scene.peer);
    let last = after
        .after(&told)
        .message(&scene.bob, "last")
        .sign(&scene.peer);
    scene.peer.tell(&[&told, &last]);
    scene.peer.tell_by_id(&at);
    scene.peer.tell_state(&at, start.with(&lost).state_ids());

    assert_eq!(
        scene.engine.status(&scene.room, &last).await,
        Status::Accepted
    );

    let (_, before) = scene.engine.before(&told).await;
    assert!(before.contains(&topic.pdu.event_id));
    scene.engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn long_state_keys_of_old_rooms_are_measured_in_code_points(pool: PgPool) {
    for (version, is_taken) in [(RoomVersionId::V10, true), (RoomVersionId::V11, false)] {
        let scene = Scene::new(&pool, version).await;
        let key = "\u{1f4a5}".repeat(70);
        let levels = json!({ "state_default": 0 });
        scene
            .engine
            .set(&scene.room, "m.room.power_levels", "", levels)
            .await;
        let place = scene.place().await;
        let event = place.state(&scene.bob, ("org.example.long", &key), &json!({}));
        let event = event.sign(&scene.peer);

        let received = scene.engine.receive(&scene.room, &event).await;

        match received {
            Ok(received) => assert!(is_taken && received.status == Status::Accepted),
            Err(error) => assert!(!is_taken && matches!(error, ReceiveError::Malformed(_))),
        }
        scene.engine.end().await;
    }
}

/// What an event changes in the state is not known until its signature can be checked; but a server that is gone for good
/// does not keep a room from going on.
#[sqlx::test(migrator = "MIGRATOR")]
async fn an_event_whose_key_cannot_be_had_is_waited_for_a_while(pool: PgPool) {
    let scene = Scene::new(&pool, RoomVersionId::V11).await;
    let start = scene.place().await;
    let gone = Peer::new("gone.org");
    let user = gone.user("dan");
    let after_join = |age: u64| {
        let join = json!({ "membership": "join" });
        let join = start.state(&user, ("m.room.member", user.as_str()), &join);
        let join = join.set("origin_server_ts", json!(scene.engine.now() - age));
        let join = join.sign(&gone);
        let good = start.clone().after(&join).message(&scene.bob, "good");
        let good = good.sign(&scene.peer);
        let last = start.clone().after(&good).message(&scene.bob, "last");
        let last = last.sign(&scene.peer);
        scene.peer.tell(&[&join, &good, &last]);
        scene.peer.tell_state(&join, start.state_ids());
        last
    };

    let young = after_join(60_000);
    let old = after_join(2 * 60 * 60 * 1_000);

    let refused = scene.engine.receive(&scene.room, &young).await.unwrap_err();
    assert!(matches!(refused, ReceiveError::Missing));
    assert_eq!(
        scene.engine.status(&scene.room, &old).await,
        Status::Accepted
    );
    let member = ("m.room.member", user.as_str());
    let held = scene.engine.held(&scene.room, member.0, member.1).await;
    assert!(held.is_none());
    scene.engine.end().await;
}

/// A room with users of two other servers, one of which tells nothing.
async fn with_another(pool: &PgPool) -> (Scene, Arc<Peer>) {
    let (peer, other) = (Peer::new("there.org"), Peer::new("other.org"));
    let world = World(vec![Arc::clone(&peer), Arc::clone(&other)]);
    let engine = Engine::start(pool, Arc::new(world)).await;
    let room = engine.room(RoomVersionId::V12).await;
    engine.join(&room, &peer, "bob").await;
    engine.join(&room, &other, "carol").await;
    peer.is_silent.store(true, Ordering::Relaxed);
    let bob = peer.user("bob");
    let scene = Scene {
        engine,
        peer,
        room,
        bob,
    };
    (scene, other)
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_its_sender_does_not_tell_others_are_asked_for(pool: PgPool) {
    let (scene, other) = with_another(&pool).await;
    let start = scene.place().await;
    let first = start.message(&scene.bob, "first").sign(&scene.peer);
    let second = start.clone().after(&first).message(&scene.bob, "second");
    let second = second.sign(&scene.peer);
    let name = json!({ "membership": "join", "displayname": "Bob" });
    let name = start.state(&scene.bob, ("m.room.member", scene.bob.as_str()), &name);
    let name = name.sign(&scene.peer);
    let third = start.with(&name).message(&scene.bob, "third");
    let third = third.sign(&scene.peer);

    // Nobody tells.
    let refused = scene.engine.receive(&scene.room, &second).await;
    assert!(matches!(refused, Err(ReceiveError::Missing)));
    let refused = scene.engine.receive(&scene.room, &third).await;
    assert!(matches!(refused, Err(ReceiveError::Missing)));

    other.tell(&[&first, &second, &name, &third]);
    for event in [&second, &third] {
        let status = scene.engine.status(&scene.room, event).await;
        assert_eq!(status, Status::Accepted);
    }
    let stored = scene.engine.event(&first.id).await.unwrap();
    assert!(stored.is_accepted());
    assert!(scene.engine.event(&name.id).await.is_some());
    assert_eq!(other.asked.load(Ordering::Relaxed), 2);
    scene.engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_event_that_cites_another_twice_is_rejected(pool: PgPool) {
    let scene = Scene::new(&pool, RoomVersionId::V12).await;
    let message = scene.place().await.message(&scene.bob, "twice");
    let mut cited = serde_json::to_value(&message.object["auth_events"]).unwrap();
    let first = cited[0].clone();
    cited.as_array_mut().unwrap().push(first);
    let message = message.set("auth_events", cited).sign(&scene.peer);

    assert_eq!(
        scene.engine.status(&scene.room, &message).await,
        Status::Rejected
    );
    scene.engine.end().await;
}
