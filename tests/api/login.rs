//! `/login` and `/logout`

use std::time::Duration;

use hearth_core::config::Config;
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{PASSWORD, TestServer, User, login};

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn users_are_identified_in_many_ways(pool: PgPool) {
    let server = TestServer::new(pool).await;
    server.register("alice").await;

    for name in ["alice", "ALICE", "@alice:example.org", "@Alice:example.org"] {
        let old = json!({ "type": "m.login.password", "user": name, "password": PASSWORD });
        for body in [login(name), old] {
            let (status, body) = server.post_anonymously("/login", body).await;
            assert_eq!(status, StatusCode::OK, "{name}: {body}");
            assert_eq!(body["user_id"], "@alice:example.org");
        }
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn nobody_learns_who_has_an_account(pool: PgPool) {
    let server = TestServer::new(pool).await;
    server.register("alice").await;
    let mut wrong = login("alice");
    wrong["password"] = "wrong".into();
    let phone = json!({ "type": "m.id.phone", "country": "GB", "phone": "1" });
    let email = json!({ "type": "m.id.thirdparty", "medium": "email", "address": "a@b.c" });
    let by = |identifier: Value| json!({ "type": "m.login.password", "identifier": identifier, "password": PASSWORD });

    let mut answers = Vec::new();
    for body in [
        wrong,
        login("bob"),
        login("@alice:elsewhere.org"),
        by(phone),
        by(email),
    ] {
        answers.push(server.post_anonymously("/login", body).await);
    }

    assert_eq!(answers[0].0, StatusCode::FORBIDDEN);
    assert_eq!(answers[0].1["errcode"], "M_FORBIDDEN");
    assert!(answers.iter().all(|answer| answer == &answers[0]));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn malformed_logins_are_told_apart(pool: PgPool) {
    let server = TestServer::new(pool).await;

    for (body, code) in [
        (json!({}), "M_MISSING_PARAM"),
        (json!({ "type": "m.login.magic" }), "M_UNKNOWN"),
        (
            json!({ "type": "m.login.password", "password": "x" }),
            "M_MISSING_PARAM",
        ),
        (
            json!({ "type": "m.login.password", "user": "x" }),
            "M_BAD_JSON",
        ),
    ] {
        let (status, answer) = server.post_anonymously("/login", body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(answer["errcode"], code, "{body}");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_known_device_loses_its_old_token(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let old = server.register("alice").await;
    let mut again = login("alice");
    again["device_id"] = old.device.clone().into();

    let (_, body) = server.post_anonymously("/login", again).await;

    assert_eq!(body["device_id"], old.device);
    let (status, error) = server.get(&old, "/account/whoami").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(error["errcode"], "M_UNKNOWN_TOKEN");
    let new = User::from_answer(&body);
    assert_eq!(server.get(&new, "/account/whoami").await.0, StatusCode::OK);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_request_without_a_token_differs_from_one_with_a_wrong_one(pool: PgPool) {
    let server = TestServer::new(pool).await;

    let (status, body) = server.get_anonymously("/account/whoami").await;
    assert_eq!(
        (status, &body["errcode"]),
        (StatusCode::UNAUTHORIZED, &"M_MISSING_TOKEN".into())
    );
    let (status, body) = server
        .get_anonymously("/account/whoami?access_token=x")
        .await;
    assert_eq!(
        (status, &body["errcode"]),
        (StatusCode::UNAUTHORIZED, &"M_UNKNOWN_TOKEN".into())
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn logging_out_removes_the_device(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let one = server.register("alice").await;
    let two = server.log_in("alice").await;

    assert_eq!(
        server.post(&one, "/logout", json!({})).await.0,
        StatusCode::OK
    );

    assert_eq!(
        server.get(&one, "/devices").await.0,
        StatusCode::UNAUTHORIZED
    );
    let (_, body) = server.get(&two, "/devices").await;
    assert_eq!(body["devices"].as_array().unwrap().len(), 1);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn logging_out_everywhere_ends_all_sessions(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let one = server.register("alice").await;
    let two = server.log_in("alice").await;

    assert_eq!(
        server.post(&one, "/logout/all", json!({})).await.0,
        StatusCode::OK
    );

    assert_eq!(
        server.get(&one, "/devices").await.0,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        server.get(&two, "/devices").await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_login_token_works_once_and_soon_expires(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let path = "/_matrix/client/v1/login/get_token";
    assert_eq!(
        server.post(&alice, path, json!({})).await.0,
        StatusCode::UNAUTHORIZED
    );

    let mut statuses = Vec::new();
    for wait in [0, 121] {
        let (_, body) = server
            .post(&alice, path, json!({ "auth": alice.auth() }))
            .await;
        assert_eq!(body["expires_in_ms"], 120_000);
        server.advance(Duration::from_secs(wait));
        for _ in 0..2 {
            let login = json!({ "type": "m.login.token", "token": body["login_token"] });
            statuses.push(server.post_anonymously("/login", login).await.0.as_u16());
        }
    }

    assert_eq!(statuses, [200, 403, 403, 403]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn login_tokens_can_be_switched_off(pool: PgPool) {
    let mut config = Config {
        server_name: ruma::server_name!("example.org").to_owned(),
        ..Config::default()
    };
    config.registration.enabled = true;
    config.limits.rate_limit = false;
    config.sessions.login_tokens = false;
    let server = TestServer::with_config(pool, config).await;
    let alice = server.register("alice").await;

    let (_, flows) = server.get_anonymously("/login").await;
    assert_eq!(flows["flows"], json!([{ "type": "m.login.password" }]));
    let (_, body) = server.get(&alice, "/capabilities").await;
    let capability = &body["capabilities"]["m.get_login_token"];
    assert_eq!(capability["enabled"], false);
    let path = "/_matrix/client/v1/login/get_token";
    let (status, body) = server.post(&alice, path, json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["errcode"], "M_UNRECOGNIZED");
    let body = json!({ "type": "m.login.token", "token": "hrl_x" });
    let (status, _) = server.post_anonymously("/login", body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
