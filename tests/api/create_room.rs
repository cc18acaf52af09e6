//! `POST /createRoom`

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{TestServer, User};

/// The content of a state event of a room.
async fn state(server: &TestServer, user: &User, room: &str, kind: &str) -> Value {
    let (status, body) = server
        .get(user, &format!("/rooms/{room}/state/{kind}"))
        .await;
    assert_eq!(status, StatusCode::OK, "{kind}: {body}");
    body
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_room_has_what_was_asked_for(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;

    let body = json!({
        "name": "Tea", "topic": "Leaves", "preset": "public_chat", "room_alias_name": "tea",
        "creation_content": { "m.federate": false },
        "initial_state": [
            { "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } },
            { "type": "org.example", "state_key": "k", "content": { "a": 1 } },
        ],
        "power_level_content_override": { "events_default": 7 },
    });
    let room = server.create_room(&alice, body).await;

    assert_eq!(
        state(&server, &alice, &room, "m.room.name").await["name"],
        "Tea"
    );
    assert_eq!(
        state(&server, &alice, &room, "m.room.topic").await["topic"],
        "Leaves"
    );
    assert_eq!(
        state(&server, &alice, &room, "m.room.join_rules").await["join_rule"],
        "public"
    );
    let alias = state(&server, &alice, &room, "m.room.canonical_alias").await;
    assert_eq!(alias["alias"], "#tea:example.org");
    let visibility = state(&server, &alice, &room, "m.room.history_visibility").await;
    assert_eq!(visibility["history_visibility"], "joined");
    assert_eq!(state(&server, &alice, &room, "org.example/k").await["a"], 1);
    assert_eq!(
        state(&server, &alice, &room, "m.room.power_levels").await["events_default"],
        7
    );
    assert_eq!(
        state(&server, &alice, &room, "m.room.create").await["m.federate"],
        false
    );
    let (status, found) = server
        .get(&alice, "/directory/room/%23tea:example.org")
        .await;
    assert_eq!((status, &found["room_id"]), (StatusCode::OK, &json!(room)));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn every_supported_version_can_be_made(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;

    for version in ["2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"] {
        let room = server
            .create_room(&alice, json!({ "room_version": version }))
            .await;

        let create = state(&server, &alice, &room, "m.room.create").await;
        assert_eq!(create["room_version"], version);
        assert_eq!(room.contains(':'), version != "12", "{room}");
        let path = format!("/rooms/{room}/send/m.room.message/1");
        let (status, body) = server.put(&alice, &path, json!({ "body": "x" })).await;
        assert_eq!(status, StatusCode::OK, "{version}: {body}");
        let id = body["event_id"].as_str().unwrap();
        assert_eq!(id.contains(':'), version == "2", "{id}");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn rooms_of_old_work_as_others_do(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let body = json!({ "room_version": "2", "preset": "public_chat" });
    let room = server.create_room(&alice, body).await;
    server.join(&bob, &room).await;
    let said = server.say(&bob, &room, "tea").await;

    let path = format!("/rooms/{room}/redact/{}/1", super::chat::encode(&said));
    let (status, body) = server.put(&alice, &path, json!({})).await;

    assert_eq!(status, StatusCode::OK, "{body}");
    let (_, page) = server.messages(&bob, &room, "dir=b&limit=2").await;
    let (redaction, message) = (&page["chunk"][0], &page["chunk"][1]);
    assert_eq!(redaction["redacts"], said);
    assert_eq!(message["content"], json!({}));
    let name = server.set_state(&alice, &room, "m.room.name", json!({ "name": "Tea" }));
    name.await;
    assert_eq!(
        state(&server, &bob, &room, "m.room.name").await["name"],
        "Tea"
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_unknown_version_is_refused(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;

    let body = json!({ "room_version": "nonsense" });
    let (status, body) = server.post(&alice, "/createRoom", body).await;

    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_UNSUPPORTED_ROOM_VERSION");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_taken_alias_is_refused(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    server
        .create_room(&alice, json!({ "room_alias_name": "tea" }))
        .await;

    let body = json!({ "room_alias_name": "tea" });
    let (status, body) = server.post(&alice, "/createRoom", body).await;

    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_ROOM_IN_USE");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_contradiction_is_refused_and_leaves_nothing(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;

    let body = json!({
        "room_alias_name": "tea",
        "power_level_content_override": { "users": { "@alice:example.org": 0 } },
        "name": "nobody may set this",
        "room_version": "11",
    });
    let (status, body) = server.post(&alice, "/createRoom", body).await;

    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_INVALID_ROOM_STATE");
    let (_, joined) = server.get(&alice, "/joined_rooms").await;
    assert_eq!(joined["joined_rooms"], json!([]));
    let (status, _) = server
        .get(&alice, "/directory/room/%23tea:example.org")
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn those_who_are_invited_to_a_trusted_chat_have_the_same_power(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;

    for version in ["11", "12"] {
        let body = json!({
            "preset": "trusted_private_chat", "invite": [bob.id], "room_version": version,
        });
        let room = server.create_room(&alice, body).await;
        server
            .post(&bob, &format!("/rooms/{room}/join"), json!({}))
            .await;

        let path = format!("/rooms/{room}/state/m.room.name");
        let (status, body) = server.put(&bob, &path, json!({ "name": "ours" })).await;
        assert_eq!(status, StatusCode::OK, "{version}: {body}");
    }
}
