//! `m.invite_permission_config`: users who take no invites.

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{TestServer, User};

/// Says whether a user takes invites.
async fn set_action(server: &TestServer, user: &User, content: Value) {
    let kind = "m.invite_permission_config";
    let path = format!("/user/{}/account_data/{kind}", user.id);
    assert_eq!(server.put(user, &path, content).await.0, StatusCode::OK);
}

/// The rooms that the user's client shows invites to.
async fn invites(server: &TestServer, user: &User) -> Vec<String> {
    let (_, body) = server.get(user, "/sync?timeout=0").await;
    let invites = body["rooms"]["invite"].as_object().cloned();
    invites.unwrap_or_default().keys().cloned().collect()
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_takes_no_invites_gets_none_in_any_way(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_room(&alice, json!({})).await;
    set_action(&server, &bob, json!({ "default_action": "block" })).await;

    let member = format!("/rooms/{room}/state/m.room.member/{}", bob.id);
    for (status, body) in [
        server
            .post(
                &alice,
                &format!("/rooms/{room}/invite"),
                json!({ "user_id": bob.id }),
            )
            .await,
        server
            .put(&alice, &member, json!({ "membership": "invite" }))
            .await,
        server
            .post(&alice, "/createRoom", json!({ "invite": [bob.id] }))
            .await,
    ] {
        assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
        assert_eq!(body["errcode"], "M_INVITE_BLOCKED");
    }
    assert_eq!(server.get(&alice, &member).await.0, StatusCode::NOT_FOUND);
    let (_, joined) = server.get(&alice, "/joined_rooms").await;
    assert_eq!(joined, json!({ "joined_rooms": [room] }));

    set_action(&server, &bob, json!({})).await;
    let (status, _) = server
        .put(&alice, &member, json!({ "membership": "invite" }))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(invites(&server, &bob).await, [room]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn earlier_invites_are_hidden_while_there_shall_be_none(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server
        .create_room(&alice, json!({ "invite": [bob.id] }))
        .await;
    assert_eq!(invites(&server, &bob).await, std::slice::from_ref(&room));

    set_action(&server, &bob, json!({ "default_action": "block" })).await;
    assert_eq!(invites(&server, &bob).await, Vec::<String>::new());
    let (_, body) = server.get(&bob, "/initialSync").await;
    assert_eq!(body["rooms"], json!([]));

    set_action(&server, &bob, json!({ "default_action": "something new" })).await;
    assert_eq!(invites(&server, &bob).await, [room]);
}
