//! `/user/{userId}`: account data, tags, filters

use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use super::server::TestServer;

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn account_data_is_given_back(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let path = format!("/user/{}/account_data/test.key", alice.id);
    assert_eq!(server.get(&alice, &path).await.0, StatusCode::NOT_FOUND);

    for value in ["first", "second"] {
        let (status, _) = server.put(&alice, &path, json!({ "value": value })).await;
        assert_eq!(status, StatusCode::OK);
        let (_, body) = server.get(&alice, &path).await;
        assert_eq!(body, json!({ "value": value }));
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn account_data_belongs_to_its_user(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let path = format!("/user/{}/account_data/test.key", alice.id);

    for (status, body) in [
        server.get(&bob, &path).await,
        server.put(&bob, &path, json!({})).await,
    ] {
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(body["errcode"], "M_FORBIDDEN");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn what_the_server_manages_cannot_be_set(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    for kind in ["m.fully_read", "m.push_rules"] {
        for path in [
            format!("/user/{}/account_data/{kind}", alice.id),
            format!(
                "/user/{}/rooms/!a:example.org/account_data/{kind}",
                alice.id
            ),
        ] {
            let (status, body) = server.put(&alice, &path, json!({})).await;

            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert_eq!(body["errcode"], "M_BAD_JSON");
        }
    }
    let path = format!("/user/{}/account_data/m.push_rules", alice.id);
    let (status, body) = server.get(&alice, &path).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body["global"]["override"].is_array());
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn account_data_is_an_object(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let path = format!("/user/{}/account_data/test.key", alice.id);

    let (status, body) = server.put(&alice, &path, json!([1])).await;

    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_BAD_JSON");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn rooms_have_account_data_of_their_own(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_room(&alice, json!({})).await;
    let path = format!("/user/{}/rooms/{room}/account_data/test.key", alice.id);

    let (status, _) = server.put(&alice, &path, json!({ "value": 1 })).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(server.get(&alice, &path).await.1, json!({ "value": 1 }));
    let global = format!("/user/{}/account_data/test.key", alice.id);
    assert_eq!(server.get(&alice, &global).await.0, StatusCode::NOT_FOUND);
    let bad = format!("/user/{}/rooms/room/account_data/test.key", alice.id);
    assert_eq!(
        server.get(&alice, &bad).await.1["errcode"],
        "M_INVALID_PARAM"
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn tags_are_added_and_removed(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_room(&alice, json!({})).await;
    let tags = format!("/user/{}/rooms/{room}/tags", alice.id);
    assert_eq!(server.get(&alice, &tags).await.1, json!({ "tags": {} }));

    let order = json!({ "order": 0.25 });
    server.put(&alice, &format!("{tags}/u.a"), order).await;
    server
        .put(&alice, &format!("{tags}/m.favourite"), json!({}))
        .await;
    assert_eq!(
        server.get(&alice, &tags).await.1,
        json!({ "tags": { "m.favourite": {}, "u.a": { "order": 0.25 } } })
    );

    let (status, _) = server
        .delete(&alice, &format!("{tags}/u.a"), json!({}))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        server.get(&alice, &tags).await.1,
        json!({ "tags": { "m.favourite": {} } })
    );
    let data = format!("/user/{}/rooms/{room}/account_data/m.tag", alice.id);
    assert_eq!(
        server.get(&alice, &data).await.1,
        json!({ "tags": { "m.favourite": {} } })
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_tag_with_too_long_a_name_is_refused(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_room(&alice, json!({})).await;
    let name = "x".repeat(256);
    let path = format!("/user/{}/rooms/{room}/tags/{name}", alice.id);

    let (status, body) = server.put(&alice, &path, json!({})).await;

    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_INVALID_PARAM");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn equal_filters_share_an_id(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let path = format!("/user/{}/filter", alice.id);
    let filter = |limit| json!({ "room": { "timeline": { "limit": limit } } });

    let (_, one) = server.post(&alice, &path, filter(10)).await;
    let (_, same) = server.post(&alice, &path, filter(10)).await;
    let (_, other) = server.post(&alice, &path, filter(11)).await;

    assert_eq!(one["filter_id"], same["filter_id"]);
    assert_ne!(one["filter_id"], other["filter_id"]);
    let id = one["filter_id"].as_str().unwrap();
    let (_, body) = server.get(&alice, &format!("{path}/{id}")).await;
    assert_eq!(body, filter(10));
    for unknown in ["99", "x"] {
        let (status, body) = server.get(&alice, &format!("{path}/{unknown}")).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body["errcode"], "M_NOT_FOUND");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_filter_of_the_wrong_shape_is_refused(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let path = format!("/user/{}/filter", alice.id);

    for filter in [
        json!({ "presence": "not an object" }),
        json!({ "room": { "timeline": { "rooms": "not an array" } } }),
        json!({ "room": { "timeline": { "rooms": ["not_a_room_id"] } } }),
        json!({ "room": { "timeline": { "senders": ["not_a_sender_id"] } } }),
    ] {
        let (status, _) = server.post(&alice, &path, filter.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{filter}");
    }
}
