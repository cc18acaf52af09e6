//! `/_synapse/admin/v1/send_server_notice`

use hearth_core::config::{Config, Limits, Registration, ServerNotices};
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{TestServer, User};

const PATH: &str = "/_synapse/admin/v1/send_server_notice";

async fn server(pool: PgPool) -> TestServer {
    let config = Config {
        server_name: ruma::server_name!("example.org").to_owned(),
        registration: Registration {
            enabled: true,
            ..Registration::default()
        },
        limits: Limits {
            rate_limit: false,
            ..Limits::default()
        },
        server_notices: Some(ServerNotices {
            localpart: "_server".to_owned(),
            display_name: "The server".to_owned(),
            room_name: "Notices".to_owned(),
        }),
        ..Config::default()
    };
    TestServer::with_config(pool, config).await
}

fn notice(user: &User) -> Value {
    json!({ "user_id": user.id, "content": { "msgtype": "m.text", "body": "mind the gap" } })
}

/// The one room to which a user is invited, and what its invite says.
async fn invite(server: &TestServer, user: &User) -> (String, Value) {
    let answer = server.sync_with(user, "").await;
    let rooms = answer["rooms"]["invite"].as_object().unwrap();
    assert_eq!(rooms.len(), 1, "{answer}");
    let (room, invite) = rooms.iter().next().unwrap();
    (room.clone(), invite["invite_state"]["events"].clone())
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_notice_comes_in_a_room_that_is_left_only_after_a_look(pool: PgPool) {
    let server = server(pool).await;
    let (root, alice) = (
        server.register_admin("root").await,
        server.register("alice").await,
    );

    let (status, sent) = server.post(&root, PATH, notice(&alice)).await;

    assert_eq!(status, StatusCode::OK, "{sent}");
    let (room, state) = invite(&server, &alice).await;
    assert!(state.as_array().unwrap().iter().any(|event| {
        event["sender"] == "@_server:example.org" && event["state_key"] == alice.id.as_str()
    }));
    let tags = format!("/user/{}/rooms/{room}/tags", alice.id);
    let (_, tags) = server.get(&alice, &tags).await;
    assert_eq!(tags["tags"], json!({ "m.server_notice": {} }));

    let leave = format!("/rooms/{room}/leave");
    let (status, refusal) = server.post(&alice, &leave, json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(refusal["errcode"], "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM");

    server.join(&alice, &room).await;
    let answer = server.sync_with(&alice, "").await;
    let timeline = &answer["rooms"]["join"][&room]["timeline"]["events"];
    let timeline = timeline.as_array().unwrap();
    assert!(
        timeline
            .iter()
            .any(|event| event["event_id"] == sent["event_id"])
    );
    let say = format!("/rooms/{room}/send/m.room.message/1");
    let said = server.put(&alice, &say, json!({ "body": "?" })).await;
    assert_eq!(said.0, StatusCode::FORBIDDEN);
    assert_eq!(
        server.post(&alice, &leave, json!({})).await.0,
        StatusCode::OK
    );

    server.post(&root, PATH, notice(&alice)).await;
    assert_eq!(invite(&server, &alice).await.0, room);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_repeated_notice_is_one_notice(pool: PgPool) {
    let server = server(pool).await;
    let (root, alice) = (
        server.register_admin("root").await,
        server.register("alice").await,
    );
    let path = format!("{PATH}/1");

    let (_, first) = server.put(&root, &path, notice(&alice)).await;
    let (_, second) = server.put(&root, &path, notice(&alice)).await;

    assert!(first["event_id"].is_string(), "{first}");
    assert_eq!(first["event_id"], second["event_id"]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn only_administrators_speak_for_the_server(pool: PgPool) {
    let server = server(pool).await;
    let (root, alice) = (
        server.register_admin("root").await,
        server.register("alice").await,
    );

    let refused = server.post(&alice, PATH, notice(&alice)).await;
    let mut nobody = alice.clone();
    nobody.id = "@nobody:example.org".to_owned();
    let unknown = server.post(&root, PATH, notice(&nobody)).await;
    let name = "/_matrix/client/v3/register/available?username=_server";
    let (status, taken) = server.get_anonymously(name).await;

    assert_eq!(refused.0, StatusCode::FORBIDDEN);
    assert_eq!(unknown.0, StatusCode::NOT_FOUND);
    assert_eq!(
        (status, &taken["errcode"]),
        (StatusCode::BAD_REQUEST, &json!("M_USER_IN_USE"))
    );
}
