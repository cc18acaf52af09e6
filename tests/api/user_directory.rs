//! `/user_directory/search`, `/mutual_rooms`

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{TestServer, User};

async fn search(server: &TestServer, user: &User, term: &str) -> Value {
    let body = json!({ "search_term": term });
    let (status, body) = server.post(user, "/user_directory/search", body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["results"].clone()
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn members_of_public_rooms_are_found_by_public_names_only(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let eve = server.register("eve").await;
    let path = format!("/profile/{}/displayname", alice.id);
    let name = json!({ "displayname": "Alice Cooper" });
    server.put(&alice, &path, name).await;
    assert_eq!(search(&server, &eve, "alice").await, json!([]));
    server
        .create_room(&alice, json!({ "visibility": "public" }))
        .await;
    let private = server
        .create_room(&bob, json!({ "invite": [alice.id] }))
        .await;
    let join = format!("/rooms/{private}/join");
    assert_eq!(
        server.post(&alice, &join, json!({})).await.0,
        StatusCode::OK
    );
    let member = format!("/rooms/{private}/state/m.room.member/{}", alice.id);
    let name = json!({ "membership": "join", "displayname": "Freddy" });
    server.put(&alice, &member, name).await;

    let found = json!([{ "user_id": alice.id, "display_name": "Alice Cooper" }]);
    for user in [&bob, &eve] {
        assert_eq!(search(&server, user, "cooper ALICE").await, found);
        assert_eq!(search(&server, user, "@alice").await, found);
        assert_eq!(search(&server, user, "lic").await, found);
        assert_eq!(search(&server, user, "example").await, json!([]));
    }
    assert_eq!(search(&server, &eve, "Freddy").await, json!([]));
    assert_eq!(search(&server, &eve, "bob").await, json!([]));
    assert_eq!(search(&server, &alice, "alice").await, json!([]));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn members_of_rooms_that_anybody_may_join_are_found(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let eve = server.register("eve").await;
    server.create_room(&bob, json!({})).await;
    server
        .create_room(&alice, json!({ "preset": "public_chat" }))
        .await;

    let found = search(&server, &eve, "ali").await;
    assert_eq!(found[0]["user_id"], alice.id);
    assert_eq!(search(&server, &eve, "bob").await, json!([]));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_search_says_that_there_are_more(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server
        .create_room(&alice, json!({ "preset": "public_chat" }))
        .await;
    for name in ["tea1", "tea2", "tea3"] {
        let user = server.register(name).await;
        let join = format!("/rooms/{room}/join");
        server.post(&user, &join, json!({})).await;
    }

    let body = json!({ "search_term": "tea", "limit": 2 });
    let (_, body) = server.post(&alice, "/user_directory/search", body).await;

    assert_eq!(body["results"].as_array().unwrap().len(), 2);
    assert_eq!(body["limited"], true);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn mutual_rooms_are_those_in_which_both_are_joined(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let preset = json!({ "preset": "public_chat" });
    let room = server.create_room(&alice, preset.clone()).await;
    server.create_room(&alice, preset).await;
    let join = format!("/rooms/{room}/join");
    server.post(&bob, &join, json!({})).await;
    let path = |user: &str| format!("/_matrix/client/v1/mutual_rooms?user_id={user}");

    let (_, body) = server.get(&alice, &path(&bob.id)).await;
    assert_eq!(body, json!({ "count": 1, "joined": [room] }));

    let (_, body) = server.get(&alice, &path("@none:example.org")).await;
    assert_eq!(body, json!({ "count": 0, "joined": [] }));
    for bad in [path(&alice.id), format!("{}&from=x", path(&bob.id))] {
        let (status, body) = server.get(&alice, &bad).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        assert_eq!(body["errcode"], "M_INVALID_PARAM");
    }
}
