//! `/refresh`

use std::time::Duration;

use hearth_core::config::{Config, Span};
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{Answer, TestServer, User, login};

async fn log_in(server: &TestServer) -> Value {
    server.register("alice").await;
    let mut body = login("alice");
    body["refresh_token"] = true.into();
    server.post_anonymously("/login", body).await.1
}

async fn refresh(server: &TestServer, session: &Value) -> Answer {
    let body = json!({ "refresh_token": session["refresh_token"] });
    server.post_anonymously("/refresh", body).await
}

async fn works(server: &TestServer, session: &Value) -> bool {
    let user = User::from_answer(session);
    server.get(&user, "/account/whoami").await.0 == StatusCode::OK
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_expired_token_is_a_soft_logout_and_can_be_refreshed(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let session = log_in(&server).await;
    assert_eq!(session["expires_in_ms"], 300_000);
    assert!(works(&server, &session).await);

    server.advance(Duration::from_secs(301));

    let user = User::from_answer(&session);
    let (status, body) = server.get(&user, "/account/whoami").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        (&body["errcode"], &body["soft_logout"]),
        (&"M_UNKNOWN_TOKEN".into(), &true.into())
    );
    let (status, next) = refresh(&server, &session).await;
    assert_eq!(status, StatusCode::OK);
    assert!(works(&server, &next).await);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_lost_answer_can_be_asked_for_again(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let session = log_in(&server).await;

    let (_, lost) = refresh(&server, &session).await;
    let (status, got) = refresh(&server, &session).await;

    assert_eq!(status, StatusCode::OK);
    assert!(!works(&server, &lost).await);
    assert!(works(&server, &session).await);
    assert!(works(&server, &got).await);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_use_of_the_new_access_token_ends_the_old_tokens(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let session = log_in(&server).await;
    assert!(works(&server, &session).await);
    let (_, next) = refresh(&server, &session).await;

    assert!(works(&server, &next).await);

    let (status, body) = refresh(&server, &session).await;
    assert_eq!(
        (status, &body["errcode"]),
        (StatusCode::UNAUTHORIZED, &"M_UNKNOWN_TOKEN".into())
    );
    assert!(!works(&server, &session).await);
    assert!(works(&server, &next).await);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_use_of_the_new_refresh_token_ends_the_old_tokens(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let session = log_in(&server).await;
    let (_, second) = refresh(&server, &session).await;

    let (status, third) = refresh(&server, &second).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(refresh(&server, &session).await.0, StatusCode::UNAUTHORIZED);
    assert!(!works(&server, &session).await);
    assert!(works(&server, &third).await);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn lifetimes_are_what_the_operator_says(pool: PgPool) {
    let mut config = Config {
        server_name: ruma::server_name!("example.org").to_owned(),
        ..Config::default()
    };
    config.registration.enabled = true;
    config.limits.rate_limit = false;
    config.sessions.access_token_lifetime = Span::from_secs(60);
    config.sessions.refresh_token_lifetime = Some(Span::from_secs(600));
    let server = TestServer::with_config(pool, config).await;
    let session = log_in(&server).await;
    assert_eq!(session["expires_in_ms"], 60_000);

    server.advance(Duration::from_secs(599));
    let (status, next) = refresh(&server, &session).await;
    assert_eq!(status, StatusCode::OK);
    server.advance(Duration::from_secs(601));

    let (status, body) = refresh(&server, &next).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        (&body["errcode"], &body["soft_logout"]),
        (&"M_UNKNOWN_TOKEN".into(), &true.into())
    );
}
