//! What is refused because there was too much of it.

use hearth_core::config::{Config, Limits, Rate, Registration};
use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use super::server::TestServer;

/// A server that lets a user make two requests of the kind that is limited, and change two events.
async fn strict(pool: PgPool) -> TestServer {
    let config = Config {
        server_name: ruma::server_name!("example.org").to_owned(),
        registration: Registration {
            enabled: true,
            ..Registration::default()
        },
        limits: Limits {
            request: Rate::new(0.001, 2),
            message: Rate::new(0.001, 2),
            ..Limits::default()
        },
        ..Config::default()
    };
    TestServer::with_config(pool, config).await
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn what_the_specification_wants_limited_is_counted_together_for_each_user(pool: PgPool) {
    let server = strict(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let search = json!({ "search_term": "bob" });
    assert_eq!(
        server.get(&alice, "/account/whoami").await.0,
        StatusCode::OK
    );
    let path = "/user_directory/search";
    assert_eq!(
        server.post(&alice, path, search.clone()).await.0,
        StatusCode::OK
    );

    let (status, body) = server.post(&alice, path, search).await;

    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(body["errcode"], "M_LIMIT_EXCEEDED");
    assert!(body["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0));
    let (status, _) = server.get(&alice, "/account/whoami").await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(server.get(&bob, "/account/whoami").await.0, StatusCode::OK);
    // What is not to be limited goes on.
    assert_eq!(
        server.get(&alice, "/sync?timeout=0").await.0,
        StatusCode::OK
    );
    assert_eq!(server.get(&alice, "/joined_rooms").await.0, StatusCode::OK);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn profiles_are_not_changed_all_the_time(pool: PgPool) {
    let server = strict(pool).await;
    let alice = server.register("alice").await;
    let path = format!("/profile/{}/displayname", alice.id);
    for name in ["one", "two"] {
        let (status, _) = server
            .put(&alice, &path, json!({ "displayname": name }))
            .await;
        assert_eq!(status, StatusCode::OK);
    }

    let (status, body) = server
        .put(&alice, &path, json!({ "displayname": "three" }))
        .await;

    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(body["errcode"], "M_LIMIT_EXCEEDED");
    let (_, body) = server.get_anonymously(&path).await;
    assert_eq!(body["displayname"], "two");
}
