//! `/_matrix/federation/v1/send`: what other servers send.

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    chat::{encode, ids},
    peer::{Joined, Peer},
    server::{TestServer, User},
    sync::filter,
};

/// A server, a user in a room, and a peer that has joined it.
struct Scene {
    server: TestServer,
    alice: User,
    peer: Peer,
    joined: Joined,
}

impl Scene {
    async fn new(pool: PgPool) -> Self {
        let server = TestServer::new(pool.clone()).await;
        let alice = server.register("alice").await;
        let room = server.create_public_room(&alice).await;
        let peer = Peer::known(&pool, &server, "peer.example").await;
        let joined = peer.join(&server, &room, "bob").await;
        Self {
            server,
            alice,
            peer,
            joined,
        }
    }

    async fn send(&self, txn_id: &str, pdus: Vec<Value>, edus: Vec<Value>) -> (StatusCode, Value) {
        self.peer.transact(&self.server, txn_id, (pdus, edus)).await
    }

    async fn timeline(&self) -> Value {
        let room = &self.joined.room_id;
        let (_, page) = self
            .server
            .messages(&self.alice, room, "dir=b&limit=50")
            .await;
        page["chunk"].clone()
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_message_arrives_once_however_often_it_is_sent(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (event_id, event) = scene.peer.message(&scene.joined, "hello");

    let (status, first) = scene.send("1", vec![event.clone()], vec![]).await;
    let (_, repeated) = scene.send("1", vec![event.clone()], vec![]).await;
    let (_, again) = scene.send("2", vec![event], vec![]).await;

    assert_eq!(status, StatusCode::OK, "{first}");
    let taken = json!({ "pdus": { (event_id.as_str()): {} } });
    assert_eq!((&first, &repeated, &again), (&taken, &taken, &taken));
    let timeline = scene.timeline().await;
    let count = ids(&timeline).iter().filter(|id| **id == event_id).count();
    assert_eq!(count, 1);
}

/// What came before an event that is late in the graph is found by going back from it.
#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn nothing_is_lost_between_a_sync_and_history_when_an_event_is_late(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (server, alice) = (&scene.server, &scene.alice);
    let (_, synced) = server.get(alice, "/sync").await;
    let since = synced["next_batch"].as_str().unwrap();
    let room = &scene.joined.room_id;
    let mut ours = Vec::new();
    for number in 1..=4 {
        ours.push(server.say(alice, room, &number.to_string()).await);
    }
    let content = json!({ "msgtype": "m.text", "body": "late" });
    let event = json!({ "type": "m.room.message", "content": content, "depth": 8 });
    let (late, event) = scene.peer.event(&scene.joined, event);
    scene.send("1", vec![event], vec![]).await;
    for number in 5..=7 {
        ours.push(server.say(alice, room, &number.to_string()).await);
    }

    let filter = encode(r#"{"room":{"timeline":{"limit":4}}}"#);
    let path = format!("/sync?since={since}&filter={filter}");
    let (_, synced) = server.get(alice, &path).await;
    let timeline = &synced["rooms"]["join"][room]["timeline"];
    let from = timeline["prev_batch"].as_str().unwrap();
    let query = format!("dir=b&limit=4&from={from}");
    let (_, page) = server.messages(alice, room, &query).await;

    let shown = ids(&timeline["events"]);
    assert_eq!(shown, [&late, &ours[4], &ours[5], &ours[6]]);
    let before = ids(&page["chunk"]);
    assert_eq!(before, [&ours[3], &ours[2], &ours[1], &ours[0]]);
}

/// What a peer lacks of a room it gets in the order of the graph, without what it may not see.
#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn missing_events_come_in_order_and_as_they_may_be_seen(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let peer = Peer::known(&pool, &server, "peer.example").await;
    for (visibility, is_shown) in [("shared", true), ("joined", false)] {
        let room = server.create_public_room(&alice).await;
        let path = format!("/rooms/{room}/state/m.room.history_visibility");
        let body = json!({ "history_visibility": visibility });
        server.put(&alice, &path, body).await;
        server.say(&alice, &room, "before").await;
        let joined = peer
            .join(&server, &room, &format!("bob-{visibility}"))
            .await;
        let earliest = format!("${}", &room[1..]);

        let uri = format!(
            "/_matrix/federation/v1/get_missing_events/{}",
            encode(&room)
        );
        let body = json!({
            "earliest_events": [earliest], "latest_events": [joined.join], "limit": 10, "min_depth": 1,
        });
        let (status, answer) = peer.send(&server, http::Method::POST, &uri, body).await;

        assert_eq!(status, StatusCode::OK, "{answer}");
        let events = answer["events"].as_array().unwrap();
        let kinds: Vec<&str> = events.iter().filter_map(|e| e["type"].as_str()).collect();
        let mut expected = vec![
            "m.room.member",
            "m.room.power_levels",
            "m.room.join_rules",
            "m.room.history_visibility",
            "m.room.history_visibility",
            "m.room.message",
        ];
        if visibility == "shared" {
            expected.remove(4);
        }
        assert_eq!(kinds, expected);
        let message = events.last().unwrap();
        assert_eq!(message["content"]["body"].is_string(), is_shown);
    }
}

/// Nothing is wrong with an event that comes after one that cannot be had: it waits.
#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_event_after_one_that_cannot_be_had_waits_and_is_no_error(pool: PgPool) {
    let mut scene = Scene::new(pool).await;
    let join = std::mem::replace(&mut scene.joined.join, format!("${}", "A".repeat(43)));
    let (lost, event) = scene.peer.message(&scene.joined, "after what nobody has");
    scene.joined.join = join;
    let (good, other) = scene.peer.message(&scene.joined, "good");

