//! `/profile`

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::TestServer;

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn everybody_reads_what_a_user_tells(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let path = format!("/profile/{}", alice.id);
    for (key, value) in [
        ("displayname", json!("Alice")),
        ("avatar_url", json!("mxc://example.org/abc")),
        ("m.tz", json!("Europe/London")),
        ("org.example.hat", json!({ "colour": null })),
    ] {
        let field = format!("{path}/{key}");
        let (status, body) = server.put(&alice, &field, json!({ key: value })).await;
        assert_eq!((status, body), (StatusCode::OK, json!({})), "{key}");

        let answer = server.get_anonymously(&field).await;

        assert_eq!(answer, (StatusCode::OK, json!({ key: value })));
    }
    let (_, profile) = server.get_anonymously(&path).await;
    assert_eq!(profile.as_object().unwrap().len(), 4);
    assert_eq!(profile["displayname"], "Alice");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_field_that_is_deleted_is_gone(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let field = format!("/profile/{}/org.example.hat", alice.id);
    server
        .put(&alice, &field, json!({ "org.example.hat": 7 }))
        .await;

    for _ in 0..2 {
        let answer = server.delete(&alice, &field, Value::Null).await;
        assert_eq!(answer, (StatusCode::OK, json!({})));
    }

    let (status, body) = server.get_anonymously(&field).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["errcode"], "M_NOT_FOUND");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn nobody_changes_the_profile_of_another(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let field = format!("/profile/{}/displayname", alice.id);

    for (status, body) in [
        server
            .put(&bob, &field, json!({ "displayname": "x" }))
            .await,
        server.delete(&bob, &field, Value::Null).await,
    ] {
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(body["errcode"], "M_FORBIDDEN");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn there_is_no_profile_of_nobody(pool: PgPool) {
    let server = TestServer::alone(pool).await;
    for path in [
        "/profile/@no:example.org",
        "/profile/@no:example.org/displayname",
        "/profile/@no:elsewhere.org",
    ] {
        let (status, body) = server.get_anonymously(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body["errcode"], "M_NOT_FOUND");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn what_is_no_field_is_refused(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let long = format!("a.{}", "b".repeat(254));
    let large = "x".repeat(64 * 1024);
    for (key, body, code) in [
        ("nickname", json!({ "nickname": 7 }), "M_INVALID_PARAM"),
        (
            "displayname",
            json!({ "displayname": 7 }),
            "M_INVALID_PARAM",
        ),
        ("avatar_url", json!({ "avatar_url": 7 }), "M_INVALID_PARAM"),
        ("displayname", json!({ "name": "x" }), "M_MISSING_PARAM"),
        ("displayname", json!([]), "M_BAD_JSON"),
        (&long, json!({ &long: 7 }), "M_KEY_TOO_LARGE"),
        ("a.b", json!({ "a.b": large }), "M_PROFILE_TOO_LARGE"),
    ] {
        let path = format!("/profile/{}/{key}", alice.id);

        let (status, body) = server.put(&alice, &path, body).await;

        assert_eq!(status, StatusCode::BAD_REQUEST, "{key}");
        assert_eq!(body["errcode"], code, "{key}");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_new_name_is_shown_in_all_rooms(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let left = server.create_public_room(&alice).await;
    server
        .post(&alice, &format!("/rooms/{left}/leave"), json!({}))
        .await;
    let mut rooms = Vec::new();
    for _ in 0..3 {
        rooms.push(server.create_public_room(&alice).await);
    }
    let field = format!("/profile/{}/displayname", alice.id);

    for name in ["Alice", "Alicia"] {
        server
            .put(&alice, &field, json!({ "displayname": name }))
            .await;
        for room in &rooms {
            let (_, member) = server
                .state_of(&alice, room, "m.room.member", &alice.id)
                .await;
            assert_eq!(member, json!({ "membership": "join", "displayname": name }));
        }
    }
    server
        .put(&alice, &field, json!({ "displayname": null }))
        .await;
    let (_, member) = server
        .state_of(&alice, &rooms[0], "m.room.member", &alice.id)
        .await;
    assert_eq!(member, json!({ "membership": "join" }));
    let (_, joined) = server.get(&alice, "/joined_rooms").await;
    assert_eq!(joined["joined_rooms"].as_array().unwrap().len(), 3);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_name_that_did_not_spread_spreads_after_a_restart(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let user = ruma::UserId::parse(&alice.id).unwrap();
    let user = server.state.interner.user(&user).await.unwrap();
    server.state.member_profiles.announce(user).await.unwrap();
    let name = json!("Alice");
    let profiles = &server.state.profiles;
    profiles.set(user, "displayname", &name).await.unwrap();
    drop(server);

    let server = TestServer::new(pool).await;

    for _ in 0..200 {
        let (_, member) = server
            .state_of(&alice, &room, "m.room.member", &alice.id)
            .await;
        if member["displayname"] == "Alice" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the name did not spread");
}
