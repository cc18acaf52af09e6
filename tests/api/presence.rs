//! `/presence/{userId}/status`, `/rooms/{roomId}/typing/{userId}`

use std::time::Duration;

use http::StatusCode;
use ruma::{RoomId, UserId};
use serde_json::json;
use sqlx::PgPool;

use super::server::TestServer;

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn presence_is_for_those_who_share_a_room(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let path = format!("/presence/{}/status", alice.id);
    assert_eq!(server.get(&alice, &path).await.1["presence"], "offline");
    let here = json!({ "presence": "online", "status_msg": "here" });
    assert_eq!(server.put(&alice, &path, here).await.0, StatusCode::OK);

    let (status, body) = server.get(&bob, &path).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body["errcode"], "M_FORBIDDEN");
    let unknown = server.get(&bob, "/presence/@none:example.org/status").await;
    assert_eq!(unknown.0, StatusCode::FORBIDDEN);

    let preset = json!({ "preset": "public_chat" });
    let room = server.create_room(&alice, preset).await;
    server
        .post(&bob, &format!("/rooms/{room}/join"), json!({}))
        .await;
    let (_, body) = server.get(&bob, &path).await;
    assert_eq!(body["presence"], "online");
    assert_eq!(body["status_msg"], "here");
    assert_eq!(body["currently_active"], true);

    server.advance(Duration::from_mins(2));
    let (_, body) = server.get(&bob, &path).await;
    assert_eq!(body["presence"], "offline");
    assert_eq!(body["last_active_ago"], 120_000);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn presence_is_set_by_its_user_only(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let path = format!("/presence/{}/status", alice.id);

    let online = json!({ "presence": "online" });
    assert_eq!(
        server.put(&bob, &path, online).await.0,
        StatusCode::FORBIDDEN
    );
    let (status, body) = server.put(&alice, &path, json!({ "presence": "x" })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_INVALID_PARAM");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn members_type_in_their_own_name(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room_id = server.create_room(&alice, json!({})).await;
    let path = |user: &str| format!("/rooms/{room_id}/typing/{user}");
    let typing = json!({ "typing": true, "timeout": 10_000 });

    for (user, path) in [(&bob, path(&bob.id)), (&alice, path(&bob.id))] {
        let (status, body) = server.put(user, &path, typing.clone()).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(body["errcode"], "M_FORBIDDEN");
    }
    let state = &server.state;
    let room = state.rooms.find(&RoomId::parse(&room_id).unwrap()).await;
    let room = room.unwrap().unwrap().nid;
    let user = state
        .interner
        .user(&UserId::parse(&alice.id).unwrap())
        .await;
    for (body, expected) in [
        (typing, vec![user.unwrap()]),
        (json!({ "typing": false }), Vec::new()),
    ] {
        let (status, _) = server.put(&alice, &path(&alice.id), body).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(state.typing.in_room(room), expected);
    }
    let (status, _) = server
        .put(&alice, &path(&alice.id), json!({ "typing": true }))
        .await;
    assert_eq!(status, StatusCode::OK);
    let (status, body) = server.put(&alice, &path(&alice.id), json!({})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_BAD_JSON");
}