    let (status, answer) = scene.send("1", vec![event, other], vec![]).await;

    assert_eq!(status, StatusCode::OK, "{answer}");
    let pdus = json!({ (lost.as_str()): {}, (good.as_str()): {} });
    assert_eq!(answer["pdus"], pdus);
    let timeline = scene.timeline().await;
    assert!(!ids(&timeline).contains(&lost.as_str()));
    assert!(ids(&timeline).contains(&good.as_str()));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_bad_event_does_not_harm_the_others(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let (good_id, good) = scene.peer.message(&scene.joined, "hello");
    let (forged_id, mut forged) = scene.peer.message(&scene.joined, "forged");
    forged["signatures"]["peer.example"]["ed25519:x"] = json!("AAAA");
    let signatures = forged["signatures"]["peer.example"]
        .as_object_mut()
        .unwrap();
    signatures.retain(|key, _| key == "ed25519:x");
    let (_, mut with_float) = scene.peer.message(&scene.joined, "float");
    with_float["content"]["x"] = json!(1.5);
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let (_, mut endless) = scene.peer.message(&scene.joined, "deep");
    endless["content"]["x"] = serde_json::from_str(&deep).unwrap();

    let pdus = vec![
        json!({}),
        json!({ "room_id": "!unknown:peer.example" }),
        with_float,
        endless,
        forged,
        good,
    ];
    let (status, answer) = scene.send("1", pdus, vec![json!({}), json!(5)]).await;

    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["pdus"][&good_id], json!({}));
    assert!(answer["pdus"][&forged_id]["error"].is_string(), "{answer}");
    let timeline = scene.timeline().await;
    assert!(ids(&timeline).contains(&good_id.as_str()));
    assert!(!ids(&timeline).contains(&forged_id.as_str()));
    let bodies = timeline.as_array().unwrap().iter();
    let bodies: Vec<_> = bodies.map(|event| &event["content"]["body"]).collect();
    assert!(!bodies.contains(&&json!("float")));
    assert!(!bodies.contains(&&json!("deep")));
}

