//! `/rooms/…/upgrade`

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{TestServer, User};

async fn upgrade(server: &TestServer, user: &User, room: &str, body: Value) -> String {
    let path = format!("/rooms/{room}/upgrade");
    let (status, body) = server.post(user, &path, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["replacement_room"].as_str().unwrap().to_owned()
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_room_moves_with_its_state_names_and_bans(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let mallory = server.register("mallory").await;
    let body = json!({
        "visibility": "public", "room_alias_name": "tea", "name": "Tea", "room_version": "10",
        "creation_content": { "type": "m.space" },
    });
    let old = server.create_room(&alice, body).await;
    let body = json!({ "user_id": mallory.id, "reason": "milk" });
    server
        .post(&alice, &format!("/rooms/{old}/ban"), body)
        .await;

    let new = upgrade(&server, &alice, &old, json!({ "new_version": "12" })).await;

    let (_, create) = server.state_of(&alice, &new, "m.room.create", "").await;
    assert_eq!(create["room_version"], "12");
    assert_eq!(create["type"], "m.space");
    assert_eq!(create["predecessor"], json!({ "room_id": old }));
    for kind in ["m.room.name", "m.room.canonical_alias", "m.room.join_rules"] {
        let before = server.state_of(&alice, &old, kind, "").await;
        assert_eq!(server.state_of(&alice, &new, kind, "").await, before);
    }
    let (_, ban) = server
        .state_of(&alice, &new, "m.room.member", &mallory.id)
        .await;
    assert_eq!(ban, json!({ "membership": "ban", "reason": "milk" }));
    let (_, resolved) = server
        .get_anonymously("/directory/room/%23tea:example.org")
        .await;
    assert_eq!(resolved["room_id"], *new);
    let (_, list) = server.get_anonymously("/publicRooms").await;
    assert_eq!(list["chunk"][0]["room_id"], *new);
    assert_eq!(list["chunk"].as_array().unwrap().len(), 1);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_old_room_says_where_it_went_and_falls_silent(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let old = server.create_public_room(&alice).await;

    let new = upgrade(&server, &alice, &old, json!({ "new_version": "11" })).await;

    let (_, tombstone) = server.state_of(&alice, &old, "m.room.tombstone", "").await;
    assert_eq!(tombstone["replacement_room"], *new);
    let (_, levels) = server
        .state_of(&alice, &old, "m.room.power_levels", "")
        .await;
    assert_eq!(levels["events_default"], 50);
    assert_eq!(levels["invite"], 50);
    let (_, create) = server.state_of(&alice, &new, "m.room.create", "").await;
    assert_eq!(create["predecessor"]["room_id"], *old);
    assert!(create["predecessor"]["event_id"].is_string());
    let (_, levels) = server
        .state_of(&alice, &new, "m.room.power_levels", "")
        .await;
    assert_eq!(levels["users"][&alice.id], 100);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn new_creators_have_no_power_level(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let body = json!({ "preset": "public_chat", "room_version": "11" });
    let old = server.create_room(&alice, body).await;
    let users = json!({ &alice.id: 100, &bob.id: 100, "@carol:example.org": 50 });
    server
        .set_state(
            &alice,
            &old,
            "m.room.power_levels",
            json!({ "users": users }),
        )
        .await;

    let body = json!({ "new_version": "12", "additional_creators": [bob.id] });
    let new = upgrade(&server, &alice, &old, body).await;

    let (_, create) = server.state_of(&alice, &new, "m.room.create", "").await;
    assert_eq!(create["additional_creators"], json!([bob.id]));
    let (_, levels) = server
        .state_of(&alice, &new, "m.room.power_levels", "")
        .await;
    assert_eq!(levels["users"], json!({ "@carol:example.org": 50 }));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_room_is_upgraded_by_those_who_may_only(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let path = format!("/rooms/{room}/upgrade");

    let (status, body) = server
        .post(&bob, &path, json!({ "new_version": "12" }))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body["errcode"], "M_FORBIDDEN");
    let (status, body) = server
        .post(&alice, &path, json!({ "new_version": "99" }))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_UNSUPPORTED_ROOM_VERSION");
    let unknown = "/rooms/!no:example.org/upgrade";
    let (status, body) = server
        .post(&alice, unknown, json!({ "new_version": "12" }))
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["errcode"], "M_NOT_FOUND");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn tags_direct_chats_and_push_rules_go_along(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let old = server.create_public_room(&alice).await;
    server.join(&bob, &old).await;
    for user in [&alice, &bob] {
        for (path, body) in [
            (
                format!("/user/{}/rooms/{old}/tags/m.favourite", user.id),
                json!({ "order": 0.5 }),
            ),
            (
                format!("/user/{}/account_data/m.direct", user.id),
                json!({ "@carol:example.org": [old] }),
            ),
            (
                format!("/pushrules/global/room/{old}"),
                json!({ "actions": [] }),
            ),
        ] {
            let (status, body) = server.put(user, &path, body).await;
            assert_eq!(status, StatusCode::OK, "{path} {body}");
        }
    }

    let new = upgrade(&server, &alice, &old, json!({ "new_version": "12" })).await;
    server.join(&bob, &new).await;

    for user in [&alice, &bob] {
        let path = format!("/user/{}/rooms/{new}/tags", user.id);
        let (_, tags) = server.get(user, &path).await;
        assert_eq!(tags, json!({ "tags": { "m.favourite": { "order": 0.5 } } }));
        let path = format!("/user/{}/account_data/m.direct", user.id);
        let (_, direct) = server.get(user, &path).await;
        assert_eq!(direct, json!({ "@carol:example.org": [old, new] }));
        let path = format!("/pushrules/global/room/{new}");
        let (status, rule) = server.get(user, &path).await;
        assert_eq!(status, StatusCode::OK, "{rule}");
        assert_eq!(rule["actions"], json!([]));
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn guests_are_kept_out_as_before(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let old = server.create_public_room(&alice).await;
    let guests = "m.room.guest_access";
    let (status, _) = server.state_of(&alice, &old, guests, "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let new = upgrade(&server, &alice, &old, json!({ "new_version": "12" })).await;

    let (_, content) = server.state_of(&alice, &new, guests, "").await;
    assert_eq!(content, json!({ "guest_access": "forbidden" }));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_large_space_takes_all_its_rooms_along(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let old = server.create_public_room(&alice).await;
    for child in 0..510 {
        let path = format!("/rooms/{old}/state/m.space.child/!{child}:example.org");
        let body = json!({ "via": ["example.org"] });
        assert_eq!(server.put(&alice, &path, body).await.0, StatusCode::OK);
    }

    let new = upgrade(&server, &alice, &old, json!({ "new_version": "12" })).await;

    let (_, state) = server.get(&alice, &format!("/rooms/{new}/state")).await;
    let events = state.as_array().unwrap().iter();
    let children = events.filter(|event| event["type"] == "m.space.child");
    assert_eq!(children.count(), 510);
}
