//! `PUT /rooms/{roomId}/send`, `state`, `redact`

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{Answer, TestServer, User};

const OK: StatusCode = StatusCode::OK;

async fn say(server: &TestServer, user: &User, room: &str, txn: &str, body: &str) -> Answer {
    let path = format!("/rooms/{room}/send/m.room.message/{txn}");
    let content = json!({ "msgtype": "m.text", "body": body });
    server.put(user, &path, content).await
}

async fn event(server: &TestServer, user: &User, room: &str, id: &Value) -> Value {
    let path = format!("/rooms/{room}/event/{}", id.as_str().unwrap());
    let (status, event) = server.get(user, &path).await;
    assert_eq!(status, OK, "{event}");
    event
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_repeated_transaction_is_one_event(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let phone = server.log_in("alice").await;
    let room = server.create_public_room(&alice).await;

    let (status, first) = say(&server, &alice, &room, "t", "one").await;
    let (_, again) = say(&server, &alice, &room, "t", "two").await;
    let (_, elsewhere) = say(&server, &phone, &room, "t", "three").await;

    assert_eq!(status, OK);
    assert_eq!(first, again);
    assert_ne!(
        first, elsewhere,
        "another device's transactions are its own"
    );
    let stored = event(&server, &alice, &room, &first["event_id"]).await;
    assert_eq!(stored["content"]["body"], "one");
    assert_eq!(stored["unsigned"]["transaction_id"], "t");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn twenty_who_send_at_once_all_get_through(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let (server, alice, room) = (&server, &alice, room.as_str());

    let sends = (0..200).map(|n| async move {
        let (status, answer) = if n % 10 == 0 {
            let path = format!("/rooms/{room}/state/org.example/{n}");
            server.put(alice, &path, json!({ "n": n })).await
        } else {
            say(server, alice, room, &n.to_string(), "x").await
        };
        assert_eq!(status, OK, "{answer}");
        answer["event_id"].as_str().unwrap().to_owned()
    });
    let ids: std::collections::HashSet<String> = futures_util::future::join_all(sends)
        .await
        .into_iter()
        .collect();

    assert_eq!(ids.len(), 200);
    let (_, page) = server
        .get(alice, &format!("/rooms/{room}/messages?dir=b&limit=500"))
        .await;
    let chunk = page["chunk"].as_array().unwrap();
    let seen = chunk
        .iter()
        .filter(|event| ids.contains(event["event_id"].as_str().unwrap()));
    assert_eq!(seen.count(), 200);
    let (_, state) = server.get(alice, &format!("/rooms/{room}/state")).await;
    let own = state
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["type"] == "org.example");
    assert_eq!(own.count(), 20);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn outsiders_do_not_send(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;

    let (status, body) = say(&server, &bob, &room, "t", "x").await;

    assert_eq!(
        (status, &body["errcode"]),
        (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN"))
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn what_is_no_event_is_refused(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;

    let (status, body) = say(&server, &alice, &room, "big", &"x".repeat(70_000)).await;
    assert_eq!(
        (status, &body["errcode"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("M_TOO_LARGE"))
    );
    let path = format!("/rooms/{room}/send/m.room.message/float");
    let (status, body) = server.put(&alice, &path, json!({ "body": 1.5 })).await;
    assert_eq!(
        (status, &body["errcode"]),
        (StatusCode::BAD_REQUEST, &json!("M_BAD_JSON"))
    );
    let path = format!("/rooms/{room}/state/m.room.canonical_alias");
    let (status, body) = server
        .put(&alice, &path, json!({ "alias": "#no:example.org" }))
        .await;
    assert_eq!(
        (status, &body["errcode"]),
        (StatusCode::BAD_REQUEST, &json!("M_BAD_ALIAS"))
    );
    let (status, body) = server
        .put(&alice, &path, json!({ "alias": "nonsense" }))
        .await;
    assert_eq!(
        (status, &body["errcode"]),
        (StatusCode::BAD_REQUEST, &json!("M_INVALID_PARAM"))
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_redacted_event_loses_its_content(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server
        .post(&bob, &format!("/rooms/{room}/join"), json!({}))
        .await;
    let (_, sent) = say(&server, &alice, &room, "t", "oops").await;
    let id = sent["event_id"].as_str().unwrap();
    let path = format!("/rooms/{room}/redact/{id}/r");

    let (status, _) = server.put(&bob, &path, json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "bob is no moderator");
    let (status, redaction) = server.put(&alice, &path, json!({ "reason": "typo" })).await;
    assert_eq!(status, OK, "{redaction}");
    let (_, again) = server.put(&alice, &path, json!({ "reason": "typo" })).await;
    assert_eq!(again, redaction);

    let stored = event(&server, &bob, &room, &sent["event_id"]).await;
    assert_eq!(stored["content"], json!({}));
    assert_eq!(
        stored["unsigned"]["redacted_because"]["event_id"],
        redaction["event_id"]
    );
    assert_eq!(
        stored["unsigned"]["redacted_because"]["content"]["reason"],
        "typo"
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn state_that_is_set_again_is_the_same_event(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let path = format!("/rooms/{room}/state/m.room.name");

    let (_, first) = server.put(&alice, &path, json!({ "name": "Tea" })).await;
    let (_, again) = server.put(&alice, &path, json!({ "name": "Tea" })).await;
    let (_, other) = server.put(&alice, &path, json!({ "name": "Coffee" })).await;

    assert_eq!(first, again);
    assert_ne!(first, other);
    let stored = event(&server, &alice, &room, &other["event_id"]).await;
    assert_eq!(stored["unsigned"]["prev_content"]["name"], "Tea");
    assert_eq!(stored["unsigned"]["replaces_state"], first["event_id"]);
}