/// No column can hold a null character: what is named with one is dropped, and what merely says one is kept.
#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn null_characters_do_not_stop_a_server(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let bob = &scene.joined.user_id;
    let member = json!({ "membership": "join", "displayname": "\u{0}", "avatar_url": "\u{0}" });
    let relation = json!({ "m.relates_to": { "rel_type": "\u{0}", "event_id": "$\u{0}" } });
    let events = [
        json!({ "type": "a\u{0}b", "content": {}, "depth": 50 }),
        json!({ "type": "x.y", "state_key": "a\u{0}b", "content": {}, "depth": 50 }),
        json!({ "type": "m.room.member", "state_key": bob, "content": member, "depth": 50 }),
        json!({ "type": "m.room.message", "content": relation, "depth": 50 }),
    ];
    let events = events.map(|event| scene.peer.event(&scene.joined, event));
    let (ids, pdus): (Vec<String>, Vec<Value>) = events.into_iter().unzip();
    let (good_id, good) = scene.peer.message(&scene.joined, "good");

    let pdus = pdus.into_iter().chain([good]).collect();
    let (status, answer) = scene.send("1", pdus, vec![]).await;

    assert_eq!(status, StatusCode::OK, "{answer}");
    for id in [&ids[2], &ids[3], &good_id] {
        assert_eq!(answer["pdus"][id], json!({}), "{answer}");
    }
    assert!(answer["pdus"].get(&ids[0]).is_none(), "{answer}");
    let timeline = scene.timeline().await;
    let stored = crate::api::chat::ids(&timeline);
    assert!(stored.contains(&ids[2].as_str()) && stored.contains(&good_id.as_str()));
    assert!(!stored.contains(&ids[1].as_str()));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_transaction_has_a_short_id(pool: PgPool) {
    let scene = Scene::new(pool).await;

    let (status, body) = scene.send(&"x".repeat(256), vec![], vec![]).await;

    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_INVALID_PARAM");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_transaction_has_a_bounded_size(pool: PgPool) {
    let scene = Scene::new(pool).await;

    let (events, _) = scene.send("1", vec![json!({}); 51], vec![]).await;
    let (others, body) = scene.send("2", vec![], vec![json!({}); 101]).await;

    assert_eq!(events, StatusCode::BAD_REQUEST);
    assert_eq!(others, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_TOO_LARGE");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_server_cannot_send_for_another(pool: PgPool) {
    let scene = Scene::new(pool.clone()).await;
    let other = Peer {
        name: ruma::server_name!("other.example").to_owned(),
        ..Peer::known(&pool, &scene.server, "other.example").await
    };
    let body = json!({ "origin": "peer.example", "origin_server_ts": 1, "pdus": [] });

    let (status, body) = other
        .send(
            &scene.server,
            http::Method::PUT,
            "/_matrix/federation/v1/send/1",
            body,
        )
        .await;

    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_server_speaks_for_its_own_users_only(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let typing = |user_id: &str| {
        json!({ "edu_type": "m.typing", "content": {
            "room_id": scene.joined.room_id, "user_id": user_id, "typing": true,
        }})
    };
    let unknown = json!({ "edu_type": "x.tea", "content": { "cups": 2 } });

    let edus = vec![
        unknown,
        typing(&scene.alice.id),
        typing("@nobody:peer.example"),
        typing(&scene.joined.user_id),
    ];
    let (status, _) = scene.send("1", vec![], edus).await;

    assert_eq!(status, StatusCode::OK);
    let (_, response) = scene.server.get(&scene.alice, "/sync").await;
    let events = &response["rooms"]["join"][&scene.joined.room_id]["ephemeral"]["events"];
    let typing = events.as_array().unwrap();
    let typing: Vec<&Value> = typing
        .iter()
        .filter(|event| event["type"] == "m.typing")
        .collect();
    assert_eq!(typing.len(), 1);
    assert_eq!(
        typing[0]["content"]["user_ids"],
        json!([scene.joined.user_id])
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_message_to_devices_arrives_once(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let message = json!({ "edu_type": "m.direct_to_device", "content": {
        "sender": scene.joined.user_id, "type": "x.tea", "message_id": "m1",
        "messages": { (scene.alice.id.as_str()): { "*": { "cups": 2 } } },
    }});

    scene.send("1", vec![], vec![message.clone()]).await;
    scene.send("2", vec![], vec![message]).await;

    let (_, response) = scene.server.get(&scene.alice, "/sync").await;
    let events = response["to_device"]["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["content"], json!({ "cups": 2 }));
    assert_eq!(events[0]["sender"], scene.joined.user_id);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_server_that_a_room_excludes_is_not_heard(pool: PgPool) {
    let scene = Scene::new(pool).await;
    let path = format!("/rooms/{}/state/m.room.server_acl", scene.joined.room_id);
    let acl = json!({ "allow": ["*"], "deny": ["peer.example"] });
    scene.server.put(&scene.alice, &path, acl).await;
    let (event_id, event) = scene.peer.message(&scene.joined, "hello");
    let typing = json!({ "edu_type": "m.typing", "content": {
        "room_id": scene.joined.room_id, "user_id": scene.joined.user_id, "typing": true,
    }});

    let (status, answer) = scene.send("1", vec![event], vec![typing]).await;

    assert_eq!(status, StatusCode::OK);
    assert!(answer["pdus"][&event_id]["error"].is_string(), "{answer}");
    let (_, response) = scene.server.get(&scene.alice, "/sync").await;
    let events = &response["rooms"]["join"][&scene.joined.room_id]["ephemeral"]["events"];
    let types = |event: &Value| event["content"]["user_ids"] == json!([scene.joined.user_id]);
    assert!(!events.as_array().into_iter().flatten().any(types));
    let uri = format!("/_matrix/federation/v1/event/{}", scene.joined.join);
    assert_eq!(
        scene.peer.get(&scene.server, &uri).await.0,
        StatusCode::FORBIDDEN
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn state_of_a_branch_that_ended_long_ago_is_told_with_the_newest_messages(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let body = json!({
        "preset": "public_chat",
        "power_level_content_override": { "events": { "m.room.name": 0 } },
    });
    let room = server.create_room(&alice, body).await;
    let peer = Peer::known(&pool, &server, "peer.example").await;
    let joined = peer.join(&server, &room, "bob").await;
    let name = json!({
        "type": "m.room.name", "state_key": "", "content": { "name": "Tea" }, "depth": joined.depth + 1,
    });
    let (named, name) = peer.event(&joined, name);
    server.say(&alice, &room, "one").await;
    let two = server.say(&alice, &room, "two").await;

    let (_, taken) = peer.transact(&server, "1", (vec![name], vec![])).await;
    assert_eq!(taken["pdus"][&named], json!({}));
    server.send_event(&alice, &room, "x.merge", json!({})).await;

    let filter = filter(&json!({
        "room": { "timeline": { "limit": 1, "not_types": ["x.merge"] } },
    }));
    let response = server.sync_with(&alice, &filter).await;
    let response = &response["rooms"]["join"][&room];
    assert_eq!(ids(&response["timeline"]["events"]), [two.as_str()]);
    assert!(ids(&response["state"]["events"]).contains(&named.as_str()));
    // Nothing is lost and nothing comes twice on the way back.
    let from = response["timeline"]["prev_batch"].as_str().unwrap();
    let query = format!("dir=b&limit=50&from={from}");
    let (_, page) = server.messages(&alice, &room, &query).await;
    assert_eq!(page["chunk"][0]["event_id"], named);
    assert_eq!(page["chunk"][1]["content"]["body"], "one");
}

/// Whoever holds a room's row keeps everybody from writing into it.
#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_transaction_that_cannot_be_written_comes_again(pool: PgPool) {
    let scene = Scene::new(pool.clone()).await;
    let (event_id, event) = scene.peer.message(&scene.joined, "later");
    let mut holding = pool.begin().await.unwrap();
    sqlx::query("SELECT nid FROM room WHERE room_id = $1 FOR UPDATE")
        .bind(&scene.joined.room_id)
        .execute(&mut *holding)
        .await
        .unwrap();

    let (status, body) = scene.send("1", vec![event.clone()], vec![]).await;
    assert!(status.is_server_error(), "{status} {body}");
    holding.rollback().await.unwrap();
    let (status, body) = scene.send("1", vec![event], vec![]).await;

    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body, json!({ "pdus": { (event_id.as_str()): {} } }));
    assert!(ids(&scene.timeline().await).contains(&event_id.as_str()));
}
