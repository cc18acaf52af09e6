//! `/rooms/{roomId}/receipt`, `/rooms/{roomId}/read_markers`, `/notifications`, and what they do to unread counts

use hearth_push::{Counts, Viewer};
use http::StatusCode;
use ruma::{OwnedUserId, RoomId};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{TestServer, User};

/// Alice's room, in which Bob is, too.
struct Fixture {
    server: TestServer,
    alice: User,
    bob: User,
    room: String,
}

impl Fixture {
    async fn new(pool: PgPool) -> Self {
        let server = TestServer::new(pool).await;
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let preset = json!({ "preset": "public_chat" });
        let room = server.create_room(&alice, preset).await;
        for user in [&bob, &carol] {
            let path = format!("/rooms/{room}/join");
            assert_eq!(server.post(user, &path, json!({})).await.0, StatusCode::OK);
        }
        Self {
            server,
            alice,
            bob,
            room,
        }
    }

    /// Sends a message with `more` in its content.
    async fn say(&self, user: &User, body: &str, more: Value) -> String {
        let mut content = json!({ "msgtype": "m.text", "body": body });
        if let (Some(content), Value::Object(more)) = (content.as_object_mut(), more) {
            content.extend(more);
        }
        self.server
            .send_event(user, &self.room, "m.room.message", content)
            .await
    }

    async fn in_thread(&self, user: &User, body: &str, root: &str) -> String {
        let relation = json!({ "rel_type": "m.thread", "event_id": root });
        self.say(user, body, json!({ "m.relates_to": relation }))
            .await
    }

    async fn receipt(&self, kind: &str, event: &str, body: Value) -> (StatusCode, Value) {
        let path = format!("/rooms/{}/receipt/{kind}/{event}", self.room);
        self.server.post(&self.bob, &path, body).await
    }

    /// What Bob has not read.
    async fn unread(&self) -> Counts {
        let state = &self.server.state;
        let user_id: OwnedUserId = self.bob.id.parse().unwrap();
        let viewer = Viewer {
            user: state.interner.user(&user_id).await.unwrap(),
            user_id,
        };
        let room_id = RoomId::parse(&self.room).unwrap();
        let room = state.rooms.find(&room_id).await.unwrap().unwrap();
        let head = state.journal.head();
        let rooms = vec![std::sync::Arc::clone(&room)];
        let counts = state.unread.counts(&viewer, rooms, head).await.unwrap();
        counts[&room.nid].clone()
    }

