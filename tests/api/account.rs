//! `/account`, `/user/…/openid`, `/capabilities` and the like

use hearth_core::config::{Config, Secret, Voip};
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    chat::encode,
    server::{PASSWORD, TestServer, login},
};

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_new_password_ends_the_other_sessions(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let one = server.register("alice").await;
    let two = server.log_in("alice").await;
    let body = json!({ "new_password": "another", "auth": one.auth() });

    let (status, answer) = server.post(&one, "/account/password", body).await;

    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        server.post_anonymously("/login", login("alice")).await.0,
        StatusCode::FORBIDDEN
    );
    let mut new = login("alice");
    new["password"] = "another".into();
    assert_eq!(
        server.post_anonymously("/login", new).await.0,
        StatusCode::OK
    );
    assert_eq!(server.get(&one, "/account/whoami").await.0, StatusCode::OK);
    assert_eq!(
        server.get(&two, "/account/whoami").await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_other_sessions_can_be_kept(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let one = server.register("alice").await;
    let two = server.log_in("alice").await;
    let body = json!({ "new_password": "x", "logout_devices": false, "auth": one.auth() });

    assert_eq!(
        server.post(&one, "/account/password", body).await.0,
        StatusCode::OK
    );

    assert_eq!(server.get(&two, "/account/whoami").await.0, StatusCode::OK);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_new_password_may_be_in_the_first_request_only(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let first = json!({ "new_password": "another" });
    let (_, challenge) = server.post(&alice, "/account/password", first).await;
    let mut auth = alice.auth();
    auth["session"] = challenge["session"].clone();

    let (status, body) = server
        .post(&alice, "/account/password", json!({ "auth": auth }))
        .await;

    assert_eq!(status, StatusCode::OK, "{body}");
    let mut new = login("alice");
    new["password"] = "another".into();
    assert_eq!(
        server.post_anonymously("/login", new).await.0,
        StatusCode::OK
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_wrong_password_can_be_corrected(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let mut wrong = alice.auth();
    wrong["password"] = "wrong".into();

    let (status, body) = server
        .post(&alice, "/account/deactivate", json!({ "auth": wrong }))
        .await;

    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(body["errcode"], "M_FORBIDDEN");
    assert!(body["session"].is_string() && body["flows"].is_array() && body["params"].is_object());
    let mut right = alice.auth();
    right["session"] = body["session"].clone();
    let (status, body) = server
        .post(&alice, "/account/deactivate", json!({ "auth": right }))
        .await;
    assert_eq!(
        (status, &body["id_server_unbind_result"]),
        (StatusCode::OK, &"success".into())
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_closed_account_cannot_be_used_or_taken(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let body = json!({ "auth": alice.auth(), "erase": true });
    assert_eq!(
        server.post(&alice, "/account/deactivate", body).await.0,
        StatusCode::OK
    );

    assert_eq!(
        server.get(&alice, "/account/whoami").await.0,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        server.post_anonymously("/login", login("alice")).await.0,
        StatusCode::FORBIDDEN
    );
    let again = json!({
        "username": "alice",
        "password": PASSWORD,
        "auth": { "type": "m.login.dummy" },
    });
    let (_, body) = server.post_anonymously("/register", again).await;
    assert_eq!(body["errcode"], "M_USER_IN_USE");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_closes_the_account_leaves_all_rooms(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let mut rooms = Vec::new();
    for action in ["join", "knock"] {
        let rules = json!({ "join_rule": if action == "join" { "public" } else { "knock" } });
        let rules = json!({ "type": "m.room.join_rules", "state_key": "", "content": rules });
        let body = json!({ "preset": "private_chat", "initial_state": [rules] });
        let (status, body) = server.post(&alice, "/createRoom", body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let room = body["room_id"].as_str().unwrap().to_owned();
        let (status, body) = server
            .post(&bob, &format!("/{action}/{room}"), json!({}))
            .await;
        assert_eq!(status, StatusCode::OK, "{body}");
        rooms.push(room);
    }

    let body = json!({ "auth": bob.auth() });
    assert_eq!(
        server.post(&bob, "/account/deactivate", body).await.0,
        StatusCode::OK
    );

    for room in rooms {
        let path = format!("/rooms/{room}/state/m.room.member/{}", bob.id);
        let (_, body) = server.get(&alice, &path).await;
        assert_eq!(body["membership"], "leave");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_session_serves_only_what_it_was_begun_for(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let (_, challenge) = server.post(&alice, "/account/password", json!({})).await;
    let mut auth = alice.auth();
    auth["session"] = challenge["session"].clone();

    let (status, _) = server
        .post(&alice, "/account/deactivate", json!({ "auth": auth }))
        .await;

    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_openid_token_stands_for_its_user(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let path = |user: &str| format!("/user/{user}/openid/request_token");

    let (status, body) = server.post(&alice, &path(&alice.id), json!({})).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["matrix_server_name"], "example.org");
    let token = body["access_token"].as_str().unwrap();
    let user = server.state.openids.find(token).await.unwrap().unwrap();
    assert_eq!(user, alice.id);
    assert_eq!(
        server
            .get_anonymously(&format!("/account/whoami?access_token={token}"))
            .await
            .0,
        StatusCode::UNAUTHORIZED
    );
    let (status, _) = server
        .post(&alice, &path("@bob:example.org"), json!({}))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn capabilities_say_what_can_be_done(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let admin = server.register_admin("root").await;

    let (_, body) = server.get(&alice, "/capabilities").await;

    let capabilities = &body["capabilities"];
    assert_eq!(capabilities["m.change_password"]["enabled"], true);
    assert_eq!(capabilities["m.room_versions"]["default"], "12");
    assert_eq!(capabilities["m.room_versions"]["available"]["2"], "stable");
    assert_eq!(capabilities["m.room_versions"]["available"]["12"], "stable");
    assert!(capabilities.get("m.account_moderation").is_none());
    let (_, body) = server.get(&admin, "/capabilities").await;
    assert_eq!(body["capabilities"]["m.account_moderation"]["lock"], true);
    assert_eq!(
        server.get_anonymously("/capabilities").await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn anybody_can_discover_the_server(pool: PgPool) {
    let server = TestServer::new(pool).await;

    let (status, body) = server.get_anonymously("/.well-known/matrix/client").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["errcode"], "M_NOT_FOUND");
    let (status, _) = server.get_anonymously("/.well-known/matrix/support").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (_, body) = server.get_anonymously("/login").await;
    assert_eq!(body["flows"][0]["type"], "m.login.password");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn clients_are_led_to_the_address_that_is_set(pool: PgPool) {
    let config = Config {
        server_name: ruma::server_name!("example.org").to_owned(),
        public_baseurl: Some("https://matrix.example.org/".to_owned()),
        ..Config::default()
    };
    let server = TestServer::with_config(pool, config).await;

    let (_, client) = server.get_anonymously("/.well-known/matrix/client").await;

    let url = &client["m.homeserver"]["base_url"];
    assert_eq!(url, "https://matrix.example.org");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn turn_credentials_expire(pool: PgPool) {
    let mut config = Config {
        server_name: ruma::server_name!("example.org").to_owned(),
        voip: Voip {
            turn_uris: vec!["turn:turn.example.org".to_owned()],
            turn_shared_secret: Some(Secret::new("secret".to_owned())),
            ..Voip::default()
        },
        ..Config::default()
    };
    config.registration.enabled = true;
    let server = TestServer::with_config(pool, config).await;
    let alice = server.register("alice").await;

    let (_, body) = server.get(&alice, "/voip/turnServer").await;

    assert_eq!(body["username"], "1750086400:@alice:example.org");
    assert_eq!(body["ttl"], 86_400);
    assert_eq!(body["uris"], json!(["turn:turn.example.org"]));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_comes_later_sees_nothing_of_what_an_erased_user_said(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let carol = server.register("carol").await;
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let said = server.say(&bob, &room, "secret").await;
    let kept = server.say(&alice, &room, "tea").await;
    let body = json!({ "auth": bob.auth(), "erase": true });
    let (status, _) = server.post(&bob, "/account/deactivate", body).await;
    assert_eq!(status, StatusCode::OK);
    server.join(&carol, &room).await;

    for (reader, sees) in [(&alice, json!("secret")), (&carol, Value::Null)] {
        let (_, page) = server.messages(reader, &room, "dir=b&limit=50").await;
        let chunk = page["chunk"].as_array().unwrap();
        let body = |id: &str| {
            let event = chunk.iter().find(|event| event["event_id"] == id);
            event.unwrap()["content"]["body"].clone()
        };
        assert_eq!(body(&said), sees);
        assert_eq!(body(&kept), "tea");
        let path = format!("/rooms/{room}/event/{}", encode(&said));
        let (_, event) = server.get(reader, &path).await;
        assert_eq!(event["content"]["body"], sees);
    }
}
