//! `/auth/{authType}/fallback/web`

use std::collections::BTreeMap;

use hearth_core::config::{Policy, Registration, Secret};
use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use super::server::{PASSWORD, TestServer};

const TOKEN: &str = "m.login.registration_token";
const TERMS: &str = "m.login.terms";

async fn server(pool: PgPool) -> TestServer {
    let policy = Policy {
        version: "1".to_owned(),
        name: "Privacy <b>".to_owned(),
        url: "https://example.org/privacy".to_owned(),
        language: "en".to_owned(),
    };
    let registration = Registration {
        token: Some(Secret::new("letmein".to_owned())),
        terms: BTreeMap::from([("privacy".to_owned(), policy)]),
        ..Registration::default()
    };
    TestServer::with_registration(pool, registration).await
}

fn page(stage: &str, session: &str) -> String {
    format!("/auth/{stage}/fallback/web?session={session}")
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_user_registers_with_nothing_but_pages(pool: PgPool) {
    let server = server(pool).await;
    let body = json!({ "username": "alice", "password": PASSWORD });
    let (_, challenge) = server.post_anonymously("/register", body).await;
    let session = challenge["session"].as_str().unwrap();

    let (status, html) = server.page(&page(TOKEN, session)).await;
    assert_eq!(status, StatusCode::OK);
    assert!(html.contains("name=\"token\""), "{html}");
    let (status, html) = server.submit(&page(TOKEN, session), "token=wrong").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(!html.contains("onAuthDone"), "{html}");
    let (status, html) = server.submit(&page(TOKEN, session), "token=letmein").await;
    assert_eq!(status, StatusCode::OK);
    assert!(html.contains("window.onAuthDone()"), "{html}");

    let (_, html) = server.page(&page(TERMS, session)).await;
    assert!(html.contains("href=\"https://example.org/privacy\""));
    assert!(html.contains("Privacy &lt;b&gt;"), "{html}");
    let (_, html) = server.submit(&page(TERMS, session), "").await;
    assert!(html.contains("window.onAuthDone()"), "{html}");

    let auth = json!({ "auth": { "session": session } });
    let (status, body) = server.post_anonymously("/register", auth).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["user_id"], "@alice:example.org");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_password_is_entered_on_a_page(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let device = format!("/devices/{}", alice.device);
    let (_, challenge) = server.delete(&alice, &device, json!({})).await;
    let session = challenge["session"].as_str().unwrap();
    let page = page("m.login.password", session);

    let (status, _) = server.submit(&page, "password=wrong").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let auth = json!({ "auth": { "session": session } });
    let (status, _) = server.delete(&alice, &device, auth.clone()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);

    let entered = format!("password={PASSWORD}");
    assert_eq!(server.submit(&page, &entered).await.0, StatusCode::OK);
    assert_eq!(server.delete(&alice, &device, auth).await.0, StatusCode::OK);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn there_is_no_page_without_a_session(pool: PgPool) {
    let server = server(pool).await;

    let (status, html) = server.page(&page(TOKEN, "hru_nothing")).await;

    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(html.contains("out of date"), "{html}");
}
