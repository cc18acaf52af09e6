//! Rooms whose graphs have branches.

use std::sync::Arc;

use hearth_store::{MIGRATOR, write::Status};
use ruma::RoomVersionId;
use serde_json::json;
use sqlx::PgPool;

use crate::{
    engine::{Engine, alice},
    peer::{Peer, World},
};

async fn scene(pool: &PgPool) -> (Engine, Arc<Peer>) {
    let peer = Peer::new("there.org");
    let engine = Engine::start(pool, Arc::new(World(vec![Arc::clone(&peer)]))).await;
    (engine, peer)
}

/// The example of the specification, "Soft failure".
#[sqlx::test(migrator = "MIGRATOR")]
async fn a_banned_user_who_evades_the_ban_is_soft_failed(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    for version in [RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
        let room = engine.room(version).await;
        let (bob, carol) = (peer.user("bob"), peer.user("carol"));
        engine.join(&room, &peer, "bob").await;
        engine.join(&room, &peer, "carol").await;
        let mut levels: serde_json::Value = engine
            .held(&room, "m.room.power_levels", "")
            .await
            .unwrap()
            .pdu
            .content_as()
            .unwrap();
        levels["users"][bob.as_str()] = json!(50);
        engine.set(&room, "m.room.power_levels", "", levels).await;
        let before = peer.on_top(&engine, &room).await;
        let ban = json!({ "membership": "ban" });
        let ban = engine.set(&room, "m.room.member", bob.as_str(), ban).await;

        let content = json!({ "topic": "evading" });
        let topic = before
            .state(&bob, ("m.room.topic", ""), &content)
            .sign(&peer);
        assert_eq!(engine.status(&room, &topic).await, Status::SoftFailed);
        assert!(engine.held(&room, "m.room.topic", "").await.is_none());
        assert!(!engine.timeline(&room).await.contains(&topic.id.to_string()));
        let ours = engine.say(&room, "goes on").await;
        assert_eq!(
            ours.pdu.prev_events,
            std::slice::from_ref(&ban.pdu.event_id)
        );

        // An event of somebody who saw both is taken as usual, and the ban comes first.
        let place = peer.on_top(&engine, &room).await.and(&[&topic]);
        let both = place.message(&carol, "saw both").sign(&peer);
        assert_eq!(engine.status(&room, &both).await, Status::Accepted);
        assert!(engine.held(&room, "m.room.topic", "").await.is_none());
        assert_eq!(engine.extremities(&room).await, [both.id.to_string()]);

        // Who was banned at the event is rejected.
        let place = peer.on_top(&engine, &room).await;
        let late = place.message(&bob, "still here").sign(&peer);
        assert_eq!(engine.status(&room, &late).await, Status::Rejected);
    }
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn branches_that_disagree_are_resolved_and_merged(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    for version in [RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
        let room = engine.room(version).await;
        let bob = peer.user("bob");
        engine.join(&room, &peer, "bob").await;
        let mut levels: serde_json::Value = engine
            .held(&room, "m.room.power_levels", "")
            .await
            .unwrap()
            .pdu
            .content_as()
            .unwrap();
        levels["users"][bob.as_str()] = json!(50);
        engine.set(&room, "m.room.power_levels", "", levels).await;
        let before = peer.on_top(&engine, &room).await;
        engine
            .set(&room, "m.room.topic", "", json!({ "topic": "ours" }))
            .await;
        engine
            .set(&room, "m.room.name", "", json!({ "name": "ours" }))
            .await;
        // Theirs is the later one.
        let content = json!({ "topic": "theirs" });
        let theirs = before
            .later(1_000)
            .state(&bob, ("m.room.topic", ""), &content);
        let theirs = theirs.sign(&peer);

        assert_eq!(engine.status(&room, &theirs).await, Status::Accepted);

        assert_eq!(engine.extremities(&room).await.len(), 2);
        let topic = engine.held(&room, "m.room.topic", "").await.unwrap();
        assert_eq!(topic.pdu.event_id, theirs.id);
        assert!(engine.held(&room, "m.room.name", "").await.is_some());
        let merged = engine.say(&room, "merged").await;
        assert_eq!(merged.pdu.prev_events.len(), 2);
        let topic = engine.held(&room, "m.room.topic", "").await.unwrap();
        assert_eq!(topic.pdu.event_id, theirs.id);
        let current = engine.rooms.current(&room).await.unwrap().unwrap();
        assert_eq!(merged.snapshot, Some(current.snapshot.nid));
    }
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_membership_that_a_resolution_undoes_is_undone_everywhere(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let room = engine.room(RoomVersionId::V12).await;
    let (bob, carol) = (peer.user("bob"), peer.user("carol"));
    engine.join(&room, &peer, "bob").await;
    let before = peer.on_top(&engine, &room).await;
    let closed = engine
        .set(
            &room,
            "m.room.join_rules",
            "",
            json!({ "join_rule": "invite" }),
        )
        .await;
    // Carol's server did not know of the new rule.
    let join = before
        .state(
            &carol,
            ("m.room.member", carol.as_str()),
            &json!({ "membership": "join" }),
        )
        .sign(&peer);
    assert_eq!(engine.status(&room, &join).await, Status::SoftFailed);
    assert_eq!(engine.membership(&room, &carol).await, None);

    let place = peer.on_top(&engine, &room).await.and(&[&join]);
    let both = place.message(&bob, "saw both").sign(&peer);
    assert_eq!(engine.status(&room, &both).await, Status::Accepted);

    assert_eq!(engine.membership(&room, &carol).await, None);
    let rule = engine.held(&room, "m.room.join_rules", "").await.unwrap();
    assert_eq!(rule.pdu.event_id, closed.pdu.event_id);
    assert!(alice() != bob);
    engine.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn branches_that_others_leave_open_are_closed(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let room = engine.room(RoomVersionId::V12).await;
    engine.join(&room, &peer, "bob").await;
    let place = peer.on_top(&engine, &room).await;

    for number in 0..60 {
        let message = place
            .message(&peer.user("bob"), &number.to_string())
            .sign(&peer);
        assert_eq!(engine.status(&room, &message).await, Status::Accepted);
        let open = engine.extremities(&room).await.len();
        assert!(open <= 20, "{open} branches are open");
    }
    engine.end().await;
}

/// Two branches of some length: what comes of them does not depend on how many events come at a time.
#[sqlx::test(migrator = "MIGRATOR")]
async fn a_branch_that_comes_at_once_ends_like_one_that_comes_event_by_event(pool: PgPool) {
    let (engine, peer) = scene(&pool).await;
    let mut ends = Vec::new();
    for together in [1, 40] {
        let room = engine.room(RoomVersionId::V12).await;
        let (bob, carol) = (peer.user("bob"), peer.user("carol"));
        engine.join(&room, &peer, "bob").await;
        let levels = json!({ "users": { bob.as_str(): 50 } });
        engine.set(&room, "m.room.power_levels", "", levels).await;
        let mut place = peer.on_top(&engine, &room).await;
        for key in 0..20 {
            let content = json!({ "ours": key });
            engine
                .set(&room, "org.example.note", &key.to_string(), content)
                .await;
        }
        let joined = json!({ "membership": "join" });
        let join = place.state(&carol, ("m.room.member", carol.as_str()), &joined);
        let mut events = vec![join.sign(&peer)];
        place = place.after(&events[0]);
        for key in 0..40 {
            let event = match key % 4 {
                0 => place.message(&carol, "hello"),
                1 => place.state(&carol, ("org.example.note", "nobody may"), &json!({})),
                _ => {
                    let content = json!({ "theirs": key });
                    place.state(&bob, ("org.example.note", &key.to_string()), &content)
                }
            };
            let event = event.sign(&peer);
            // What is rejected is no part of the state.
            place = match key % 4 {
                1 => place.only_after(&[&event]),
                _ => place.after(&event),
            };
            events.push(event);
        }

        let mut statuses = Vec::new();
        for some in events.iter().collect::<Vec<_>>().chunks(together) {
            statuses.extend(engine.receive_all(&room, some).await);
        }

        assert_eq!(statuses[2], Status::Rejected);
        assert_eq!(statuses[1], Status::Accepted);
        let row = engine.membership(&room, &carol).await;
        assert_eq!(row.as_deref(), Some("join"));
        let mut state: Vec<String> = Vec::new();
        for event in engine.state(&room).await {
            let key = event.pdu.state_key.clone().unwrap_or_default();
            state.push(format!("{} {key} {}", event.pdu.kind, event.pdu.content));
        }
        state.sort();
        ends.push((statuses, state, engine.timeline(&room).await.len()));
    }
    assert_eq!(ends[0], ends[1]);
    engine.end().await;
}
