//! `/rooms/{roomId}/messages`

use hearth_core::RoomNid;
use hearth_users::account_data::Key;
use http::StatusCode;
use ruma::UserId;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    chat::{encode, ids},
    server::{TestServer, User},
};

/// Pages through all of the history and returns the ids in the order of the pages.
async fn walk(server: &TestServer, user: &User, room: &str, query: &str) -> Vec<Value> {
    let mut events = Vec::new();
    let mut from = String::new();
    for _ in 0..50 {
        let query = format!("{query}{from}");
        let (status, body) = server.messages(user, room, &query).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        events.extend_from_slice(body["chunk"].as_array().unwrap());
        match body["end"].as_str() {
            Some(end) => from = format!("&from={}", encode(end)),
            None => return events,
        }
    }
    panic!("the history does not end");
}

fn bodies(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| event["content"]["body"].as_str())
        .collect()
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn history_is_read_to_its_end_in_both_directions(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    for text in ["one", "two", "three", "four", "five"] {
        server.say(&alice, &room, text).await;
    }

    let back = walk(&server, &alice, &room, "dir=b&limit=3").await;
    let mut forth = walk(&server, &alice, &room, "dir=f&limit=4").await;

    assert_eq!(bodies(&back), ["five", "four", "three", "two", "one"]);
    assert_eq!(back.last().unwrap()["type"], "m.room.create");
    forth.reverse();
    assert_eq!(ids(&Value::from(back)), ids(&Value::from(forth)));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn history_is_read_forwards_unless_said(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;

    let (status, page) = server.messages(&alice, &room, "limit=1").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(page["chunk"][0]["type"], "m.room.create");

    let path = format!("/rooms/{room}/messages");
    let (status, page) = server.get(&alice, &path).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(page["chunk"][0]["type"], "m.room.create");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_page_stops_at_its_second_token(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    for text in ["one", "two", "three", "four"] {
        server.say(&alice, &room, text).await;
    }
    let (_, page) = server.messages(&alice, &room, "dir=b&limit=2").await;
    let to = encode(page["end"].as_str().unwrap());

    let (_, body) = server
        .messages(&alice, &room, &format!("dir=b&limit=10&to={to}"))
        .await;

    assert_eq!(bodies(body["chunk"].as_array().unwrap()), ["four", "three"]);
    assert_eq!(body["end"], Value::Null);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_event_that_came_late_is_on_one_side_of_every_token(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let first = server.say(&alice, &room, "one").await;
    for text in ["two", "three", "four"] {
        server.say(&alice, &room, text).await;
    }
    let late = server.say(&alice, &room, "late").await;
    server.say(&alice, &room, "five").await;
    // As if another server had sent it at the time of the first one.
    sqlx::query(
        r#"UPDATE event SET depth = f.depth, json = replace(event.json, '"depth":' || event.depth, '"depth":' || f.depth)
           FROM event f WHERE event.event_id = $1 AND f.event_id = $2"#,
    )
    .bind(&late)
    .bind(&first)
    .execute(&pool)
    .await
    .unwrap();
    let order: i64 = sqlx::query_scalar("SELECT stream_order FROM event WHERE event_id = $1")
        .bind(&late)
        .fetch_one(&pool)
        .await
        .unwrap();
    let server = TestServer::new(pool).await;
    let before_late = format!("&from=o1_{}", order - 1);

    let back = walk_from(&server, &alice, &room, "dir=b&limit=2", &before_late).await;
    let forth = walk_from(&server, &alice, &room, "dir=f&limit=1", &before_late).await;
    let all = walk(&server, &alice, &room, "dir=b&limit=2").await;

    assert_eq!(bodies(&back), ["four", "three", "two", "one"]);
    assert_eq!(bodies(&forth), ["late", "five"]);
    assert_eq!(
        bodies(&all),
        ["five", "four", "three", "two", "late", "one"]
    );
}

/// Like [`walk`], beginning at a token.
async fn walk_from(
    server: &TestServer,
    user: &User,
    room: &str,
    query: &str,
    from: &str,
) -> Vec<Value> {
    let (_, body) = server.messages(user, room, &format!("{query}{from}")).await;
    let mut events = body["chunk"].as_array().unwrap().clone();
    let mut end = body["end"].as_str().map(ToOwned::to_owned);
    while let Some(from) = end {
        let query = format!("{query}&from={}", encode(&from));
        let (_, body) = server.messages(user, room, &query).await;
        events.extend_from_slice(body["chunk"].as_array().unwrap());
        end = body["end"].as_str().map(ToOwned::to_owned);
    }
    events
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_filter_says_which_events_come(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    server.say(&alice, &room, "hers").await;
    server.say(&bob, &room, "his").await;
    let picture = json!({ "msgtype": "m.image", "body": "picture", "url": "mxc://a/b" });
    server
        .send_as(&bob, &room, "m.room.message", "p", picture)
        .await;

    for (filter, wanted) in [
        (
            json!({ "types": ["m.room.mess*"] }),
            &["picture", "his", "hers"][..],
        ),
        (
            json!({ "types": ["m.room.message"], "senders": [alice.id] }),
            &["hers"],
        ),
        (
            json!({ "types": ["m.room.message"], "not_senders": [alice.id] }),
            &["picture", "his"],
        ),
        (json!({ "contains_url": true }), &["picture"]),
        (
            json!({ "contains_url": false, "not_types": ["m.room.m*r"] }),
            &["his", "hers"],
        ),
        (json!({ "not_rooms": [room] }), &[]),
        (
            json!({ "types": ["m.room.message"], "limit": 1 }),
            &["picture"],
        ),
    ] {
        let query = format!("dir=b&limit=50&filter={}", encode(&filter.to_string()));
        let (status, body) = server.messages(&alice, &room, &query).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(
            bodies(body["chunk"].as_array().unwrap()),
            wanted,
            "{filter}"
        );
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_left_reads_up_to_the_leave(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    server.say(&alice, &room, "before").await;
    server.leave(&bob, &room).await;
    server.say(&alice, &room, "after").await;

    let events = walk(&server, &bob, &room, "dir=b&limit=2").await;

    assert_eq!(bodies(&events), ["before"]);
    assert_eq!(events[0]["content"]["membership"], "leave");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn strangers_may_not_read_and_nobody_may_read_nothing(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;

    for room in [room.as_str(), "!nothing:example.org"] {
        let (status, body) = server.messages(&bob, room, "dir=b").await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(body["errcode"], "M_FORBIDDEN");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn everybody_may_read_what_is_world_readable(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    server.say(&alice, &room, "hidden").await;
    server
        .set_state(
            &alice,
            &room,
            "m.room.history_visibility",
            json!({ "history_visibility": "world_readable" }),
        )
        .await;
    server.say(&alice, &room, "open").await;

    let events = walk(&server, &bob, &room, "dir=b&limit=2").await;

    assert_eq!(bodies(&events), ["open"]);
    let (status, _) = server.get(&bob, &format!("/rooms/{room}/state")).await;
    assert_eq!(status, StatusCode::OK);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn members_are_loaded_lazily(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    server.say(&bob, &room, "his").await;
    let filter = encode(r#"{"lazy_load_members":true}"#);

    let (_, body) = server
        .messages(&alice, &room, &format!("dir=b&limit=1&filter={filter}"))
        .await;

    let state = body["state"].as_array().unwrap();
    assert_eq!(state.len(), 1, "{body}");
    assert_eq!(state[0]["state_key"], bob.id.as_str());
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_foreign_token_and_a_bad_filter_are_refused(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;

    for (query, code) in [
        ("dir=b&from=bogus", "M_INVALID_PARAM"),
        ("dir=b&to=bogus", "M_INVALID_PARAM"),
        ("dir=b&filter=%7B", "M_NOT_JSON"),
        ("dir=x", "M_INVALID_PARAM"),
    ] {
        let (status, body) = server.messages(&alice, &room, query).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(body["errcode"], code, "{query}");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn unsigned_fits_the_reader(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    server.say(&alice, &room, "txn").await;
    server.join(&bob, &room).await;
    let topic = |text: &str| json!({ "topic": text });
    server
        .set_state(&alice, &room, "m.room.topic", topic("old"))
        .await;
    server
        .set_state(&alice, &room, "m.room.topic", topic("new"))
        .await;

    let (_, hers) = server.messages(&alice, &room, "dir=b&limit=4").await;
    let (_, his) = server.messages(&bob, &room, "dir=b&limit=4").await;

    let (hers, his) = (&hers["chunk"], &his["chunk"]);
    assert_eq!(hers[3]["unsigned"]["transaction_id"], "txn");
    assert_eq!(his[3]["unsigned"]["transaction_id"], Value::Null);
    assert_eq!(his[3]["unsigned"]["membership"], "leave");
    assert_eq!(his[2]["unsigned"]["membership"], "join");
    assert_eq!(hers[0]["unsigned"]["prev_content"]["topic"], "old");
    assert_eq!(hers[0]["unsigned"]["replaces_state"], hers[1]["event_id"]);
    assert!(hers[0]["unsigned"]["age"].is_number());
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn events_of_ignored_users_are_left_out(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    server.say(&bob, &room, "his").await;
    server.say(&alice, &room, "hers").await;
    let key = Key {
        user: server
            .state
            .interner
            .user(&UserId::parse(&alice.id).unwrap())
            .await
            .unwrap(),
        room: RoomNid(0),
        kind: "m.ignored_user_list",
    };
    let ignored = json!({ "ignored_users": { bob.id.as_str(): {} } });
    let ignored = serde_json::value::to_raw_value(&ignored).unwrap();
    server.state.account_data.set(key, &ignored).await.unwrap();

    let events = walk(&server, &alice, &room, "dir=b&limit=3").await;

    assert_eq!(bodies(&events), ["hers"]);
    assert!(
        events
            .iter()
            .any(|event| event["state_key"] == bob.id.as_str())
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_filter_says_how_events_refer_to_others(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let root = server.say(&alice, &room, "root").await;
    for kind in ["m.thread", "m.reference"] {
        let content = json!({
            "msgtype": "m.text", "body": kind, "m.relates_to": { "rel_type": kind, "event_id": root },
        });
        server
            .send_as(&alice, &room, "m.room.message", kind, content)
            .await;
    }

    for (filter, wanted) in [
        (json!({ "rel_types": ["m.thread"] }), &["m.thread"][..]),
        (
            json!({ "org.matrix.msc3874.rel_types": ["m.thread", "m.reference"] }),
            &["m.reference", "m.thread"],
        ),
        (
            json!({ "types": ["m.room.message"], "not_rel_types": ["m.thread"] }),
            &["m.reference", "root"],
        ),
    ] {
        let query = format!("dir=b&limit=50&filter={}", encode(&filter.to_string()));
        let (_, body) = server.messages(&alice, &room, &query).await;
        assert_eq!(
            bodies(body["chunk"].as_array().unwrap()),
            wanted,
            "{filter}"
        );
    }
}
