//! `/register`

use hearth_core::config::{Policy, Registration, Secret};
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{PASSWORD, TestServer, login};

const DUMMY: &str = "m.login.dummy";

fn with_token() -> Registration {
    Registration {
        token: Some(Secret::new("letmein".to_owned())),
        ..Registration::default()
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_first_request_may_authenticate(pool: PgPool) {
    let server = TestServer::new(pool).await;

    let user = server.register("Alice-UPPER").await;

    assert_eq!(user.id, "@alice-upper:example.org");
    let (status, body) = server.get(&user, "/account/whoami").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["user_id"], user.id);
    assert_eq!(body["device_id"], user.device);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_empty_request_yields_flows_and_a_session(pool: PgPool) {
    let server = TestServer::new(pool).await;

    let (status, body) = server.post_anonymously("/register", json!({})).await;

    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(body["flows"], json!([{ "stages": [DUMMY] }]));
    assert!(body["session"].is_string());
    assert!(body.get("errcode").is_none());
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn later_requests_need_not_repeat_the_first(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let first = json!({ "username": "alice", "password": PASSWORD, "device_id": "PHONE" });
    let (_, challenge) = server.post_anonymously("/register", first).await;

    let auth = json!({ "auth": { "type": DUMMY, "session": challenge["session"] } });
    let (status, body) = server.post_anonymously("/register", auth).await;

    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["user_id"], "@alice:example.org");
    assert_eq!(body["device_id"], "PHONE");
    server.log_in("alice").await;
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_session_serves_once(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (_, challenge) = server.post_anonymously("/register", json!({})).await;
    let register = |name: &str| {
        json!({
            "username": name,
            "password": PASSWORD,
            "auth": { "session": challenge["session"] },
        })
    };
    let mut first = register("alice");
    first["auth"]["type"] = DUMMY.into();
    assert_eq!(
        server.post_anonymously("/register", first).await.0,
        StatusCode::OK
    );

    let (status, _) = server.post_anonymously("/register", register("bob")).await;

    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn registration_is_closed_by_default(pool: PgPool) {
    let server = TestServer::with_registration(pool, Registration::default()).await;

    let (status, body) = server.post_anonymously("/register", json!({})).await;

    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body["errcode"], "M_FORBIDDEN");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn guests_are_refused(pool: PgPool) {
    let server = TestServer::new(pool).await;

    let (status, body) = server
        .post_anonymously("/register?kind=guest", json!({}))
        .await;

    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body["errcode"], "M_GUEST_ACCESS_FORBIDDEN");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn bad_and_taken_names_are_refused(pool: PgPool) {
    let server = TestServer::new(pool).await;
    server.register("alice").await;

    for (name, code) in [("us,er", "M_INVALID_USERNAME"), ("ALICE", "M_USER_IN_USE")] {
        let body = json!({ "username": name, "password": "x", "auth": { "type": DUMMY } });
        let (status, body) = server.post_anonymously("/register", body).await;
        assert_eq!(
            (status, &body["errcode"]),
            (StatusCode::BAD_REQUEST, &code.into())
        );

        let path = format!("/register/available?username={name}");
        let (status, body) = server.get_anonymously(&path).await;
        assert_eq!(
            (status, &body["errcode"]),
            (StatusCode::BAD_REQUEST, &code.into())
        );
    }
    let (status, body) = server
        .get_anonymously("/register/available?username=bob")
        .await;
    assert_eq!(
        (status, body),
        (StatusCode::OK, json!({ "available": true }))
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn login_can_be_inhibited_and_names_made_up(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let body = json!({ "password": PASSWORD, "inhibit_login": true, "auth": { "type": DUMMY } });

    let (status, body) = server.post_anonymously("/register", body).await;

    assert_eq!(status, StatusCode::OK);
    assert!(body["user_id"].as_str().unwrap().len() > "@:example.org".len());
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_knows_the_token_may_register(pool: PgPool) {
    let server = TestServer::with_registration(pool, with_token()).await;
    let register = |token: &str| {
        json!({
            "username": "alice",
            "password": PASSWORD,
            "auth": { "type": "m.login.registration_token", "token": token },
        })
    };

    let (status, body) = server
        .post_anonymously("/register", register("wrong"))
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(body["errcode"], "M_FORBIDDEN");
    let (status, _) = server
        .post_anonymously("/register", register("letmein"))
        .await;
    assert_eq!(status, StatusCode::OK);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_token_of_the_database_is_used_up(pool: PgPool) {
    sqlx::raw_sql("INSERT INTO registration_token (token, uses_allowed) VALUES ('once', 1)")
        .execute(&pool)
        .await
        .unwrap();
    let server = TestServer::with_registration(pool, Registration::default()).await;
    let validity = "/_matrix/client/v1/register/m.login.registration_token/validity?token=once";
    let register = |name: &str| {
        json!({
            "username": name,
            "password": PASSWORD,
            "auth": { "type": "m.login.registration_token", "token": "once" },
        })
    };

    assert_eq!(
        server.get_anonymously(validity).await.1,
        json!({ "valid": true })
    );
    let (status, body) = server
        .post_anonymously("/register", register("alice"))
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(
        server.get_anonymously(validity).await.1,
        json!({ "valid": false })
    );
    let (status, _) = server.post_anonymously("/register", register("bob")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn stages_are_completed_in_their_order(pool: PgPool) {
    let policy = Policy {
        version: "1".to_owned(),
        name: "Privacy".to_owned(),
        url: "https://example.org/privacy".to_owned(),
        language: "en".to_owned(),
    };
    let registration = Registration {
        terms: [("privacy".to_owned(), policy)].into(),
        ..with_token()
    };
    let server = TestServer::with_registration(pool, registration).await;
    let stage = |session: &Value, auth: Value| {
        let mut body = json!({ "username": "alice", "password": PASSWORD, "auth": auth });
        body["auth"]["session"] = session.clone();
        body
    };
    let (_, challenge) = server.post_anonymously("/register", json!({})).await;
    assert!(challenge["params"]["m.login.terms"]["policies"]["privacy"].is_object());
    let session = &challenge["session"];

    let terms = stage(session, json!({ "type": "m.login.terms" }));
    let (status, body) = server.post_anonymously("/register", terms.clone()).await;
    assert_eq!(
        (status, body.get("completed")),
        (StatusCode::UNAUTHORIZED, None)
    );
    let token = json!({ "type": "m.login.registration_token", "token": "letmein" });
    let (_, body) = server
        .post_anonymously("/register", stage(session, token))
        .await;
    assert_eq!(body["completed"], json!(["m.login.registration_token"]));
    assert_eq!(body["session"], *session);
    let (status, _) = server.post_anonymously("/register", terms).await;
    assert_eq!(status, StatusCode::OK);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn passwords_are_stored_nowhere_as_they_are(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let first = json!({ "username": "alice", "password": PASSWORD });
    server.post_anonymously("/register", first).await;

    let body: String = sqlx::query_scalar("SELECT body FROM uia_session")
        .fetch_one(&pool)
        .await
        .unwrap();

    assert!(body.contains("alice") && !body.contains(PASSWORD));
    assert_eq!(
        server.post_anonymously("/login", login("alice")).await.0,
        StatusCode::FORBIDDEN
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_device_that_cannot_be_made_uses_no_name_up(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let body = |device: &str, name: &str| {
        json!({
            "username": "alice", "password": PASSWORD, "auth": { "type": DUMMY },
            "device_id": device, "initial_device_display_name": name,
        })
    };

    for (device, name) in [
        ("", "phone"),
        (&*"x".repeat(300), "phone"),
        ("PHONE", "\u{0}"),
    ] {
        let (status, answer) = server
            .post_anonymously("/register", body(device, name))
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert_eq!(answer["errcode"], "M_INVALID_PARAM");
    }

    let (status, answer) = server
        .post_anonymously("/register", body("PHONE", "phone"))
        .await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}
