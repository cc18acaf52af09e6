//! `/_matrix/key` and `/_matrix/federation`: who asks, and simple questions.

use std::time::Duration;

use hearth_core::config::{Config, Federation, OldVerifyKey, Registration};
use http::{Method, Request, StatusCode};
use ruma::{
    CanonicalJsonObject,
    serde::Base64,
    signatures::{PublicKeyMap, verify_json},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{peer::Peer, server::TestServer};

const DIRECTORY: &str = "/_matrix/federation/v1/query/directory?room_alias=%23tea%3Aexample.org";

/// Checks that `server` signed an object with a key that it names itself.
fn verify(object: &Value, server: &str) {
    let keys = object["verify_keys"].as_object().unwrap();
    let keys = keys.iter().map(|(id, key)| {
        let key = Base64::parse(key["key"].as_str().unwrap()).unwrap();
        (id.clone(), key)
    });
    let keys = PublicKeyMap::from([(server.to_owned(), keys.collect())]);
    let object: CanonicalJsonObject = serde_json::from_value(object.clone()).unwrap();
    verify_json(&keys, &object).unwrap();
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn our_keys_are_signed_and_good_for_more_than_an_hour(pool: PgPool) {
    let server = TestServer::new(pool).await;

    let (status, body) = server.get_anonymously("/_matrix/key/v2/server").await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["server_name"], "example.org");
    let until = body["valid_until_ts"].as_i64().unwrap();
    assert!(until > server.state.clock.millis() + 3_600_000);
    verify(&body, "example.org");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn our_old_keys_are_published(pool: PgPool) {
    let old = OldVerifyKey {
        id: "ed25519:old".try_into().unwrap(),
        key: Base64::parse("l8Hft5qXKn1vfHrg3p4+W8gELQVo8N13JkluMfmn2sQ").unwrap(),
        expired_ts: 1_576_767_829_750,
    };
    let config = Config {
        server_name: ruma::server_name!("example.org").to_owned(),
        federation: Federation {
            old_verify_keys: vec![old],
            ..Federation::default()
        },
        ..Config::default()
    };
    let server = TestServer::with_config(pool, config).await;

    let (_, body) = server.get_anonymously("/_matrix/key/v2/server").await;

    let old = &body["old_verify_keys"]["ed25519:old"];
    assert_eq!(old["expired_ts"], 1_576_767_829_750_i64);
    assert_eq!(old["key"], "l8Hft5qXKn1vfHrg3p4+W8gELQVo8N13JkluMfmn2sQ");
    verify(&body, "example.org");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_notary_knows_its_own_keys_and_leaves_out_what_it_cannot_have(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let body = json!({ "server_keys": { "example.org": {}, "127.0.0.1:1": {} } });

    let (status, body) = server.post_anonymously("/_matrix/key/v2/query", body).await;

    assert_eq!(status, StatusCode::OK);
    let answers = body["server_keys"].as_array().unwrap();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0]["server_name"], "example.org");
    let (status, body) = server
        .get_anonymously("/_matrix/key/v2/query/127.0.0.1:1")
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["server_keys"], json!([]));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_known_server_is_answered(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let path = "/directory/room/%23tea:example.org";
    server.put(&alice, path, json!({ "room_id": room })).await;
    let peer = Peer::known(&pool, &server, "peer.example").await;

    let (status, body) = peer.get(&server, DIRECTORY).await;

    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["room_id"], room);
    assert_eq!(body["servers"], json!(["example.org"]));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn only_our_own_aliases_are_told(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let peer = Peer::known(&pool, &server, "peer.example").await;
    let path = "/_matrix/federation/v1/query/directory?room_alias=%23tea%3Aother.example";

    let (status, body) = peer.get(&server, path).await;

    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["errcode"], "M_NOT_FOUND");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_profile_is_told_whole_or_in_part(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let path = format!("/profile/{}/displayname", alice.id);
    server
        .put(&alice, &path, json!({ "displayname": "Alice" }))
        .await;
    let path = format!("/profile/{}/x.tea", alice.id);
    server.put(&alice, &path, json!({ "x.tea": 1 })).await;
    let peer = Peer::known(&pool, &server, "peer.example").await;
    let path = "/_matrix/federation/v1/query/profile?user_id=%40alice%3Aexample.org";

    let (_, whole) = peer.get(&server, path).await;
    let (_, part) = peer
        .get(&server, &format!("{path}&field=displayname"))
        .await;
    let (status, _) = peer.get(&server, &path.replace("alice", "nobody")).await;

    assert_eq!(whole, json!({ "displayname": "Alice", "x.tea": 1 }));
    assert_eq!(part, json!({ "displayname": "Alice" }));
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn published_rooms_are_told(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let room = server
        .create_room(
            &alice,
            json!({ "preset": "public_chat", "visibility": "public" }),
        )
        .await;
    let peer = Peer::known(&pool, &server, "peer.example").await;
    let path = "/_matrix/federation/v1/publicRooms";

    let (_, got) = peer.get(&server, &format!("{path}?limit=5")).await;
    let (_, posted) = peer.send(&server, Method::POST, path, json!({})).await;

    assert_eq!(got["chunk"][0]["room_id"], room);
    assert_eq!(posted["chunk"][0]["room_id"], room);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_token_of_a_user_proves_who_he_is(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let path = format!("/user/{}/openid/request_token", alice.id);
    let (_, body) = server.post(&alice, &path, json!({})).await;
    let token = body["access_token"].as_str().unwrap();
    let path = "/_matrix/federation/v1/openid/userinfo?access_token=";

    let (status, body) = server.get_anonymously(&format!("{path}{token}")).await;
    let (refused, _) = server.get_anonymously(&format!("{path}x")).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["sub"], alice.id);
    assert_eq!(refused, StatusCode::UNAUTHORIZED);
}

/// Sends a request under a header that was made for something else.
async fn forged(server: &TestServer, header: String, body: &'static str) -> (StatusCode, Value) {
    let request = Request::post("/_matrix/federation/v1/publicRooms")
        .header("authorization", header)
        .body(body.into())
        .unwrap();
    server.answer(request).await
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_changed_request_is_refused(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let peer = Peer::known(&pool, &server, "peer.example").await;
    let path = "/_matrix/federation/v1/publicRooms";
    let sign = |destination, method, path, body: &str| {
        peer.sign(destination, (&method, path, body.as_bytes()))
    };
    let post = Method::POST;
    let body = r#"{"limit":5}"#;
    let good = sign("example.org", post.clone(), path, r#"{ "limit": 5 }"#);
    assert_eq!(forged(&server, good, body).await.0, StatusCode::OK);

    for header in [
        sign("example.org", post.clone(), path, r#"{"limit":6}"#),
        sign("example.org", post.clone(), path, ""),
        sign(
            "example.org",
            post.clone(),
            "/_matrix/federation/v1/x",
            body,
        ),
        sign("example.org", Method::PUT, path, body),
        sign("other.example", post.clone(), path, body),
        sign("example.org", post.clone(), path, body).replace("peer.example", "victim.example"),
        sign("example.org", post.clone(), path, body).replace("peer.example", "example.org"),
        "X-Matrix origin=peer.example".to_owned(),
        "Bearer token".to_owned(),
    ] {
        let (status, answer) = forged(&server, header.clone(), body).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{header} {answer}");
        assert_eq!(answer["errcode"], "M_UNAUTHORIZED", "{header}");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_key_is_good_as_long_as_its_server_said(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    // Nobody answers there, so that the key cannot be had anew.
    let peer = Peer::known(&pool, &server, "127.0.0.1:1").await;
    let path = "/_matrix/federation/v1/publicRooms";
    assert_eq!(peer.get(&server, path).await.0, StatusCode::OK);

    server.advance(Duration::from_hours(25));

    assert_eq!(peer.get(&server, path).await.0, StatusCode::UNAUTHORIZED);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_server_without_a_key_is_refused(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let peer = Peer::stranger("127.0.0.1:1");

    let (status, _) = peer
        .get(&server, "/_matrix/federation/v1/publicRooms")
        .await;

    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_server_that_does_not_federate_serves_no_peers(pool: PgPool) {
    let mut config = Config {
        server_name: ruma::server_name!("example.org").to_owned(),
        registration: Registration::default(),
        ..Config::default()
    };
    config.federation.enabled = false;
    let server = TestServer::with_config(pool, config).await;

    let (status, body) = server.get_anonymously("/_matrix/key/v2/server").await;

    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["errcode"], "M_UNRECOGNIZED");
}
