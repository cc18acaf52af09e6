//! `/admin` and `/_synapse/admin/v1/register`

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::StatusCode;
use serde_json::{Value, json};
use sha1::Sha1;
use sqlx::PgPool;

use super::server::{PASSWORD, TestServer, User, login};

const REGISTER: &str = "/_synapse/admin/v1/register";

async fn register(server: &TestServer, secret: &str, name: &str, role: &str) -> Value {
    let (_, body) = server.get_anonymously(REGISTER).await;
    let nonce = body["nonce"].as_str().unwrap();
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update([nonce, name, PASSWORD, role].join("\0").as_bytes());
    let bytes = mac.finalize().into_bytes();
    let mac: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "nonce": nonce,
        "username": name,
        "password": PASSWORD,
        "mac": mac.concat(),
        "admin": role == "admin",
    })
}

fn path(what: &str, user: &User) -> String {
    format!("/_matrix/client/v1/admin/{what}/{}", user.id)
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_knows_the_secret_makes_administrators(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let request = register(&server, "shared", "ROOT", "admin").await;

    let (status, body) = server.post_anonymously(REGISTER, request.clone()).await;

    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["user_id"], "@root:example.org");
    let root = User::from_answer(&body);
    let alice = server.register("alice").await;
    assert_eq!(
        server.get(&root, &path("lock", &alice)).await.0,
        StatusCode::OK
    );
    let (status, _) = server.post_anonymously(REGISTER, request).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "a nonce works once");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_wrong_secret_or_name_is_refused(pool: PgPool) {
    let server = TestServer::new(pool).await;

    let request = register(&server, "guess", "alice", "notadmin").await;
    let (status, _) = server.post_anonymously(REGISTER, request).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let request = register(&server, "shared", "us,er", "notadmin").await;
    let (status, body) = server.post_anonymously(REGISTER, request).await;
    assert_eq!(
        (status, &body["errcode"]),
        (StatusCode::BAD_REQUEST, &"M_INVALID_USERNAME".into())
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_locked_user_can_only_log_out(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let root = server.register_admin("root").await;
    let alice = server.register("alice").await;
    assert_eq!(server.get(&alice, "/devices").await.0, StatusCode::OK);

    let (status, body) = server
        .put(&root, &path("lock", &alice), json!({ "locked": true }))
        .await;

    assert_eq!((status, body), (StatusCode::OK, json!({ "locked": true })));
    let (status, body) = server.get(&alice, "/devices").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        (&body["errcode"], &body["soft_logout"]),
        (&"M_USER_LOCKED".into(), &true.into())
    );
    let (status, body) = server.post_anonymously("/login", login("alice")).await;
    assert_eq!(
        (status, &body["errcode"]),
        (StatusCode::UNAUTHORIZED, &"M_USER_LOCKED".into())
    );
    assert_eq!(
        server.post(&alice, "/logout", json!({})).await.0,
        StatusCode::OK
    );
    server
        .put(&root, &path("lock", &alice), json!({ "locked": false }))
        .await;
    server.log_in("alice").await;
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_suspended_user_is_still_there(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let root = server.register_admin("root").await;
    let alice = server.register("alice").await;

    let body = json!({ "suspended": true });
    assert_eq!(
        server
            .put(&root, &path("suspend", &alice), body.clone())
            .await
            .1,
        body
    );

    assert_eq!(server.get(&root, &path("suspend", &alice)).await.1, body);
    assert_eq!(
        server.get(&root, &path("lock", &alice)).await.1,
        json!({ "locked": false })
    );
    assert_eq!(server.get(&alice, "/devices").await.0, StatusCode::OK);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn only_administrators_moderate_and_only_others(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let root = server.register_admin("root").await;
    let other = server.register_admin("other").await;
    let alice = server.register("alice").await;
    let lock = json!({ "locked": true });
    let nobody = |id: &str| format!("/_matrix/client/v1/admin/lock/{id}");

    for (by, path, status, code) in [
        (
            &alice,
            path("lock", &root),
            StatusCode::FORBIDDEN,
            "M_FORBIDDEN",
        ),
        (
            &alice,
            nobody("@none:example.org"),
            StatusCode::FORBIDDEN,
            "M_FORBIDDEN",
        ),
        (
            &root,
            path("lock", &root),
            StatusCode::FORBIDDEN,
            "M_FORBIDDEN",
        ),
        (
            &root,
            path("lock", &other),
            StatusCode::FORBIDDEN,
            "M_FORBIDDEN",
        ),
        (
            &root,
            nobody("@none:example.org"),
            StatusCode::NOT_FOUND,
            "M_NOT_FOUND",
        ),
        (
            &root,
            nobody("@a:elsewhere.org"),
            StatusCode::BAD_REQUEST,
            "M_INVALID_PARAM",
        ),
    ] {
        let answer = server.put(by, &path, lock.clone()).await;
        assert_eq!(
            (answer.0, &answer.1["errcode"]),
            (status, &code.into()),
            "{path}"
        );
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn whois_is_for_oneself_and_administrators(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let root = server.register_admin("root").await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let path = format!("/admin/whois/{}", alice.id);

    for (user, status) in [
        (&alice, StatusCode::OK),
        (&root, StatusCode::OK),
        (&bob, StatusCode::FORBIDDEN),
    ] {
        assert_eq!(server.get(user, &path).await.0, status);
    }
    let (_, body) = server.get(&alice, &path).await;
    let sessions = &body["devices"][&alice.device]["sessions"];
    assert!(
        sessions[0]["connections"][0]["last_seen"].is_number(),
        "{body}"
    );
}
