//! `/devices` and `/delete_devices`

use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use super::server::TestServer;

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_device_can_be_renamed(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let path = format!("/devices/{}", alice.device);
    let before = server.state.journal.head();

    let name = json!({ "display_name": "my phone" });
    assert_eq!(server.put(&alice, &path, name).await.0, StatusCode::OK);

    let (_, body) = server.get(&alice, &path).await;
    assert_eq!(body["device_id"], alice.device);
    assert_eq!(body["display_name"], "my phone");
    assert!(body["last_seen_ts"].is_number());
    assert!(server.state.journal.head() > before);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_unknown_device_is_not_found(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;

    for (status, body) in [
        server.get(&alice, "/devices/NONE").await,
        server.put(&alice, "/devices/NONE", json!({})).await,
    ] {
        assert_eq!(
            (status, &body["errcode"]),
            (StatusCode::NOT_FOUND, &"M_NOT_FOUND".into())
        );
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn removing_a_device_needs_the_users_own_password(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let other = server.log_in("alice").await;
    let bob = server.register("bob").await;
    let path = format!("/devices/{}", other.device);

    let (status, body) = server.delete(&alice, &path, json!(null)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(body["session"].is_string() && body["flows"].is_array() && body["params"].is_object());
    let (status, _) = server
        .delete(&alice, &path, json!({ "auth": bob.auth() }))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        server.get(&other, "/account/whoami").await.0,
        StatusCode::OK
    );
    let (status, _) = server
        .delete(&alice, &path, json!({ "auth": alice.auth() }))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(server.get(&alice, &path).await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        server.get(&other, "/account/whoami").await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn many_devices_are_removed_at_once(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let (one, two) = (server.log_in("alice").await, server.log_in("alice").await);
    let body = json!({ "devices": [one.device, two.device, "NONE"], "auth": alice.auth() });

    assert_eq!(
        server.post(&alice, "/delete_devices", body).await.0,
        StatusCode::OK
    );

    let (_, body) = server.get(&alice, "/devices").await;
    assert_eq!(body["devices"].as_array().unwrap().len(), 1);
    assert_eq!(body["devices"][0]["device_id"], alice.device);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn it_is_written_down_when_a_device_was_seen(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    server.get(&alice, "/account/whoami").await;

    server.state.sessions.write_seen().await.unwrap();

    let seen: Option<i64> = sqlx::query_scalar("SELECT last_seen_ts FROM device")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(seen, Some(server.state.clock.millis()));
}