    /// How many events notify Bob and how many of them stand out: in the main timeline, in its only thread.
    async fn counts(&self) -> ((u64, u64), (u64, u64)) {
        let counts = self.unread().await;
        let thread = counts.threads.values().next().copied();
        let thread = thread.unwrap_or_default();
        (
            (counts.main.notifications, counts.main.highlights),
            (thread.notifications, thread.highlights),
        )
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn messages_count_until_they_are_read(pool: PgPool) {
    let room = Fixture::new(pool).await;
    assert_eq!(room.counts().await.0, (0, 0));
    let one = room.say(&room.alice, "one", json!({})).await;
    let mention = json!({ "m.mentions": { "user_ids": [room.bob.id] } });
    let two = room.say(&room.alice, "two", mention).await;
    assert_eq!(room.counts().await.0, (2, 1));

    room.receipt("m.read", &one, json!({})).await;
    assert_eq!(room.counts().await.0, (1, 1));

    room.receipt("m.read.private", &two, json!({})).await;
    assert_eq!(room.counts().await.0, (0, 0));

    room.receipt("m.read", &one, json!({})).await;
    room.say(&room.alice, "three", json!({})).await;
    assert_eq!(room.counts().await.0, (1, 0));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn to_say_something_is_to_have_read(pool: PgPool) {
    let room = Fixture::new(pool).await;
    room.say(&room.alice, "one", json!({})).await;
    assert_eq!(room.counts().await.0, (1, 0));

    room.say(&room.bob, "two", json!({})).await;

    assert_eq!(room.counts().await.0, (0, 0));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn what_is_redacted_does_not_count(pool: PgPool) {
    let room = Fixture::new(pool).await;
    let one = room.say(&room.alice, "one", json!({})).await;
    assert_eq!(room.counts().await.0, (1, 0));

    let path = format!("/rooms/{}/redact/{one}/txn", room.room);
    room.server.put(&room.alice, &path, json!({})).await;

    assert_eq!(room.counts().await.0, (0, 0));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_changed_rule_counts_at_once(pool: PgPool) {
    let room = Fixture::new(pool).await;
    room.say(&room.alice, "one", json!({})).await;
    assert_eq!(room.counts().await.0, (1, 0));

    let path = "/pushrules/global/override/.m.rule.master/enabled";
    room.server
        .put(&room.bob, path, json!({ "enabled": true }))
        .await;
    assert_eq!(room.counts().await.0, (0, 0));

    room.server
        .put(&room.bob, path, json!({ "enabled": false }))
        .await;
    let path = format!("/user/{}/account_data/m.ignored_user_list", room.bob.id);
    let ignored = json!({ "ignored_users": { (room.alice.id.clone()): {} } });
    room.server.put(&room.bob, &path, ignored).await;
    assert_eq!(room.counts().await.0, (0, 0));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn threads_have_receipts_and_counts_of_their_own(pool: PgPool) {
    let room = Fixture::new(pool).await;
    let (alice, to_bob) = (&room.alice, format!("Hello {}!", room.bob.id));
    let a = room.say(alice, "Hello world!", json!({})).await;
    let b = room.in_thread(alice, "Start thread!", &a).await;
    room.in_thread(alice, &to_bob, &a).await;
    let d = room.say(alice, &to_bob, json!({})).await;
    room.in_thread(alice, "End thread", &a).await;
    let reference = json!({ "m.relates_to": { "rel_type": "m.reference", "event_id": a } });
    let f = room.say(alice, "Reference!", reference).await;
    let reaction =
        json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": f, "key": "x" } });
    let g = room
        .server
        .send_event(alice, &room.room, "m.reaction", reaction)
        .await;
    assert_eq!(room.counts().await, ((3, 1), (3, 1)));
    let total = room.unread().await.total();
    assert_eq!((total.notifications, total.highlights), (6, 2));

    room.receipt("m.read", &a, json!({ "thread_id": "main" }))
        .await;
    assert_eq!(room.counts().await, ((2, 1), (3, 1)));

    room.receipt("m.read", &b, json!({ "thread_id": a })).await;
    assert_eq!(room.counts().await, ((2, 1), (2, 1)));

    room.receipt("m.read", &d, json!({})).await;
    assert_eq!(room.counts().await, ((1, 0), (1, 0)));

    let (status, _) = room.receipt("m.read", &g, json!({ "thread_id": a })).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(room.counts().await, ((1, 0), (0, 0)));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_receipt_that_does_not_fit_is_refused(pool: PgPool) {
    let room = Fixture::new(pool).await;
    let root = room.say(&room.alice, "root", json!({})).await;
    let other = room.say(&room.alice, "other", json!({})).await;
    let reply = room.in_thread(&room.alice, "reply", &root).await;

    for (kind, event, body) in [
        ("m.read", &root, json!({ "thread_id": 7 })),
        ("m.read", &root, json!({ "thread_id": "" })),
        ("m.read", &root, json!({ "thread_id": "thread" })),
        ("m.read", &other, json!({ "thread_id": root })),
        ("m.read", &reply, json!({ "thread_id": "main" })),
        ("m.fully_read", &root, json!({ "thread_id": "main" })),
        ("m.unknown", &root, json!({})),
    ] {
        let (status, answer) = room.receipt(kind, event, body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{kind} {body}");
        assert_eq!(answer["errcode"], "M_INVALID_PARAM", "{kind} {body}");
    }
    let (status, _) = room.receipt("m.read", "$none", json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let dave = room.server.register("dave").await;
    let path = format!("/rooms/{}/receipt/m.read/{root}", room.room);
    let (status, body) = room.server.post(&dave, &path, json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body["errcode"], "M_FORBIDDEN");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn read_markers_move_forward_only(pool: PgPool) {
    let room = Fixture::new(pool).await;
    let one = room.say(&room.alice, "one", json!({})).await;
    let two = room.say(&room.alice, "two", json!({})).await;
    let path = format!("/rooms/{}/read_markers", room.room);
    let data = format!(
        "/user/{}/rooms/{}/account_data/m.fully_read",
        room.bob.id, room.room
    );

    for event in [&two, &one] {
        let body = json!({ "m.fully_read": event, "m.read": event });
        let (status, _) = room.server.post(&room.bob, &path, body).await;
        assert_eq!(status, StatusCode::OK);
        let (_, marker) = room.server.get(&room.bob, &data).await;
        assert_eq!(marker, json!({ "event_id": two }));
        assert_eq!(room.counts().await.0, (0, 0));
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn notifications_are_listed_the_newest_first(pool: PgPool) {
    let room = Fixture::new(pool).await;
    let one = room.say(&room.alice, "one", json!({})).await;
    let mention = json!({ "m.mentions": { "user_ids": [room.bob.id] } });
    let two = room.say(&room.alice, "two", mention).await;
    room.say(&room.bob, "mine", json!({})).await;
    room.receipt("m.read", &one, json!({})).await;
    let list = async |query: &str| {
        let path = format!("/notifications{query}");
        let (status, body) = room.server.get(&room.bob, &path).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    };

    let page = list("?limit=1").await;
    assert_eq!(page["notifications"][0]["event"]["event_id"], two);
    assert_eq!(page["notifications"][0]["read"], false);
    assert_eq!(page["notifications"][0]["room_id"], room.room);
    // Notifications have no tag here, and none is left out, not null.
    assert!(page["notifications"][0].get("profile_tag").is_none());

    let next = page["next_token"].as_str().unwrap();
    let page = list(&format!("?from={next}")).await;
    assert_eq!(page["notifications"].as_array().unwrap().len(), 1);
    assert_eq!(page["notifications"][0]["event"]["event_id"], one);
    assert_eq!(page["notifications"][0]["read"], true);
    assert!(page.get("next_token").is_none());

    let page = list("?only=highlight").await;
    assert_eq!(page["notifications"].as_array().unwrap().len(), 1);
    let (status, _) = room.server.get(&room.bob, "/notifications?from=x").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn two_receipts_of_a_user_at_one_event_are_both_told(pool: PgPool) {
    let room = Fixture::new(pool).await;
    let root = room.say(&room.alice, "root", json!({})).await;
    for body in [json!({}), json!({ "thread_id": "main" })] {
        let (status, answer) = room.receipt("m.read", &root, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    let (_, synced) = room.server.get(&room.alice, "/sync").await;

    let events = &synced["rooms"]["join"][&room.room]["ephemeral"]["events"];
    let events = events.as_array().unwrap().iter();
    let receipts = events.map(|event| &event["content"][&root]["m.read"][&room.bob.id]);
    let mut threads: Vec<_> = receipts
        .map(|receipt| receipt["thread_id"].as_str())
        .collect();
    threads.sort_unstable();
    assert_eq!(threads, [None, Some("main")]);
}
