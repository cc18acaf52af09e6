//! How many users are joined to a room, as its row says and as one counts them.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::TestServer;

/// How many things happen.
const ACTIONS: usize = 150;

/// Rooms whose counts are not those of their members: number, counts of the row, counts of the members.
async fn miscounted(pool: &PgPool) -> Vec<(i64, i64, i64, i64, i64)> {
    sqlx::query_as(
        "SELECT nid, joined, joined_local, members, locals FROM room, LATERAL (
             SELECT count(*) AS members, count(a.user_nid) AS locals
             FROM membership m LEFT JOIN account a ON a.user_nid = m.user_nid
             WHERE m.room_nid = room.nid AND m.membership = 'join') AS counted
         WHERE (joined, joined_local) <> (members, locals)",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn counts_are_right_whoever_comes_and_goes(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let mut users = Vec::new();
    for name in ["alice", "bob", "carol", "dave", "erin", "frank"] {
        users.push(server.register(name).await);
    }
    let mut rooms = Vec::new();
    for user in &users[..4] {
        let body = json!({ "preset": "public_chat", "visibility": "public" });
        rooms.push(server.create_room(user, body).await);
    }
    let mut random = StdRng::seed_from_u64(7);
    let mut done = 0;
    for _ in 0..ACTIONS {
        let actor = &users[random.random_range(0..users.len())];
        let other = &users[random.random_range(0..users.len())];
        let room = &rooms[random.random_range(0..rooms.len())];
        let actions = ["join", "join", "leave", "invite", "kick", "ban", "unban"];
        let action = actions[random.random_range(0..actions.len())];
        let body = match action {
            "join" | "leave" => json!({}),
            _ => json!({ "user_id": other.id }),
        };
        let path = format!("/rooms/{room}/{action}");
        let (status, _) = server.post(actor, &path, body).await;
        done += usize::from(status.is_success());
    }
    assert!(done > ACTIONS / 4, "{done} actions were allowed");

    assert_eq!(miscounted(&pool).await, []);
    let (_, page) = server.get_anonymously("/publicRooms").await;
    let listed = page["chunk"].as_array().unwrap().iter();
    let listed: Vec<(&str, i64)> = listed
        .map(|room| {
            let joined = room["num_joined_members"].as_i64();
            (room["room_id"].as_str().unwrap(), joined.unwrap())
        })
        .collect();
    let mut sorted = listed.clone();
    let age = |id: &str| rooms.iter().position(|room| room == id);
    sorted.sort_by_key(|(id, joined)| (-joined, age(id)));
    assert_eq!(listed, sorted);
    assert!(listed.iter().all(|(_, joined)| *joined > 0));
}

/// A server that lost its database is told by others of users who register again.
#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn members_who_get_accounts_count_as_ours(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    server.create_public_room(&alice).await;
    sqlx::query(
        "WITH bob AS (INSERT INTO user_id (user_id) VALUES ('@bob:example.org') RETURNING nid)
         INSERT INTO membership (user_nid, room_nid, membership, sender_nid, position)
         SELECT bob.nid, room.nid, 'join', bob.nid, 1 FROM bob, room",
    )
    .execute(&pool)
    .await
    .unwrap();
    let counts = "SELECT joined, joined_local FROM room";
    let before: (i64, i64) = sqlx::query_as(counts).fetch_one(&pool).await.unwrap();
    assert_eq!(before, (2, 1));

    server.register("bob").await;

    let after: (i64, i64) = sqlx::query_as(counts).fetch_one(&pool).await.unwrap();
    assert_eq!(after, (2, 2));
    assert_eq!(miscounted(&pool).await, []);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_published_room_that_all_have_left_is_not_listed(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let body = json!({ "visibility": "public" });
    let room = server.create_room(&alice, body).await;
    let path = format!("/rooms/{room}/leave");
    server.post(&alice, &path, json!({})).await;

    let (_, page) = server.get_anonymously("/publicRooms").await;

    let empty: [Value; 0] = [];
    assert_eq!(
        page,
        json!({ "chunk": empty, "total_room_count_estimate": 0 })
    );
}
