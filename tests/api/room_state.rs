//! `/rooms/{roomId}/state`, `/members`, `/joined_members`, `/event`, `/context`, `/timestamp_to_event`, `/initialSync`

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    chat::{encode, ids},
    server::TestServer,
};

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_state_event_is_read_with_and_without_its_empty_key(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    server
        .set_state(&alice, &room, "m.room.name", json!({ "name": "Tea" }))
        .await;

    for rest in ["m.room.name", "m.room.name/"] {
        let path = format!("/rooms/{room}/state/{rest}");
        let (status, body) = server.get(&alice, &path).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(body, json!({ "name": "Tea" }));
        let (_, body) = server.get(&alice, &format!("{path}?format=event")).await;
        assert_eq!(body["content"]["name"], "Tea");
        assert_eq!(body["sender"], alice.id.as_str());
        assert_eq!(body["room_id"], room.as_str());
    }
    let path = format!("/rooms/{room}/state/m.room.member/{}", encode(&alice.id));
    let (_, body) = server.get(&alice, &path).await;
    assert_eq!(body["membership"], "join");
    let path = format!("/rooms/{room}/state/m.room.topic");
    let (status, body) = server.get(&alice, &path).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["errcode"], "M_NOT_FOUND");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn after_leaving_the_state_is_that_of_the_leave(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let carol = server.register("carol").await;
    let room = server.create_public_room(&alice).await;
    let name = |name: &str| json!({ "name": name });
    server
        .set_state(&alice, &room, "m.room.name", name("Tea"))
        .await;
    server.join(&bob, &room).await;
    server.leave(&bob, &room).await;
    server
        .set_state(&alice, &room, "m.room.name", name("Coffee"))
        .await;
    server.join(&carol, &room).await;

    let path = format!("/rooms/{room}/state/m.room.name");
    let (_, body) = server.get(&bob, &path).await;
    assert_eq!(body["name"], "Tea");
    let (_, state) = server.get(&bob, &format!("/rooms/{room}/state")).await;
    let state = state.as_array().unwrap();
    assert!(
        state
            .iter()
            .all(|event| event["state_key"] != carol.id.as_str())
    );
    let own = state
        .iter()
        .find(|event| event["state_key"] == bob.id.as_str());
    assert_eq!(own.unwrap()["content"]["membership"], "leave");
    let (_, members) = server.get(&bob, &format!("/rooms/{room}/members")).await;
    assert_eq!(members["chunk"].as_array().unwrap().len(), 2);
    let joined = format!("/rooms/{room}/joined_members");
    assert_eq!(server.get(&bob, &joined).await.0, StatusCode::FORBIDDEN);

    let (status, _) = server
        .post(&bob, &format!("/rooms/{room}/forget"), json!({}))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(server.get(&bob, &path).await.0, StatusCode::FORBIDDEN);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn strangers_do_not_see_the_state(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;

    for rest in ["state", "state/m.room.name", "members", "joined_members"] {
        let (status, body) = server.get(&bob, &format!("/rooms/{room}/{rest}")).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{rest}");
        assert_eq!(body["errcode"], "M_FORBIDDEN");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn members_are_listed_by_membership(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let carol = server.register("carol").await;
    let room = server.create_public_room(&alice).await;
    let (_, page) = server.messages(&alice, &room, "dir=b&limit=1").await;
    let start = encode(page["start"].as_str().unwrap());
    let synced = server.sync_with(&alice, "").await;
    let timeline = &synced["rooms"]["join"][&room]["timeline"];
    let before_all = encode(timeline["prev_batch"].as_str().unwrap());
    server.join(&bob, &room).await;
    server.join(&carol, &room).await;
    server.leave(&carol, &room).await;

    for (query, wanted) in [
        ("", &[&alice, &bob, &carol][..]),
        ("?membership=join", &[&alice, &bob]),
        ("?not_membership=leave", &[&alice, &bob]),
        ("?membership=leave", &[&carol]),
        (&format!("?at={start}"), &[&alice]),
        // Nobody was there; what is shown is who was when the reader came.
        (&format!("?at={before_all}"), &[&alice]),
    ] {
        let (status, body) = server
            .get(&alice, &format!("/rooms/{room}/members{query}"))
            .await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let chunk = body["chunk"].as_array().unwrap();
        let mut users: Vec<&str> = chunk
            .iter()
            .map(|event| event["state_key"].as_str().unwrap())
            .collect();
        users.sort_unstable();
        let wanted: Vec<&str> = wanted.iter().map(|user| user.id.as_str()).collect();
        assert_eq!(users, wanted, "{query}");
    }
    let (_, body) = server
        .get(&alice, &format!("/rooms/{room}/joined_members"))
        .await;
    let joined = body["joined"].as_object().unwrap();
    assert_eq!(joined.len(), 2);
    assert_eq!(
        joined[&bob.id],
        json!({ "display_name": "bob", "avatar_url": null })
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_event_is_shown_only_to_those_who_may_see_it(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    server
        .set_state(
            &alice,
            &room,
            "m.room.history_visibility",
            json!({ "history_visibility": "joined" }),
        )
        .await;
    let hidden = server.say(&alice, &room, "hidden").await;
    server.join(&bob, &room).await;
    let shown = server.say(&alice, &room, "shown").await;
    let other = server.create_public_room(&bob).await;

    let path = |room: &str, id: &str| format!("/rooms/{room}/event/{}", encode(id));
    assert_eq!(
        server.get(&bob, &path(&room, &hidden)).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        server.get(&bob, &path(&other, &shown)).await.0,
        StatusCode::NOT_FOUND
    );
    let (status, body) = server.get(&bob, &path(&room, &shown)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["content"]["body"], "shown");
    let (_, body) = server
        .get(&bob, &format!("/events/{}", encode(&shown)))
        .await;
    assert_eq!(body["content"]["body"], "shown");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn context_has_events_on_both_sides_and_tokens_to_go_on(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let mut sent = Vec::new();
    for text in ["one", "two", "three", "four", "five"] {
        sent.push(server.say(&alice, &room, text).await);
    }
    let path = format!("/rooms/{room}/context/{}", encode(&sent[2]));

    let (status, body) = server.get(&alice, &format!("{path}?limit=2")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["event"]["event_id"], sent[2].as_str());
    assert_eq!(ids(&body["events_before"]), [&*sent[1]]);
    assert_eq!(ids(&body["events_after"]), [&*sent[3]]);
    assert!(!body["state"].as_array().unwrap().is_empty());
    for (dir, token, next) in [("b", "start", &sent[0]), ("f", "end", &sent[4])] {
        let from = encode(body[token].as_str().unwrap());
        let query = format!("dir={dir}&limit=1&from={from}");
        let (_, page) = server.messages(&alice, &room, &query).await;
        assert_eq!(ids(&page["chunk"]), [&**next]);
    }

    let (_, body) = server.get(&alice, &format!("{path}?limit=0")).await;
    assert_eq!(body["event"]["event_id"], sent[2].as_str());
    assert_eq!(body["events_before"], Value::Null);
    let path = format!("/rooms/{room}/context/$nothing");
    assert_eq!(server.get(&alice, &path).await.0, StatusCode::NOT_FOUND);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_event_closest_to_a_time_is_found(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    server.advance(Duration::from_mins(1));
    let one = server.say(&alice, &room, "one").await;
    server.advance(Duration::from_mins(1));
    let two = server.say(&alice, &room, "two").await;
    let between = server.state.clock.millis() - 30_000;
    let path = |dir: &str, ts: i64| {
        format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?dir={dir}&ts={ts}")
    };

    let (_, body) = server.get(&alice, &path("b", between)).await;
    assert_eq!(body["event_id"], one.as_str());
    let (_, body) = server.get(&alice, &path("f", between)).await;
    assert_eq!(body["event_id"], two.as_str());
    assert!(body["origin_server_ts"].is_number());
    let (status, body) = server.get(&alice, &path("b", 0)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["errcode"], "M_NOT_FOUND");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_initial_sync_of_a_room_goes_on_with_its_events(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    server.say(&alice, &room, "one").await;

    let (status, body) = server
        .get(&alice, &format!("/rooms/{room}/initialSync"))
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["membership"], "join");
    let chunk = body["messages"]["chunk"].as_array().unwrap();
    assert_eq!(chunk.last().unwrap()["content"]["body"], "one");
    assert!(!body["state"].as_array().unwrap().is_empty());

    let from = encode(body["messages"]["end"].as_str().unwrap());
    let path = format!(
        "/events?room_id={}&from={from}&timeout=20000",
        encode(&room)
    );
    let ((status, body), two) =
        tokio::join!(server.get(&alice, &path), server.say(&alice, &room, "two"));
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(ids(&body["chunk"]), [&*two]);
    let from = encode(body["end"].as_str().unwrap());
    let path = format!("/events?room_id={}&from={from}&timeout=10", encode(&room));
    let (_, body) = server.get(&alice, &path).await;
    assert_eq!(body["chunk"], Value::Null);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn state_that_contradicts_the_room_is_a_bad_request(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let body = json!({ "room_version": "12", "preset": "public_chat" });
    let (_, answer) = server.post(&alice, "/createRoom", body).await;
    let room = answer["room_id"].as_str().unwrap();
    let levels = json!({ "users": { &alice.id: 100 } });

    for (user, kind, content, status) in [
        (&alice, "m.room.create", json!({}), StatusCode::BAD_REQUEST),
        (
            &alice,
            "m.room.power_levels",
            levels.clone(),
            StatusCode::BAD_REQUEST,
        ),
        (
            &alice,
            "m.room.power_levels",
            json!({ "users": { &bob.id: 100 } }),
            StatusCode::OK,
        ),
        // Strangers do not learn who made the room.
        (&bob, "m.room.power_levels", levels, StatusCode::FORBIDDEN),
    ] {
        let path = format!("/rooms/{room}/state/{kind}/");
        let (got, body) = server.put(user, &path, content).await;
        assert_eq!(got, status, "{kind} {body}");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn members_do_not_say_who_let_them_in(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let path = format!("/rooms/{room}/state/m.room.member/{}", alice.id);
    let body = json!({ "membership": "join", "join_authorised_via_users_server": "unused" });

    let (status, answer) = server.put(&alice, &path, body).await;

    assert_eq!(status, StatusCode::OK, "{answer}");
    let (_, content) = server.get(&alice, &path).await;
    assert_eq!(content, json!({ "membership": "join" }));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_time_is_found_behind_much_that_cannot_be_seen(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    let joined = json!({ "history_visibility": "joined" });
    server
        .set_state(&alice, &room, "m.room.history_visibility", joined)
        .await;
    for number in 0..220 {
        server.say(&alice, &room, &number.to_string()).await;
    }
    server.join(&bob, &room).await;

    let path = format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?dir=f&ts=0");
    let (status, body) = server.get(&bob, &path).await;

    assert_eq!(status, StatusCode::OK, "{body}");
}
