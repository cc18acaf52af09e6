//! Events of servers that behave badly.

use std::sync::Arc;

use hearth_rooms::{Malformed, ReceiveError};
use hearth_store::{MIGRATOR, write::Status};
use ruma::{RoomVersionId, server_name};
use serde_json::{json, value::RawValue};
use sqlx::PgPool;

use crate::{
    engine::{Engine, alice},
    peer::{Peer, Place, World},
};

/// An engine, a peer whose user Bob is in the room, and the place after the last event.
async fn scene(pool: &PgPool) -> (Engine, Arc<Peer>, Arc<hearth_rooms::Room>, Place) {
    let peer = Peer::new("there.org");
    let engine = Engine::start(pool, Arc::new(World(vec![Arc::clone(&peer)]))).await;
    let room = engine.room(RoomVersionId::V11).await;
    engine.join(&room, &peer, "bob").await;
    let place = peer.on_top(&engine, &room).await;
    (engine, peer, room, place)
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_event_with_a_wrong_signature_is_dropped(pool: PgPool) {
    let (engine, peer, room, place) = scene(&pool).await;
    let stranger = Peer::new("stranger.org");
    let message = place.message(&peer.user("bob"), "hello");
    let mut forged = message.clone().sign(&stranger);
    forged.json =
        RawValue::from_string(forged.json.get().replace("stranger.org", "there.org")).unwrap();
    let unsigned = message
        .set("signatures", json!({}))
        .set("hashes", json!({ "sha256": "x" }));

    for event in [forged, unsigned.unsigned()] {
        let error = engine.receive(&room, &event).await.unwrap_err();
        assert!(
            matches!(
                error,
                ReceiveError::Malformed(Malformed::Signature(_) | Malformed::NoKey(_))
            ),
            "{error}"
        );
        assert!(engine.event(&event.id).await.is_none());
    }
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_event_with_a_wrong_hash_is_redacted(pool: PgPool) {
    let (engine, peer, room, place) = scene(&pool).await;
    let message = place
        .message(&peer.user("bob"), "what was signed")
        .sign(&peer);
    let changed = message
        .json
        .get()
        .replace("what was signed", "what was not");
    let changed = RawValue::from_string(changed).unwrap();

    let received = engine
        .receive_json(&room, server_name!("there.org"), &changed)
        .await
        .unwrap();

    assert_eq!(received.status, Status::Accepted);
    assert_eq!(received.event_id, message.id);
    let stored = engine.event(&message.id).await.unwrap();
    assert_eq!(stored.pdu.content.get(), "{}");
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_too_large_or_no_canonical_json_is_dropped(pool: PgPool) {
    let (engine, peer, room, place) = scene(&pool).await;
    let message = place.message(&peer.user("bob"), "hello").sign(&peer);
    let json = message.json.get();
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let bad = [
        json.replace("\"hello\"", &format!("\"{}\"", "x".repeat(70_000))),
        json.replace("\"hello\"", &format!("\"{}\"", "x".repeat(700_000))),
        json.replace("\"hello\"", "1.5"),
        json.replace("\"hello\"", "9007199254740993"),
        json.replace("\"hello\"", &deep),
        json.replace("\"depth\":", "\"depth\":-"),
        json.replace("\"depth\":", "\"depht\":"),
        json.replace("\"type\":\"m.room.message\"", "\"type\":7"),
        json.replace("\"sender\":\"@bob:there.org\"", "\"sender\":\"bob\""),
        json.replace("\"prev_events\":[", "\"prev_events\":[[],"),
        "[]".to_owned(),
        "{}".to_owned(),
        "null".to_owned(),
    ];

    for bad in bad {
        assert_ne!(bad, json);
        let bad = RawValue::from_string(bad).unwrap();
        let result = engine.receive_json(&room, &peer.name, &bad).await;
        assert!(
            matches!(result, Err(ReceiveError::Malformed(_))),
            "{result:?} {bad}"
        );
    }
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn events_of_other_rooms_are_dropped(pool: PgPool) {
    let (engine, peer, room, place) = scene(&pool).await;
    let other = engine.room(RoomVersionId::V11).await;
    let elsewhere = engine.say(&other, "elsewhere").await;
    let bob = peer.user("bob");
    let foreign = place
        .message(&bob, "foreign")
        .set("room_id", json!(other.id))
        .sign(&peer);
    let after = place
        .message(&bob, "after a foreign event")
        .set("prev_events", json!([elsewhere.pdu.event_id]))
        .sign(&peer);

    for event in [foreign, after] {
        let result = engine.receive(&room, &event).await;
        assert!(
            matches!(result, Err(ReceiveError::Malformed(Malformed::WrongRoom))),
            "{result:?}"
        );
    }
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn wrong_auth_events_are_rejected(pool: PgPool) {
    let (engine, peer, room, place) = scene(&pool).await;
    let bob = peer.user("bob");
    let message = place.message(&bob, "hello");
    let auth = message.object["auth_events"].clone();
    let auth: serde_json::Value = serde_json::to_value(auth).unwrap();
    let rules = engine.held(&room, "m.room.join_rules", "").await.unwrap();
    let other = engine.room(RoomVersionId::V11).await;
    let foreign = engine.held(&other, "m.room.create", "").await.unwrap();
    let with = |id: &ruma::EventId| {
        let mut auth = auth.clone();
        auth.as_array_mut().unwrap().push(json!(id));
        auth
    };
    let cases = [
        json!([]),
        with(&rules.pdu.event_id),
        with(&foreign.pdu.event_id),
    ];

    for auth in cases {
        let event = message.clone().set("auth_events", auth).sign(&peer);
        assert_eq!(engine.status(&room, &event).await, Status::Rejected);
        let stored = engine.event(&event.id).await.unwrap();
        assert!(stored.stream_order().is_none() && !stored.is_accepted());
    }
    assert_eq!(engine.extremities(&room).await.len(), 1);
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_a_rejected_event_authorises_is_rejected(pool: PgPool) {
    let (engine, peer, room, place) = scene(&pool).await;
    let bob = peer.user("bob");
    let levels = place
        .state(
            &bob,
            ("m.room.power_levels", ""),
            &json!({ "users": { bob.as_str(): 100 } }),
        )
        .sign(&peer);
    assert_eq!(engine.status(&room, &levels).await, Status::Rejected);

    let content = json!({ "topic": "mine" });
    let topic = place
        .clone()
        .with(&levels)
        .state(&bob, ("m.room.topic", ""), &content);
    assert_eq!(
        engine.status(&room, &topic.sign(&peer)).await,
        Status::Rejected
    );
    // What comes after a rejected event is not rejected for that.
    let after = place
        .clone()
        .and(&[&levels])
        .message(&bob, "hello")
        .sign(&peer);
    assert_eq!(engine.status(&room, &after).await, Status::Accepted);
    assert!(engine.held(&room, "m.room.topic", "").await.is_none());
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn auth_events_that_cannot_be_had_are_no_reason_to_store_anything(pool: PgPool) {
    let (engine, peer, room, place) = scene(&pool).await;
    let nowhere = "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let event = place
        .message(&peer.user("bob"), "hello")
        .set("auth_events", json!([nowhere]))
        .sign(&peer);

    let error = engine.receive(&room, &event).await.unwrap_err();

    assert!(matches!(error, ReceiveError::Missing));
    assert!(engine.event(&event.id).await.is_none());
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn events_that_authorise_each_other_authorise_nothing(pool: PgPool) {
    let peer = Peer::new("there.org");
    let engine = Engine::start(&pool, Arc::new(World(vec![Arc::clone(&peer)]))).await;
    // In later versions the id of an event follows from what it cites, so that there are no rings.
    let room = engine.room(RoomVersionId::V2).await;
    let place = peer.on_top(&engine, &room).await;
    let pair = |id: &str| json!([id, { "sha256": "AAAA" }]);
    let previous: Vec<_> = place
        .previous_ids()
        .iter()
        .map(|id| pair(id.as_str()))
        .collect();
    let event = |id: &str, cited: &str| {
        place
            .message(&peer.user("bob"), id)
            .set("event_id", json!(id))
            .set("prev_events", json!(previous))
            .set("auth_events", json!([pair(cited)]))
            .sign(&peer)
    };
    let one = event("$one:there.org", "$two:there.org");
    let two = event("$two:there.org", "$one:there.org");
    let alone = event("$alone:there.org", "$alone:there.org");
    peer.tell(&[&one, &two, &alone]);

    for event in [&one, &two, &alone] {
        let error = engine.receive(&room, event).await.unwrap_err();

        assert!(matches!(error, ReceiveError::Missing), "{error}");
        assert!(engine.event(&event.id).await.is_none());
    }
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_room_is_created_once(pool: PgPool) {
    let (engine, peer, room, place) = scene(&pool).await;
    let create = place
        .state(
            &peer.user("bob"),
            ("m.room.create", ""),
            &json!({ "room_version": "11" }),
        )
        .set("prev_events", json!([]))
        .set("auth_events", json!([]))
        .sign(&peer);

    let result = engine.receive(&room, &create).await;

    assert!(
        !matches!(&result, Ok(received) if received.status == Status::Accepted),
        "{result:?}"
    );
    let created = engine.held(&room, "m.room.create", "").await.unwrap();
    assert_eq!(created.pdu.sender, alice());
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_restricted_join_needs_the_signature_of_who_authorised_it(pool: PgPool) {
    let (engine, peer, room, _) = scene(&pool).await;
    let rule = json!({
        "join_rule": "restricted",
        "allow": [{ "type": "m.room_membership", "room_id": "!elsewhere:there.org" }],
    });
    engine.set(&room, "m.room.join_rules", "", rule).await;
    let carol = peer.user("carol");
    let place = peer.on_top(&engine, &room).await;
    let join = |authorised: serde_json::Value| {
        let mut content = json!({ "membership": "join" });
        if !authorised.is_null() {
            content["join_authorised_via_users_server"] = authorised;
        }
        place.state(&carol, ("m.room.member", carol.as_str()), &content)
    };

    // Nobody authorised it.
    let alone = join(serde_json::Value::Null).sign(&peer);
    assert_eq!(engine.status(&room, &alone).await, Status::Rejected);
    // It says that Alice did, and her server did not sign it.
    let forged = join(json!(alice())).sign(&peer);
    let error = engine.receive(&room, &forged).await.unwrap_err();
    assert!(
        matches!(error, ReceiveError::Malformed(Malformed::Signature(_))),
        "{error}"
    );
    // Alice's server signed it too.
    let mut signed = join(json!(alice()));
    let identity = engine.rooms.identity();
    let redaction = &signed.rules.redaction;
    let (name, key) = (identity.server_name.as_str(), &identity.key);
    ruma::signatures::hash_and_sign_event(name, key, &mut signed.object, redaction).unwrap();
    let signed = signed.sign(&peer);
    assert_eq!(engine.status(&room, &signed).await, Status::Accepted);
    let joined = engine.membership(&room, &carol).await;
    assert_eq!(joined.as_deref(), Some("join"));
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_state_that_is_made_up_gets_nobody_in(pool: PgPool) {
    let (engine, peer, room, place) = scene(&pool).await;
    let mallory = peer.user("mallory");
    // A power levels event that nobody may have sent is told as part of the state.
    let content = json!({ "users": { mallory.as_str(): 100 } });
    let levels = place.state(&mallory, ("m.room.power_levels", ""), &content);
    let levels = levels.sign(&peer);
    let lost = place.message(&peer.user("bob"), "lost").sign(&peer);
    let after = place.clone().with(&levels).after(&lost);
    let topic = after
        .state(&mallory, ("m.room.topic", ""), &json!({ "topic": "mine" }))
        .sign(&peer);
    let last = after.after(&topic).message(&peer.user("bob"), "last");
    let last = last.sign(&peer);
    peer.tell(&[&levels, &topic, &last]);
    peer.tell_by_id(&lost);
    peer.tell_state(&lost, place.clone().with(&levels).state_ids());

    engine.status(&room, &last).await;

    let stored = engine.event(&topic.id).await.unwrap();
    assert_eq!(stored.status, Status::Rejected);
    let stored = engine.event(&levels.id).await.unwrap();
    assert!(!stored.is_accepted());
    assert!(engine.held(&room, "m.room.topic", "").await.is_none());
    engine.end().await;
}

/// A key that is good for one event of a transaction is not for that good for another.
#[sqlx::test(migrator = "MIGRATOR")]
async fn each_signature_needs_a_key_that_was_good_at_its_time(pool: PgPool) {
    let (engine, peer, room, place) = scene(&pool).await;
    let early = place.message(&peer.user("bob"), "early").sign(&peer);
    let late = place.clone().after(&early).later(1_000);
    let late = late.message(&peer.user("bob"), "late").sign(&peer);
    let until = u64::from(early.pdu.origin_server_ts.get()) + 500;
    peer.key_until
        .store(until, std::sync::atomic::Ordering::Relaxed);
    let incoming = [&early, &late].map(|event| {
        let read = hearth_rooms::Incoming::read(&event.json, &room.id, &room.rules);
        read.unwrap()
    });

    let received = engine
        .rooms
        .receive_all(&room, &peer.name, incoming.into())
        .await;

    let [early, late] = received.as_slice() else {
        panic!("there are two results")
    };
    assert_eq!(early.as_ref().unwrap().status, Status::Accepted);
    assert!(matches!(
        late,
        Err(ReceiveError::Malformed(Malformed::NoKey(_)))
    ));
    engine.end().await;
}
