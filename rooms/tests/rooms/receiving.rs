//! Events of servers that behave well.

use std::sync::{Arc, atomic::Ordering};

use hearth_rooms::{Draft, ReceiveError, SendError};
use hearth_store::{MIGRATOR, write::Status};
use ruma::{RoomVersionId, UserId, events::TimelineEventType};
use serde_json::json;
use sqlx::PgPool;

use crate::{
    engine::{Engine, alice, canonical},
    peer::{Peer, World},
};

/// An engine and a peer that it knows.
async fn scene(pool: &PgPool) -> (Engine, Arc<Peer>) {
    let peer = Peer::new("there.org");
    let engine = Engine::start(pool, Arc::new(World(vec![Arc::clone(&peer)]))).await;
    (engine, peer)
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_user_of_another_server_joins_and_talks_in_every_room_version(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    // In version 2 a server makes up the ids of its events, which this peer does not.
    let versions = hearth_rooms::version::SUPPORTED.iter();
    for version in versions.filter(|version| **version != RoomVersionId::V2) {
        let room = engine.room(version.clone()).await;

        let join = engine.join(&room, &peer, "bob").await;
        let bob = peer.user("bob");
        let place = peer.on_top(&engine, &room).await;
        let message = place.message(&bob, "hello").sign(&peer);
        assert_eq!(
            engine.status(&room, &message).await,
            Status::Accepted,
            "{version}"
        );

        let timeline = engine.timeline(&room).await;
        let last = &timeline[timeline.len() - 2..];
        assert_eq!(last, [join.id.to_string(), message.id.to_string()]);
        assert_eq!(engine.extremities(&room).await, [message.id.to_string()]);
        let joined = engine.membership(&room, &bob).await;
        assert_eq!(joined.as_deref(), Some("join"));
    }
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_event_that_comes_twice_is_stored_once(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let room = engine.room(RoomVersionId::V12).await;
    engine.join(&room, &peer, "bob").await;
    let place = peer.on_top(&engine, &room).await;
    let message = place.message(&peer.user("bob"), "hello").sign(&peer);

    let (one, other) = tokio::join!(
        engine.receive(&room, &message),
        engine.receive(&room, &message)
    );
    let third = engine.receive(&room, &message).await;

    for received in [one, other, third] {
        assert_eq!(received.unwrap().status, Status::Accepted);
    }
    let timeline = engine.timeline(&room).await;
    let copies = timeline.iter().filter(|id| **id == message.id.as_str());
    assert_eq!(copies.count(), 1);
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn two_processes_that_get_one_event_store_it_once(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let world = Arc::new(World(vec![Arc::clone(&peer)]));
    let other = Engine::start(&pool, world).await;
    let room = engine.room(RoomVersionId::V12).await;
    engine.join(&room, &peer, "bob").await;
    let there = other.rooms.find(&room.id).await.unwrap().unwrap();
    for round in 0..20 {
        let place = peer.on_top(&engine, &room).await;
        let message = place
            .message(&peer.user("bob"), &round.to_string())
            .sign(&peer);

        let (one, two) = tokio::join!(
            engine.receive(&room, &message),
            other.receive(&there, &message)
        );

        assert_eq!(one.unwrap().status, Status::Accepted);
        assert_eq!(two.unwrap().status, Status::Accepted);
        assert_eq!(engine.extremities(&room).await, [message.id.to_string()]);
    }
    assert_eq!(engine.state_ids(&room).await, other.state_ids(&there).await);
    other.end().await;
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn our_next_event_comes_after_a_received_one(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let room = engine.room(RoomVersionId::V12).await;
    engine.join(&room, &peer, "bob").await;
    let place = peer.on_top(&engine, &room).await;
    let one = place.message(&peer.user("bob"), "one").sign(&peer);
    let two = place.message(&peer.user("bob"), "two").sign(&peer);
    engine.status(&room, &one).await;
    engine.status(&room, &two).await;

    let answer = engine.say(&room, "three").await;

    let mut previous = answer.pdu.prev_events.clone();
    previous.sort();
    let mut expected = vec![one.id, two.id];
    expected.sort();
    assert_eq!(previous, expected);
    assert_eq!(
        engine.extremities(&room).await,
        [answer.pdu.event_id.to_string()]
    );
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn missing_events_are_fetched_and_come_first(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let room = engine.room(RoomVersionId::V12).await;
    engine.join(&room, &peer, "bob").await;
    let bob = peer.user("bob");
    let mut place = peer.on_top(&engine, &room).await;
    let mut events = Vec::new();
    for number in 0..30 {
        let message = place.message(&bob, &number.to_string()).sign(&peer);
        place = place.after(&message);
        peer.tell(&[&message]);
        events.push(message);
    }

    let status = engine.status(&room, &events[29]).await;

    assert_eq!(status, Status::Accepted);
    let expected: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();
    let timeline = engine.timeline(&room).await;
    assert_eq!(timeline[timeline.len() - 30..], expected);
    assert_eq!(engine.extremities(&room).await, expected[29..]);
    assert!(peer.asked.load(Ordering::Relaxed) <= 5);
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn where_events_are_missing_the_state_is_asked_for(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let room = engine.room(RoomVersionId::V12).await;
    engine.join(&room, &peer, "bob").await;
    let bob = peer.user("bob");
    let start = peer.on_top(&engine, &room).await;
    let carol = peer.user("carol");
    let join = start
        .state(
            &carol,
            ("m.room.member", carol.as_str()),
            &json!({ "membership": "join" }),
        )
        .sign(&peer);
    let after_join = start.clone().after(&join);
    let lost = after_join
        .message(&bob, "nobody has it but by id")
        .sign(&peer);
    let place = after_join.clone().after(&lost);
    let middle = place.message(&bob, "anybody?").sign(&peer);
    let last = place.after(&middle).message(&carol, "hello").sign(&peer);
    peer.tell(&[&join, &middle, &last]);
    peer.tell_by_id(&lost);
    peer.tell_state(&lost, after_join.state_ids());

    let status = engine.status(&room, &last).await;

    assert_eq!(status, Status::Accepted);
    let held = engine.held(&room, "m.room.member", carol.as_str()).await;
    assert_eq!(held.unwrap().pdu.event_id, join.id);
    let joined = engine.membership(&room, &carol).await;
    assert_eq!(joined.as_deref(), Some("join"));
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_outlier_that_comes_again_gets_its_place(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let room = engine.room(RoomVersionId::V12).await;
    engine.join(&room, &peer, "bob").await;
    let bob = peer.user("bob");
    let start = peer.on_top(&engine, &room).await;
    let lost = start.message(&bob, "lost").sign(&peer);
    let middle = start.clone().after(&lost).message(&bob, "middle");
    let middle = middle.sign(&peer);
    let last = start.clone().after(&middle).message(&bob, "last");
    let last = last.sign(&peer);
    peer.tell(&[&middle, &last]);
    peer.tell_by_id(&lost);
    peer.tell_state(&lost, start.state_ids());
    assert_eq!(engine.status(&room, &last).await, Status::Accepted);
    let outlier = engine.event(&lost.id).await.unwrap();
    assert!(outlier.snapshot.is_none());
    peer.tell_all();
    let next = start
        .clone()
        .after(&lost)
        .later(5)
        .message(&bob, "next")
        .sign(&peer);
    peer.tell(&[&next]);
    assert_eq!(engine.status(&room, &next).await, Status::Accepted);

    // It came as an ancestor, and is no extremity, since others come after it.
    let stored = engine.event(&lost.id).await.unwrap();
    assert!(stored.snapshot.is_some() && stored.is_accepted());
    let mut expected = vec![last.id.to_string(), next.id.to_string()];
    expected.sort();
    assert_eq!(engine.extremities(&room).await, expected);
    assert_eq!(outlier.nid, stored.nid);
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_cannot_be_had_is_said_and_nothing_is_stored(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let room = engine.room(RoomVersionId::V12).await;
    engine.join(&room, &peer, "bob").await;
    let start = peer.on_top(&engine, &room).await;
    let lost = start.message(&peer.user("bob"), "lost").sign(&peer);
    let last = start
        .after(&lost)
        .message(&peer.user("bob"), "last")
        .sign(&peer);

    let error = engine.receive(&room, &last).await.unwrap_err();

    assert!(matches!(error, ReceiveError::Missing));
    assert!(engine.event(&last.id).await.is_none());
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn redactions_apply_whichever_comes_first(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let room = engine.room(RoomVersionId::V11).await;
    engine.join(&room, &peer, "bob").await;
    let bob = peer.user("bob");
    let place = peer.on_top(&engine, &room).await;
    let (one, two) = (
        place.message(&bob, "one").sign(&peer),
        place.message(&bob, "two").sign(&peer),
    );
    let redact = |target: &crate::peer::Event, sender: &UserId| {
        let content = json!({ "redacts": target.id });
        place.event(sender, ("m.room.redaction", None), &content)
    };
    engine.status(&room, &one).await;
    engine.status(&room, &redact(&one, &bob).sign(&peer)).await;
    engine.status(&room, &redact(&two, &bob).sign(&peer)).await;
    engine.status(&room, &two).await;

    let later = place.clone().later(5);
    let (three, four) = (
        later.message(&bob, "three").sign(&peer),
        later.message(&bob, "four").sign(&peer),
    );
    let (after, before) = (
        redact(&three, &bob).sign(&peer),
        redact(&four, &bob).sign(&peer),
    );
    engine
        .receive_all(&room, &[&three, &after, &before, &four])
        .await;

    for event in [one, two, three, four] {
        let stored = engine.event(&event.id).await.unwrap();
        assert!(stored.redaction.is_some(), "{}", event.json);
        assert_eq!(stored.pdu.content.get(), "{}");
    }
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_has_the_power_redacts_what_only_others_have(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let room = engine.room(RoomVersionId::V11).await;
    engine.join(&room, &peer, "bob").await;
    let dan = UserId::parse("@dan:here.org").unwrap();
    let join = canonical(json!({ "membership": "join" }));
    let join = Draft::state(TimelineEventType::RoomMember, dan.as_str(), join);
    engine.rooms.send(&room, &dan, join).await.unwrap();
    let place = peer.on_top(&engine, &room).await;
    let target = place.message(&peer.user("bob"), "only there").sign(&peer);
    let redact = || {
        let content = canonical(json!({}));
        let mut draft = Draft::message(TimelineEventType::RoomRedaction, content);
        draft.redacts = Some(target.id.clone());
        draft
    };

    let refused = engine.rooms.send(&room, &dan, redact()).await.unwrap_err();
    let redaction = engine.send(&room, redact()).await;

    assert!(matches!(refused, SendError::UnknownTarget));
    assert_eq!(redaction.pdu.redacts.as_ref(), Some(&target.id));
    assert_eq!(engine.status(&room, &target).await, Status::Accepted);
    let stored = engine.event(&target.id).await.unwrap();
    assert!(stored.redaction.is_some());
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn nobody_without_power_redacts_events_of_other_servers(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let room = engine.room(RoomVersionId::V11).await;
    engine.join(&room, &peer, "bob").await;
    let ours = engine.say(&room, "ours").await;
    let place = peer.on_top(&engine, &room).await;
    let content = json!({ "redacts": ours.pdu.event_id });
    let redaction = place.event(&peer.user("bob"), ("m.room.redaction", None), &content);

    let status = engine.status(&room, &redaction.sign(&peer)).await;

    assert_eq!(status, Status::Accepted);
    let ours = engine.event(&ours.pdu.event_id).await.unwrap();
    assert!(ours.redaction.is_none());
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn policy_servers_are_asked_and_heeded(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let room = engine.room(RoomVersionId::V12).await;
    engine.join(&room, &peer, "bob").await;
    let key = crate::peer::policy_key().public().encode();
    let content = json!({ "via": "there.org", "public_keys": { "ed25519": key } });
    engine.set(&room, "m.room.policy", "", content).await;
    let place = peer.on_top(&engine, &room).await;
    let good = place.message(&peer.user("bob"), "good").sign(&peer);
    let spam = place.message(&peer.user("bob"), "spam").sign(&peer);

    assert_eq!(engine.status(&room, &good).await, Status::Accepted);
    let ours = engine.say(&room, "ours").await;
    assert!(ours.pdu.json.get().contains("ed25519:policy_server"));
    // Nobody is asked about what is rejected anyway.
    let asked = peer.asked_to_sign.load(Ordering::Relaxed);
    let ban = json!({ "membership": "ban" });
    let ban = place.state(&peer.user("bob"), ("m.room.member", alice().as_str()), &ban);
    assert_eq!(
        engine.status(&room, &ban.sign(&peer)).await,
        Status::Rejected
    );
    assert_eq!(peer.asked_to_sign.load(Ordering::Relaxed), asked);
    *peer.recommends.lock().unwrap() = false;
    assert_eq!(engine.status(&room, &spam).await, Status::SoftFailed);

    let stored = engine.event(&good.id).await.unwrap();
    assert!(stored.pdu.json.get().contains("ed25519:policy_server"));
    let content = canonical(json!({ "body": "spam", "msgtype": "m.text" }));
    let draft = Draft::message(TimelineEventType::RoomMessage, content);
    let refused = engine.rooms.send(&room, &alice(), draft).await.unwrap_err();
    assert!(matches!(refused, SendError::NotRecommended(_)), "{refused}");
    // Who chooses the policy server does not need its leave.
    let none = engine.set(&room, "m.room.policy", "", json!({})).await;
    assert_eq!(
        none.pdu.prev_events,
        std::slice::from_ref(&ours.pdu.event_id)
    );
    engine.say(&room, "free").await;
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_silent_policy_server_keeps_nobody_in_the_room(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let room = engine.room(RoomVersionId::V12).await;
    engine.join(&room, &peer, "bob").await;
    engine.join(&room, &peer, "carol").await;
    let key = crate::peer::policy_key().public().encode();
    let content = json!({ "via": "there.org", "public_keys": { "ed25519": key } });
    engine.set(&room, "m.room.policy", "", content).await;
    peer.is_mute.store(true, Ordering::Relaxed);
    let carol = peer.user("carol");
    let place = peer.on_top(&engine, &room).await;
    let leave = json!({ "membership": "leave" });
    let message = place.message(&carol, "not checked").sign(&peer);
    let kick = place.state(&carol, ("m.room.member", "@x:y.org"), &leave);
    let own = place.state(&carol, ("m.room.member", carol.as_str()), &leave);

    let more: Vec<_> = (0..5)
        .map(|number| place.message(&carol, &number.to_string()).sign(&peer))
        .collect();

    assert_eq!(engine.status(&room, &message).await, Status::SoftFailed);
    // One silence is enough for a transaction.
    let asked = peer.asked_to_sign.load(Ordering::Relaxed);
    let more: Vec<_> = more.iter().collect();
    let statuses = engine.receive_all(&room, &more).await;
    assert_eq!(statuses, [Status::SoftFailed; 5]);
    assert_eq!(peer.asked_to_sign.load(Ordering::Relaxed), asked + 1);
    assert_eq!(
        engine.status(&room, &kick.sign(&peer)).await,
        Status::Rejected
    );
    assert_eq!(
        engine.status(&room, &own.sign(&peer)).await,
        Status::Accepted
    );
    let content = canonical(json!({ "body": "not checked", "msgtype": "m.text" }));
    let draft = Draft::message(TimelineEventType::RoomMessage, content);
    let refused = engine.rooms.send(&room, &alice(), draft).await.unwrap_err();
    assert!(matches!(refused, SendError::NotRecommended(_)), "{refused}");
    let kind = TimelineEventType::RoomMember;
    let draft = Draft::state(kind, alice().to_string(), canonical(leave));
    engine.rooms.send(&room, &alice(), draft).await.unwrap();

    for (user, membership) in [(carol, "leave"), (alice(), "leave")] {
        let row = engine.membership(&room, &user).await;
        assert_eq!(row.as_deref(), Some(membership));
    }
    engine.end().await;
}
