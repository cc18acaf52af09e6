//! Guests: `/register?kind=guest`, what they may do, and becoming a user

use std::time::Duration;

use hearth_core::config::{Config, Limits, Registration};
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{PASSWORD, TestServer, User};

const OK: StatusCode = StatusCode::OK;
const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;
const REGISTER: &str = "/register?kind=guest";

async fn server(pool: PgPool) -> TestServer {
    let config = Config {
        server_name: ruma::server_name!("example.org").to_owned(),
        registration: Registration {
            enabled: true,
            guests: true,
            ..Registration::default()
        },
        limits: Limits {
            rate_limit: false,
            ..Limits::default()
        },
        ..Config::default()
    };
    TestServer::with_config(pool, config).await
}

async fn guest(server: &TestServer) -> User {
    let body = json!({ "initial_device_display_name": "browser", "device_id": "IGNORED" });
    let (status, body) = server.post_anonymously(REGISTER, body).await;
    assert_eq!(status, OK, "{body}");
    User::from_answer(&body)
}

/// A room that guests may join.
async fn open_room(server: &TestServer, user: &User) -> String {
    let body = json!({
        "preset": "public_chat",
        "initial_state": [
            { "type": "m.room.guest_access", "content": { "guest_access": "can_join" } },
        ],
    });
    server.create_room(user, body).await
}

async fn membership(server: &TestServer, user: &User, room: &str, of: &User) -> Value {
    let path = format!("/rooms/{room}/state/m.room.member/{}", of.id);
    server.get(user, &path).await.1["membership"].clone()
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn guests_are_admitted_only_if_the_operator_wants_them(pool: PgPool) {
    let server = TestServer::new(pool).await;

    let (status, body) = server.post_anonymously(REGISTER, json!({})).await;

    assert_eq!(status, FORBIDDEN);
    assert_eq!(body["errcode"], "M_GUEST_ACCESS_FORBIDDEN");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_guest_chats_where_guests_may_join_and_does_nothing_else(pool: PgPool) {
    let server = server(pool).await;
    let alice = server.register("alice").await;
    let guest = guest(&server).await;
    assert_ne!(guest.device, "IGNORED");
    let (_, who) = server.get(&guest, "/account/whoami").await;
    assert_eq!(who["is_guest"], true);

    let closed = server
        .create_room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let (status, body) = server
        .post(&guest, &format!("/rooms/{closed}/join"), json!({}))
        .await;
    assert_eq!(
        (status, &body["errcode"]),
        (FORBIDDEN, &json!("M_GUEST_ACCESS_FORBIDDEN"))
    );

    let room = open_room(&server, &alice).await;
    let join = format!("/rooms/{room}/join");
    assert_eq!(server.post(&guest, &join, json!({})).await.0, OK);
    let message = json!({ "msgtype": "m.text", "body": "hello" });
    server
        .send_event(&guest, &room, "m.room.message", message)
        .await;
    assert_eq!(server.get(&guest, "/sync?timeout=0").await.0, OK);

    for (path, body) in [
        ("/createRoom".to_owned(), json!({})),
        (
            format!("/rooms/{room}/invite"),
            json!({ "user_id": alice.id }),
        ),
        ("/account/password".to_owned(), json!({})),
    ] {
        let (status, body) = server.post(&guest, &path, body).await;
        assert_eq!(status, FORBIDDEN, "{path}");
        assert_eq!(body["errcode"], "M_GUEST_ACCESS_FORBIDDEN", "{path}");
    }
    let name = format!("/profile/{}/displayname", guest.id);
    let body = json!({ "displayname": "Visitor" });
    assert_eq!(server.put(&guest, &name, body).await.0, OK);
    let avatar = format!("/profile/{}/avatar_url", guest.id);
    let body = json!({ "avatar_url": "mxc://a/b" });
    assert_eq!(server.put(&guest, &avatar, body).await.0, FORBIDDEN);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn guests_leave_when_the_room_closes_to_them(pool: PgPool) {
    let server = server(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let guest = guest(&server).await;
    let room = open_room(&server, &alice).await;
    let join = format!("/rooms/{room}/join");
    for user in [&bob, &guest] {
        assert_eq!(server.post(user, &join, json!({})).await.0, OK);
    }

    let path = format!("/rooms/{room}/state/m.room.guest_access");
    let body = json!({ "guest_access": "forbidden" });
    assert_eq!(server.put(&alice, &path, body).await.0, OK);

    let gone = async {
        while membership(&server, &alice, &room, &guest).await != "leave" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("the guest leaves");
    assert_eq!(membership(&server, &alice, &room, &bob).await, "join");
    assert_eq!(server.post(&guest, &join, json!({})).await.0, FORBIDDEN);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_guest_becomes_a_user(pool: PgPool) {
    let server = server(pool).await;
    let guest = guest(&server).await;
    let localpart = guest.id[1..].split(':').next().unwrap();
    let body = |username: &str| {
        json!({
            "username": username,
            "password": PASSWORD,
            "guest_access_token": guest.token,
            "auth": { "type": "m.login.dummy" },
        })
    };

    let (status, _) = server.post_anonymously("/register", body("other")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, answer) = server.post_anonymously("/register", body(localpart)).await;

    assert_eq!(status, OK, "{answer}");
    assert_eq!(answer["user_id"], guest.id);
    let (_, who) = server.get(&guest, "/account/whoami").await;
    assert_ne!(who["is_guest"], true);
    let user = server.log_in(localpart).await;
    server.create_room(&user, json!({})).await;
}
