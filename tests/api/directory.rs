//! `/directory`, `/publicRooms` and `/rooms/…/aliases`

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::TestServer;

/// `#tea:example.org`
const TEA: &str = "/directory/room/%23tea:example.org";

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_alias_leads_to_its_room(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let body = json!({ "room_id": room });
    assert_eq!(
        server.put(&alice, TEA, body).await,
        (StatusCode::OK, json!({}))
    );

    let (status, body) = server.get_anonymously(TEA).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(body, json!({ "room_id": room, "servers": ["example.org"] }));
    let (_, body) = server.get(&alice, &format!("/rooms/{room}/aliases")).await;
    assert_eq!(body, json!({ "aliases": ["#tea:example.org"] }));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_taken_alias_is_a_conflict(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    server.put(&alice, TEA, json!({ "room_id": room })).await;

    let (status, body) = server.put(&alice, TEA, json!({ "room_id": room })).await;

    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(body["errcode"], "M_UNKNOWN");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_alias_that_is_not_ours_is_refused(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    for alias in ["%23tea:elsewhere.org", "%23te%20a:example.org", "tea"] {
        let path = format!("/directory/room/{alias}");

        let (status, body) = server.put(&alice, &path, json!({ "room_id": room })).await;

        assert_eq!(status, StatusCode::BAD_REQUEST, "{alias}");
        assert_eq!(body["errcode"], "M_INVALID_PARAM", "{alias}");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_unknown_alias_is_not_found(pool: PgPool) {
    let server = TestServer::alone(pool).await;
    let alice = server.register("alice").await;
    for path in [TEA, "/directory/room/%23tea:elsewhere.org"] {
        for (status, body) in [
            server.get_anonymously(path).await,
            server.delete(&alice, path, Value::Null).await,
        ] {
            assert_eq!(status, StatusCode::NOT_FOUND);
            assert_eq!(body["errcode"], "M_NOT_FOUND");
        }
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn strangers_neither_name_a_room_nor_hear_its_names(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;

    for (status, body) in [
        server.put(&bob, TEA, json!({ "room_id": room })).await,
        server.get(&bob, &format!("/rooms/{room}/aliases")).await,
        server.get(&bob, "/rooms/!no:example.org/aliases").await,
    ] {
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(body["errcode"], "M_FORBIDDEN");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_world_readable_room_tells_its_names(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    let content = json!({ "history_visibility": "world_readable" });
    server
        .set_state(&alice, &room, "m.room.history_visibility", content)
        .await;

    let (status, body) = server.get(&bob, &format!("/rooms/{room}/aliases")).await;

    assert_eq!((status, body), (StatusCode::OK, json!({ "aliases": [] })));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_alias_is_removed_by_its_maker_a_moderator_or_an_administrator(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let admin = server.register_admin("admin").await;
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let target = json!({ "room_id": room });

    server.put(&alice, TEA, target.clone()).await;
    let (status, body) = server.delete(&bob, TEA, Value::Null).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body["errcode"], "M_FORBIDDEN");
    server.delete(&alice, TEA, Value::Null).await;
    for (maker, remover) in [(&bob, &bob), (&bob, &alice), (&alice, &admin)] {
        server.put(maker, TEA, target.clone()).await;
        let (status, body) = server.delete(remover, TEA, Value::Null).await;
        assert_eq!((status, body), (StatusCode::OK, json!({})));
        let (status, _) = server.get_anonymously(TEA).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_removed_alias_is_no_canonical_alias_any_more(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    server.put(&alice, TEA, json!({ "room_id": room })).await;
    let content = json!({ "alias": "#tea:example.org", "alt_aliases": ["#tea:example.org"] });
    server
        .set_state(&alice, &room, "m.room.canonical_alias", content)
        .await;

    server.delete(&alice, TEA, Value::Null).await;

    let (_, content) = server
        .state_of(&alice, &room, "m.room.canonical_alias", "")
        .await;
    assert_eq!(content, json!({}));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_maker_removes_a_canonical_alias_without_power(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    server.put(&bob, TEA, json!({ "room_id": room })).await;
    let content = json!({ "alias": "#tea:example.org" });
    server
        .set_state(&alice, &room, "m.room.canonical_alias", content.clone())
        .await;

    let (status, _) = server.delete(&bob, TEA, Value::Null).await;

    assert_eq!(status, StatusCode::OK);
    let (_, stays) = server
        .state_of(&alice, &room, "m.room.canonical_alias", "")
        .await;
    assert_eq!(stays, content);
}

/// The ids of the rooms of a page.
fn ids(page: &Value) -> Vec<&str> {
    let chunk = page["chunk"].as_array().unwrap();
    chunk
        .iter()
        .map(|room| room["room_id"].as_str().unwrap())
        .collect()
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_published_room_is_listed_with_what_it_says_of_itself(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let body = json!({
        "visibility": "public", "room_alias_name": "tea", "name": "un nom français",
        "topic": "à la française", "creation_content": { "type": "m.space" },
    });
    let room = server.create_room(&alice, body).await;
    server.create_public_room(&alice).await;

    let (status, page) = server.get_anonymously("/publicRooms").await;

    assert_eq!(status, StatusCode::OK);
    let expected = json!({
        "room_id": room, "name": "un nom français", "topic": "à la française",
        "canonical_alias": "#tea:example.org", "num_joined_members": 1, "room_type": "m.space",
        "world_readable": false, "guest_can_join": false, "join_rule": "public",
    });
    assert_eq!(
        page,
        json!({ "chunk": [expected], "total_room_count_estimate": 1 })
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn pages_go_on_and_back_and_large_rooms_come_first(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let public = json!({ "visibility": "public" });
    let mut rooms = Vec::new();
    for _ in 0..5 {
        rooms.push(server.create_room(&alice, public.clone()).await);
    }
    server.join(&bob, &rooms[3]).await;
    let order = [&rooms[3], &rooms[0], &rooms[1], &rooms[2], &rooms[4]];

    let (_, first) = server.get_anonymously("/publicRooms?limit=2").await;
    assert_eq!(ids(&first), order[..2]);
    assert!(first.get("prev_batch").is_none());
    let since = first["next_batch"].as_str().unwrap();
    let path = format!("/publicRooms?limit=2&since={since}");
    let (_, second) = server.get_anonymously(&path).await;
    assert_eq!(ids(&second), order[2..4]);
    let since = second["next_batch"].as_str().unwrap();
    let path = format!("/publicRooms?limit=2&since={since}");
    let (_, third) = server.get_anonymously(&path).await;
    assert_eq!(ids(&third), order[4..]);
    assert!(third.get("next_batch").is_none());
    let since = third["prev_batch"].as_str().unwrap();
    let path = format!("/publicRooms?limit=2&since={since}");
    let (_, back) = server.get_anonymously(&path).await;
    assert_eq!(ids(&back), order[2..4]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn rooms_are_searched_by_words_and_types(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let named = json!({ "visibility": "public", "name": "Green TEA" });
    let named = server.create_room(&alice, named).await;
    let space = json!({ "visibility": "public", "topic": "tea and more", "creation_content": { "type": "m.space" } });
    let space = server.create_room(&alice, space).await;
    let other = json!({ "visibility": "public", "name": "coffee" });
    let other = server.create_room(&alice, other).await;

    for (filter, expected) in [
        (
            json!({ "generic_search_term": "tea" }),
            vec![&named, &space],
        ),
        (json!({ "room_types": [null] }), vec![&named, &other]),
        (json!({ "room_types": ["m.space"] }), vec![&space]),
        (
            json!({ "room_types": [null], "generic_search_term": "Tea" }),
            vec![&named],
        ),
        (json!({ "generic_search_term": "milk" }), vec![]),
    ] {
        let body = json!({ "filter": filter });
        let (status, page) = server.post(&alice, "/publicRooms", body).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(ids(&page), expected, "{filter}");
    }
    let body = json!({ "third_party_instance_id": "irc" });
    let (_, page) = server.post(&alice, "/publicRooms", body).await;
    assert!(ids(&page).is_empty());
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn another_server_is_not_known_and_a_wrong_token_refused(pool: PgPool) {
    let server = TestServer::alone(pool).await;

    let (status, body) = server
        .get_anonymously("/publicRooms?server=elsewhere.org")
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["errcode"], "M_NOT_FOUND");
    let (status, body) = server.get_anonymously("/publicRooms?since=tea").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_INVALID_PARAM");
    let (status, _) = server
        .get_anonymously("/publicRooms?server=example.org")
        .await;
    assert_eq!(status, StatusCode::OK);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_moderator_publishes_a_room_and_takes_it_back(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let path = format!("/directory/list/room/{room}");
    let visibility = |name: &str| (StatusCode::OK, json!({ "visibility": name }));
    assert_eq!(server.get_anonymously(&path).await, visibility("private"));

    let (status, body) = server.put(&bob, &path, json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body["errcode"], "M_FORBIDDEN");
    assert_eq!(server.put(&alice, &path, json!({})).await.0, StatusCode::OK);
    assert_eq!(server.get_anonymously(&path).await, visibility("public"));
    let private = json!({ "visibility": "private" });
    server.put(&alice, &path, private).await;
    assert_eq!(server.get_anonymously(&path).await, visibility("private"));
    let odd = json!({ "visibility": "odd" });
    assert_eq!(
        server.put(&alice, &path, odd).await.0,
        StatusCode::BAD_REQUEST
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_unknown_room_has_no_visibility(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let path = "/directory/list/room/!no:example.org";

    for (status, body) in [
        server.get_anonymously(path).await,
        server.put(&alice, path, json!({})).await,
    ] {
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body["errcode"], "M_NOT_FOUND");
    }
}
