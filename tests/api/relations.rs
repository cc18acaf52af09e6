//! `/rooms/{roomId}/relations/…`, `/rooms/{roomId}/threads` and what is bundled with events.

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    chat::{encode, ids},
    server::{TestServer, User},
};

/// Sends a message that refers to `parent`.
async fn relate(
    server: &TestServer,
    user: &User,
    room: &str,
    text: &str,
    (rel_type, parent): (&str, &str),
) -> String {
    let mut content = json!({
        "msgtype": "m.text",
        "body": text,
        "m.relates_to": { "rel_type": rel_type, "event_id": parent },
    });
    if rel_type == "m.replace" {
        content["m.new_content"] = json!({ "msgtype": "m.text", "body": text });
    }
    server
        .send_as(user, room, "m.room.message", text, content)
        .await
}

async fn event(server: &TestServer, user: &User, room: &str, id: &str) -> Value {
    let path = format!("/rooms/{room}/event/{}", encode(id));
    let (status, body) = server.get(user, &path).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

async fn related(server: &TestServer, user: &User, room: &str, rest: &str) -> Value {
    let path = format!("/_matrix/client/v1/rooms/{room}/relations/{rest}");
    let (status, body) = server.get(user, &path).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_latest_edit_of_the_author_is_bundled(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let root = server.say(&alice, &room, "tea").await;
    relate(&server, &alice, &room, "green tea", ("m.replace", &root)).await;
    server.advance(std::time::Duration::from_secs(1));
    let last = relate(&server, &alice, &room, "black tea", ("m.replace", &root)).await;
    relate(&server, &bob, &room, "coffee", ("m.replace", &root)).await;

    let body = event(&server, &bob, &room, &root).await;

    assert_eq!(body["content"]["body"], "tea");
    let edit = &body["unsigned"]["m.relations"]["m.replace"];
    assert_eq!(edit["event_id"], last.as_str(), "{body}");
    assert_eq!(edit["content"]["m.new_content"]["body"], "black tea");

    let redact = format!("/rooms/{room}/redact/{}/1", encode(&last));
    server.put(&alice, &redact, json!({})).await;
    let body = event(&server, &bob, &room, &root).await;
    let edit = &body["unsigned"]["m.relations"]["m.replace"];
    assert_eq!(edit["content"]["body"], "green tea");

    let redact = format!("/rooms/{room}/redact/{}/2", encode(&root));
    server.put(&alice, &redact, json!({})).await;
    let body = event(&server, &bob, &room, &root).await;
    assert_eq!(
        body["unsigned"]["m.relations"]["m.replace"],
        Value::Null,
        "{body}"
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_thread_is_summed_up_for_each_reader(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let carol = server.register("carol").await;
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    server.join(&carol, &room).await;
    let root = server.say(&alice, &room, "root").await;
    relate(&server, &bob, &room, "reply 1", ("m.thread", &root)).await;
    let last = relate(&server, &bob, &room, "reply 2", ("m.thread", &root)).await;
    relate(&server, &bob, &room, "reply two", ("m.replace", &last)).await;

    for (reader, participated) in [(&alice, true), (&bob, true), (&carol, false)] {
        let body = event(&server, reader, &room, &root).await;
        let thread = &body["unsigned"]["m.relations"]["m.thread"];
        assert_eq!(thread["count"], 2);
        assert_eq!(thread["current_user_participated"], participated);
        assert_eq!(thread["latest_event"]["event_id"], last.as_str());
        assert_eq!(
            thread["latest_event"]["unsigned"]["m.relations"]["m.replace"]["content"]["body"],
            "reply two"
        );
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn references_are_bundled_and_annotations_are_not(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let root = server.say(&alice, &room, "root").await;
    let one = relate(&server, &alice, &room, "one", ("m.reference", &root)).await;
    let two = relate(&server, &alice, &room, "two", ("m.reference", &root)).await;
    let like = json!({
        "m.relates_to": { "rel_type": "m.annotation", "event_id": root, "key": "👍" },
    });
    server
        .send_as(&alice, &room, "m.reaction", "like", like)
        .await;

    let body = event(&server, &alice, &room, &root).await;

    let relations = &body["unsigned"]["m.relations"];
    assert_eq!(ids(&relations["m.reference"]["chunk"]), [one, two]);
    assert_eq!(relations.as_object().unwrap().len(), 1);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn children_are_listed_by_kind_and_in_pages(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let root = server.say(&alice, &room, "root").await;
    let one = relate(&server, &alice, &room, "one", ("m.thread", &root)).await;
    let two = relate(&server, &alice, &room, "two", ("m.reference", &root)).await;
    let three = relate(&server, &alice, &room, "three", ("m.thread", &root)).await;
    let below = relate(&server, &alice, &room, "below", ("m.reference", &three)).await;
    let root = encode(&root);

    let all = related(&server, &alice, &room, &root).await;
    assert_eq!(ids(&all["chunk"]), [&*three, &two, &one]);
    assert_eq!(all["next_batch"], Value::Null);
    assert_eq!(all["recursion_depth"], Value::Null);

    let first = related(&server, &alice, &room, &format!("{root}/m.thread?limit=1")).await;
    assert_eq!(ids(&first["chunk"]), [&*three]);
    let next = encode(first["next_batch"].as_str().unwrap());
    let second = related(
        &server,
        &alice,
        &room,
        &format!("{root}/m.thread/m.room.message?limit=1&from={next}"),
    )
    .await;
    assert_eq!(ids(&second["chunk"]), [&*one]);
    assert_eq!(second["next_batch"], Value::Null);

    let forth = related(&server, &alice, &room, &format!("{root}?dir=f")).await;
    assert_eq!(ids(&forth["chunk"]), [&*one, &two, &three]);

    for name in ["recurse", "org.matrix.msc3981.recurse"] {
        let query = format!("{root}?limit=9&{name}=true");
        let deep = related(&server, &alice, &room, &query).await;
        assert_eq!(ids(&deep["chunk"]), [&*below, &three, &two, &one]);
        assert_eq!(deep["recursion_depth"], 3);
    }

    let none = related(
        &server,
        &alice,
        &room,
        &format!("{root}/m.thread/m.sticker"),
    )
    .await;
    assert_eq!(none["chunk"], json!([]));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn children_of_what_one_may_not_see_are_not_found(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    let root = encode(&server.say(&alice, &room, "root").await);

    let path = format!("/_matrix/client/v1/rooms/{room}/relations/{root}");
    let (status, body) = server.get(&bob, &path).await;

    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["errcode"], "M_NOT_FOUND");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn threads_are_listed_by_their_newest_event(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let one = server.say(&alice, &room, "one").await;
    let two = server.say(&alice, &room, "two").await;
    let three = server.say(&alice, &room, "three").await;
    relate(&server, &alice, &room, "1.1", ("m.thread", &one)).await;
    relate(&server, &alice, &room, "2.1", ("m.thread", &two)).await;
    relate(&server, &alice, &room, "3.1", ("m.thread", &three)).await;
    relate(&server, &bob, &room, "1.2", ("m.thread", &one)).await;
    let path = format!("/_matrix/client/v1/rooms/{room}/threads");

    let (_, all) = server.get(&alice, &path).await;
    assert_eq!(ids(&all["chunk"]), [&*one, &three, &two]);
    assert_eq!(
        all["chunk"][0]["unsigned"]["m.relations"]["m.thread"]["count"],
        2
    );

    let (_, first) = server.get(&alice, &format!("{path}?limit=2")).await;
    assert_eq!(ids(&first["chunk"]), [&*one, &three]);
    let next = encode(first["next_batch"].as_str().unwrap());
    let (_, second) = server
        .get(&alice, &format!("{path}?limit=2&from={next}"))
        .await;
    assert_eq!(ids(&second["chunk"]), [&*two]);
    assert_eq!(second["next_batch"], Value::Null);

    let (_, his) = server
        .get(&bob, &format!("{path}?include=participated"))
        .await;
    assert_eq!(ids(&his["chunk"]), [&*one]);
    let (status, body) = server.get(&bob, &format!("{path}?include=bad")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_INVALID_PARAM");
}

/// A reaction of a user to an event.
async fn react(
    server: &TestServer,
    user: &User,
    room: &str,
    (target, key): (&str, &str),
    txn: &str,
) -> (StatusCode, Value) {
    let path = format!("/rooms/{room}/send/m.reaction/{txn}");
    let relates_to = json!({ "rel_type": "m.annotation", "event_id": target, "key": key });
    server
        .put(user, &path, json!({ "m.relates_to": relates_to }))
        .await
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn nobody_reacts_twice_in_the_same_way(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let tea = server.say(&alice, &room, "tea").await;
    let (status, first) = react(&server, &alice, &room, (&tea, "+"), "1").await;
    assert_eq!(status, StatusCode::OK, "{first}");

    let (status, body) = react(&server, &alice, &room, (&tea, "+"), "2").await;

    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_DUPLICATE_ANNOTATION");
    // The same request again, another key, and another user are no repetitions.
    let again = react(&server, &alice, &room, (&tea, "+"), "1").await;
    assert_eq!(again, (StatusCode::OK, first.clone()));
    for (user, key, txn) in [(&alice, "-", "3"), (&bob, "+", "1")] {
        let (status, body) = react(&server, user, &room, (&tea, key), txn).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    // What was redacted may be sent again.
    let id = encode(first["event_id"].as_str().unwrap());
    let path = format!("/rooms/{room}/redact/{id}/4");
    assert_eq!(server.put(&alice, &path, json!({})).await.0, StatusCode::OK);
    let (status, body) = react(&server, &alice, &room, (&tea, "+"), "5").await;
    assert_eq!(status, StatusCode::OK, "{body}");
}
