//! `/pushers`, `/pushers/set`

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{Answer, PASSWORD, TestServer, User};

fn pusher(pushkey: &str) -> Value {
    json!({
        "kind": "http",
        "app_id": "com.example.app",
        "pushkey": pushkey,
        "app_display_name": "App",
        "device_display_name": "Phone",
        "profile_tag": "tag",
        "lang": "en",
        "data": {
            "url": "https://push.example.com/_matrix/push/v1/notify",
            "format": "event_id_only",
            "custom": true,
        },
    })
}

/// A pusher with one field changed.
fn with(field: &str, value: impl Into<Value>) -> Value {
    let mut pusher = pusher("key");
    pusher[field] = value.into();
    pusher
}

async fn set(server: &TestServer, user: &User, body: Value) -> Answer {
    server.post(user, "/pushers/set", body).await
}

async fn set_well(server: &TestServer, user: &User, body: Value) {
    let (status, body) = set(server, user, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body, json!({}));
}

/// The pushkeys of a user's pushers.
async fn keys(server: &TestServer, user: &User) -> Vec<String> {
    let (status, body) = server.get(user, "/pushers").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let pushers = body["pushers"].as_array().unwrap();
    let keys = pushers.iter().map(|pusher| pusher["pushkey"].as_str());
    keys.map(|key| key.unwrap().to_owned()).collect()
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_pusher_is_set_changed_and_deleted(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;

    set_well(&server, &alice, pusher("key")).await;
    let (_, body) = server.get(&alice, "/pushers").await;
    assert_eq!(body, json!({ "pushers": [pusher("key")] }));

    set_well(&server, &alice, with("lang", "de")).await;
    let (_, body) = server.get(&alice, "/pushers").await;
    assert_eq!(body, json!({ "pushers": [with("lang", "de")] }));

    let gone = json!({ "kind": null, "app_id": "com.example.app", "pushkey": "key" });
    set_well(&server, &alice, gone.clone()).await;
    assert!(keys(&server, &alice).await.is_empty());
    set_well(&server, &alice, gone).await;
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_device_changes_hands_unless_it_is_shared(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let carol = server.register("carol").await;

    set_well(&server, &alice, pusher("key")).await;
    set_well(&server, &bob, with("append", true)).await;
    assert_eq!(keys(&server, &alice).await, ["key"]);
    assert_eq!(keys(&server, &bob).await, ["key"]);

    set_well(&server, &carol, with("append", false)).await;

    assert!(keys(&server, &alice).await.is_empty());
    assert!(keys(&server, &bob).await.is_empty());
    assert_eq!(keys(&server, &carol).await, ["key"]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn what_is_wrong_with_a_pusher_is_told(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let url = |url: &str| with("data", json!({ "url": url }));

    for wrong in [
        with("pushkey", "x".repeat(513)),
        with("pushkey", ""),
        with("pushkey", "a\0b"),
        with("app_id", "x".repeat(65)),
        with("lang", "x".repeat(1_000)),
        with("kind", "email"),
        with("kind", "smoke"),
        with(
            "data",
            json!({ "url": "https://a.example/_matrix/push/v1/notify", "more": "x".repeat(9_000) }),
        ),
        url("http://push.example.com/_matrix/push/v1/notify"),
        url("ftp://push.example.com/_matrix/push/v1/notify"),
        url("https://push.example.com/other"),
        url("https:///_matrix/push/v1/notify"),
        url("https://user@push.example.com/_matrix/push/v1/notify"),
        url("https://push.example.com/_matrix/push/v1/notify#x"),
        url("push.example.com"),
    ] {
        let (status, body) = set(&server, &alice, wrong.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
        assert_eq!(body["errcode"], "M_INVALID_PARAM", "{wrong}");
    }
    for missing in ["kind", "lang", "data", "app_id", "app_display_name"] {
        let mut wrong = pusher("key");
        wrong.as_object_mut().unwrap().remove(missing);
        let (status, body) = set(&server, &alice, wrong).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{missing} {body}");
    }
    assert!(keys(&server, &alice).await.is_empty());
    set_well(&server, &alice, with("pushkey", "x".repeat(512))).await;
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_user_has_a_bounded_number_of_pushers(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    for number in 0..50 {
        set_well(&server, &alice, pusher(&number.to_string())).await;
    }

    let (status, body) = set(&server, &alice, pusher("one more")).await;

    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    set_well(&server, &alice, pusher("7")).await;
    assert_eq!(keys(&server, &alice).await.len(), 50);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_pusher_goes_with_its_device(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let (phone, tablet) = (server.log_in("alice").await, server.log_in("alice").await);
    set_well(&server, &alice, pusher("laptop")).await;
    set_well(&server, &phone, pusher("phone")).await;
    set_well(&server, &tablet, pusher("tablet")).await;

    assert_eq!(server.post(&phone, "/logout", json!({})).await.0, 200);
    assert_eq!(keys(&server, &alice).await, ["laptop", "tablet"]);

    let path = format!("/devices/{}", tablet.device);
    let body = json!({ "auth": alice.auth() });
    assert_eq!(server.delete(&alice, &path, body).await.0, 200);
    assert_eq!(keys(&server, &alice).await, ["laptop"]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_new_password_leaves_the_pushers_of_the_own_session(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let phone = server.log_in("alice").await;
    set_well(&server, &alice, pusher("laptop")).await;
    set_well(&server, &phone, pusher("phone")).await;
    let change = |logout: bool| {
        json!({
            "auth": alice.auth(),
            "new_password": PASSWORD,
            "logout_devices": logout,
        })
    };

    server
        .post(&alice, "/account/password", change(false))
        .await;
    assert_eq!(keys(&server, &alice).await, ["laptop", "phone"]);
    server.post(&alice, "/account/password", change(true)).await;
    assert_eq!(keys(&server, &alice).await, ["laptop"]);

    let body = json!({ "auth": alice.auth() });
    let (status, body) = server.post(&alice, "/account/deactivate", body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pusher")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(left, 0);
}
