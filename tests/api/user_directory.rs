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
        assert_eq!(search(&server, user, "a").await, found);
        assert_eq!(search(&server, user, "lice").await, json!([]));
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
async fn users_are_found_by_the_name_that_they_have_now(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let path = format!("/profile/{}/displayname", bob.id);
    let names = ["Élodie Ünlü", "山田太郎"];
    for name in names {
        server
            .put(&bob, &path, json!({ "displayname": name }))
            .await;
        for (term, sought) in [("ÉLO ün", names[0]), ("太郎", names[1]), ("bob", name)] {
            let found = search(&server, &alice, term).await;
            let expected = match sought == name {
                true => json!([{ "user_id": bob.id, "display_name": name }]),
                false => json!([]),
            };
            assert_eq!(found, expected, "{term} for {name}");
        }
    }

    server.delete(&bob, &path, Value::Null).await;

    assert_eq!(search(&server, &alice, "太郎").await, json!([]));
    let found = search(&server, &alice, "bob").await;
    assert_eq!(found, json!([{ "user_id": bob.id }]));

    let body = json!({ "auth": bob.auth() });
    let (status, _) = server.post(&bob, "/account/deactivate", body).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(search(&server, &alice, "bob").await, json!([]));
}

/// What others call themselves in rooms of which the searcher knows nothing finds them for nobody.
#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn users_of_other_servers_are_found_by_the_names_that_one_sees(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let shared = server.create_room(&alice, json!({})).await;
    let hidden = server.create_room(&bob, json!({})).await;
    for (room, name) in [(&shared, "Known Name"), (&hidden, "Secret Name")] {
        sqlx::query(
            "WITH who AS (INSERT INTO user_id (user_id) VALUES ('@rem:elsewhere.org')
                          ON CONFLICT (user_id) DO UPDATE SET user_id = excluded.user_id RETURNING nid),
             word AS (INSERT INTO user_word SELECT who.nid, w FROM who, regexp_split_to_table(lower($2), ' ') AS w
                      UNION SELECT who.nid, '@rem:elsewhere.org' FROM who ON CONFLICT DO NOTHING)
             INSERT INTO membership (user_nid, room_nid, membership, sender_nid, position, display_name)
             SELECT who.nid, room.nid, 'join', who.nid, 1, $2 FROM who, room WHERE room_id = $1",
        )
        .bind(room)
        .bind(name)
        .execute(&pool)
        .await
        .unwrap();
    }

    let found = |name: &str| json!([{ "user_id": "@rem:elsewhere.org", "display_name": name }]);
    for term in ["kno", "name", "@rem:else"] {
        assert_eq!(search(&server, &alice, term).await, found("Known Name"));
    }
    assert_eq!(search(&server, &alice, "secret").await, json!([]));
    assert_eq!(search(&server, &bob, "secret").await, found("Secret Name"));
    assert_eq!(search(&server, &bob, "known").await, json!([]));
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
async fn control_characters_separate_words(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server
        .create_room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let tea = server.register("tea1").await;
    server
        .post(&tea, &format!("/rooms/{room}/join"), json!({}))
        .await;

    for term in ["@tea\u{0}", "\u{0}@tea1", "tea\u{7}"] {
        let found = search(&server, &alice, term).await;
        assert_eq!(found[0]["user_id"], tea.id, "{term:?}");
    }
    assert_eq!(search(&server, &alice, "\u{0}").await, json!([]));
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
