//! Text with null characters, which no column of the database can hold, is refused or kept, and never breaks the server.

use http::{Method, StatusCode};
use serde_json::json;
use sqlx::PgPool;

use super::server::{PASSWORD, TestServer, login};

const NULL: &str = "a\u{0}b";

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_address_has_none(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let event = format!("/rooms/{room}/event/$a%00b");

    for path in [
        "/profile/@alice:example.org/a%00b",
        &event,
        "/user/@alice:example.org/account_data/a%00b",
    ] {
        let (status, body) = server.get(&alice, path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(body["errcode"], "M_INVALID_PARAM", "{path}");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn no_body_breaks_the_server(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let own = "/user/@alice:example.org";
    let mut broken = Vec::new();

    for (method, path, body) in [
        (Method::POST, "/login", login(NULL)),
        (
            Method::PUT,
            "/profile/@alice:example.org/displayname",
            json!({ "displayname": NULL }),
        ),
        (
            Method::PUT,
            "/profile/@alice:example.org/org.example.x",
            json!({ "org.example.x": NULL }),
        ),
        (
            Method::POST,
            "/createRoom",
            json!({ "name": NULL, "topic": NULL }),
        ),
        (
            Method::POST,
            "/createRoom",
            json!({ "room_alias_name": NULL }),
        ),
        (
            Method::POST,
            "/createRoom",
            json!({ "initial_state": [{ "type": NULL, "content": {} }] }),
        ),
        (
            Method::POST,
            "/createRoom",
            json!({ "initial_state": [{ "type": "x", "state_key": NULL, "content": {} }] }),
        ),
        (
            Method::PUT,
            &format!("/rooms/{room}/send/m.room.message/2"),
            json!({ "m.relates_to": { "rel_type": NULL, "event_id": NULL } }),
        ),
        (
            Method::PUT,
            &format!("/rooms/{room}/send/m.room.message/1"),
            json!({ "msgtype": "m.text", "body": NULL }),
        ),
        (
            Method::PUT,
            &format!("/rooms/{room}/state/m.room.member/@alice:example.org"),
            json!({ "membership": "join", "displayname": NULL, "avatar_url": NULL }),
        ),
        (
            Method::PUT,
            &format!("/rooms/{room}/state/m.room.canonical_alias"),
            json!({ "alias": NULL }),
        ),
        (
            Method::POST,
            &format!("/rooms/{room}/report"),
            json!({ "reason": NULL }),
        ),
        (
            Method::POST,
            &format!("/rooms/{room}/kick"),
            json!({ "user_id": "@bob:example.org", "reason": NULL }),
        ),
        (
            Method::POST,
            &format!("/rooms/{room}/read_markers"),
            json!({ "m.fully_read": NULL, "m.read": NULL }),
        ),
        (
            Method::PUT,
            &format!("{own}/account_data/x.y"),
            json!({ "text": NULL }),
        ),
        (
            Method::PUT,
            &format!("{own}/rooms/{room}/tags/x"),
            json!({ "order": NULL }),
        ),
        (
            Method::POST,
            &format!("{own}/filter"),
            json!({ "room": { "rooms": [NULL], "timeline": { "types": [NULL] } } }),
        ),
        (
            Method::PUT,
            "/presence/@alice:example.org/status",
            json!({ "presence": "online", "status_msg": NULL }),
        ),
        (
            Method::PUT,
            "/sendToDevice/x/1",
            json!({ "messages": { "@alice:example.org": { NULL: { "text": NULL } } } }),
        ),
        (
            Method::PUT,
            "/sendToDevice/x/2",
            json!({ "messages": { "@alice:example.org": { "*": { "text": NULL } } } }),
        ),
        (
            Method::POST,
            "/user_directory/search",
            json!({ "search_term": NULL }),
        ),
        (
            Method::POST,
            "/publicRooms",
            json!({ "filter": { "generic_search_term": NULL }, "since": NULL }),
        ),
        (
            Method::PUT,
            &format!("/devices/{}", alice.device),
            json!({ "display_name": NULL }),
        ),
        (
            Method::PUT,
            "/pushrules/global/content/x",
            json!({ "pattern": NULL, "actions": ["notify"] }),
        ),
        (Method::POST, "/refresh", json!({ "refresh_token": NULL })),
        (
            Method::POST,
            "/register",
            json!({ "username": NULL, "password": PASSWORD, "auth": { "type": "m.login.dummy" } }),
        ),
    ] {
        let token = Some(&*alice.token);
        let (status, answer) = server.send(method, path, token, body).await;
        if status.is_server_error() {
            broken.push(format!("{path}: {answer}"));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    // And goes on.
    server.say(&alice, &room, "tea").await;
    let (status, _) = server.get(&alice, "/sync").await;
    assert_eq!(status, StatusCode::OK);
}
