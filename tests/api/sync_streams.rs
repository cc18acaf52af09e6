//! `/sync`: what wakes it, and what is not in timelines

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    chat::encode,
    server::{TestServer, User},
    sync::{filter, since},
};

/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(20);

/// Lets a user wait in `/sync` while `happens`, until an answer comes of it that is `expected`.
async fn woken(
    server: &TestServer,
    user: &User,
    before: &Value,
    happens: impl Future<Output = ()>,
    expected: impl Fn(&Value) -> bool,
) -> Value {
    let started = Instant::now();
    let waiting = async {
        let mut answer = before.clone();
        loop {
            let query = format!("timeout={}&{}", LONG.as_millis(), since(&answer));
            answer = server.sync_with(user, &query).await;
            assert!(started.elapsed() < LONG / 2, "nothing woke it: {answer}");
            // Others become active by what they do, which is told too.
            if expected(&answer) {
                return answer;
            }
        }
    };
    let (answer, ()) = tokio::join!(waiting, happens);
    answer
}

/// Whether something of a room is told.
fn of_room(room: &str) -> impl Fn(&Value) -> bool {
    move |answer| answer["rooms"]["join"].get(room).is_some()
}

fn contents<'a>(events: &'a Value, kind: &str) -> Vec<&'a Value> {
    let events = events.as_array().into_iter().flatten();
    events
        .filter(|event| event["type"] == kind)
        .map(|event| &event["content"])
        .collect()
}

/// Answers until nothing is left that happened before.
async fn settled(server: &TestServer, user: &User) -> Value {
    let first = server.sync_with(user, "").await;
    server.sync_since(user, &first).await
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_message_and_an_invite_wake(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let before = settled(&server, &alice).await;

    let says = async {
        server.say(&bob, &room, "hello").await;
    };
    let answer = woken(&server, &alice, &before, says, of_room(&room)).await;
    let timeline = &answer["rooms"]["join"][&room]["timeline"]["events"];
    assert_eq!(contents(timeline, "m.room.message")[0]["body"], "hello");

    let invites = async {
        server
            .create_room(&bob, json!({ "invite": [alice.id] }))
            .await;
    };
    let invited = |answer: &Value| answer["rooms"]["invite"].is_object();
    let answer = woken(&server, &alice, &answer, invites, invited).await;
    let invites = answer["rooms"]["invite"].as_object().unwrap();
    assert_eq!(invites.len(), 1);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn typing_wakes_and_is_told_once(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let before = settled(&server, &alice).await;

    let path = format!("/rooms/{room}/typing/{}", bob.id);
    let types = async {
        let body = json!({ "typing": true, "timeout": 30000 });
        let (status, _) = server.put(&bob, &path, body).await;
        assert_eq!(status, StatusCode::OK);
    };
    let answer = woken(&server, &alice, &before, types, of_room(&room)).await;
    let ephemeral = &answer["rooms"]["join"][&room]["ephemeral"]["events"];
    assert_eq!(
        contents(ephemeral, "m.typing"),
        [&json!({ "user_ids": [bob.id] })]
    );

    let stops = async {
        server.put(&bob, &path, json!({ "typing": false })).await;
    };
    let answer = woken(&server, &alice, &answer, stops, of_room(&room)).await;
    let ephemeral = &answer["rooms"]["join"][&room]["ephemeral"]["events"];
    assert_eq!(
        contents(ephemeral, "m.typing"),
        [&json!({ "user_ids": [] })]
    );

    let quiet = server.sync_since(&alice, &answer).await;
    assert!(quiet.get("rooms").is_none(), "{quiet}");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn receipts_wake_and_private_ones_are_private(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let first = server.say(&alice, &room, "one").await;
    let second = server.say(&alice, &room, "two").await;
    let before = settled(&server, &alice).await;
    let before_bob = settled(&server, &bob).await;
    let read = async |kind: &str, event: &str| {
        let path = format!("/rooms/{room}/receipt/{kind}/{event}");
        let (status, _) = server.post(&bob, &path, json!({})).await;
        assert_eq!(status, StatusCode::OK);
    };

    let answer = woken(
        &server,
        &alice,
        &before,
        read("m.read", &first),
        of_room(&room),
    )
    .await;
    let ephemeral = &answer["rooms"]["join"][&room]["ephemeral"]["events"];
    let receipts = contents(ephemeral, "m.receipt");
    assert!(receipts[0][&first]["m.read"][&bob.id]["ts"].is_number());

    read("m.read.private", &second).await;
    let quiet = server.sync_since(&alice, &answer).await;
    assert!(quiet.get("rooms").is_none(), "{quiet}");
    let own = server.sync_since(&bob, &before_bob).await;
    let joined = &own["rooms"]["join"][&room];
    let receipts = contents(&joined["ephemeral"]["events"], "m.receipt");
    assert!(receipts[0][&second]["m.read.private"][&bob.id].is_object());
    assert_eq!(joined["unread_notifications"]["notification_count"], 0);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn account_data_wakes(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let before = settled(&server, &alice).await;

    let keeps = async {
        let path = format!("/user/{}/account_data/x.y", alice.id);
        server.put(&alice, &path, json!({ "n": 1 })).await;
    };
    let kept = |answer: &Value| answer["account_data"].is_object();
    let answer = woken(&server, &alice, &before, keeps, kept).await;
    let events = &answer["account_data"]["events"];
    assert_eq!(contents(events, "x.y"), [&json!({ "n": 1 })]);

    let keeps = async {
        let path = format!("/user/{}/rooms/{room}/account_data/x.y", alice.id);
        server.put(&alice, &path, json!({ "n": 2 })).await;
    };
    let answer = woken(&server, &alice, &answer, keeps, of_room(&room)).await;
    let events = &answer["rooms"]["join"][&room]["account_data"]["events"];
    assert_eq!(contents(events, "x.y"), [&json!({ "n": 2 })]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn messages_to_a_device_come_until_they_are_acknowledged(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let before = settled(&server, &alice).await;
    let send = async |n: u64| {
        let body =
            json!({ "messages": { (alice.id.clone()): { (alice.device.clone()): { "n": n } } } });
        let path = format!("/sendToDevice/x.y/{n}");
        let (status, _) = server.put(&alice, &path, body).await;
        assert_eq!(status, StatusCode::OK);
    };

    let answer = woken(&server, &alice, &before, send(1), |answer| {
        answer["to_device"].is_object()
    })
    .await;
    assert_eq!(
        contents(&answer["to_device"]["events"], "x.y"),
        [&json!({ "n": 1 })]
    );
    let retried = server.sync_since(&alice, &before).await;
    assert_eq!(contents(&retried["to_device"]["events"], "x.y").len(), 1);

    for n in 2..=102 {
        send(n).await;
    }
    let next = server.sync_since(&alice, &retried).await;
    assert_eq!(contents(&next["to_device"]["events"], "x.y").len(), 100);
    let rest = server.sync_since(&alice, &next).await;
    assert_eq!(
        contents(&rest["to_device"]["events"], "x.y"),
        [&json!({ "n": 102 })]
    );
    let none = server.sync_since(&alice, &rest).await;
    assert!(none.get("to_device").is_none(), "{none}");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn presence_is_told_to_those_who_share_a_room(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let before = settled(&server, &alice).await;
    let room = server.create_public_room(&alice).await;
    let before = server.sync_since(&alice, &before).await;
    let body = json!({ "presence": "online", "status_msg": "tea" });
    let path = format!("/presence/{}/status", bob.id);
    server.put(&bob, &path, body).await;
    server.join(&bob, &room).await;

    let answer = server.sync_since(&alice, &before).await;

    let presence = contents(&answer["presence"]["events"], "m.presence");
    assert_eq!(presence.len(), 1, "{answer}");
    assert_eq!(presence[0]["status_msg"], "tea");
    let changed = &answer["device_lists"]["changed"];
    assert!(changed.as_array().unwrap().contains(&json!(bob.id)));

    server.leave(&bob, &room).await;
    let answer = server.sync_since(&alice, &answer).await;
    assert_eq!(answer["device_lists"]["left"], json!([bob.id]));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn ignored_users_are_not_heard(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let path = format!("/user/{}/account_data/m.ignored_user_list", alice.id);
    let list = json!({ "ignored_users": { (bob.id.clone()): {} } });
    server.put(&alice, &path, list).await;
    let before = settled(&server, &alice).await;
    server.say(&bob, &room, "hello").await;
    server
        .create_room(&bob, json!({ "invite": [alice.id] }))
        .await;

    let answer = server.sync_since(&alice, &before).await;

    assert!(answer.get("rooms").is_none(), "{answer}");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn threads_are_counted_apart_for_who_asks(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let root = server.say(&bob, &room, "root").await;
    let path = format!("/rooms/{room}/send/m.room.message/1");
    let reply = json!({
        "msgtype": "m.text", "body": "in a thread",
        "m.relates_to": { "rel_type": "m.thread", "event_id": root },
    });
    server.put(&bob, &path, reply).await;
    let apart = json!({ "room": { "timeline": { "unread_thread_notifications": true } } });

    let together = server.sync_with(&alice, "").await;
    let apart = server.sync_with(&alice, &filter(&apart)).await;

    let joined = &together["rooms"]["join"][&room];
    assert_eq!(joined["unread_notifications"]["notification_count"], 2);
    let joined = &apart["rooms"]["join"][&room];
    assert_eq!(joined["unread_notifications"]["notification_count"], 1);
    let thread = &joined["unread_thread_notifications"][&root];
    assert_eq!(thread["notification_count"], 1);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn tokens_that_are_no_good(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;

    let (status, body) = server.get(&alice, "/sync?since=rubbish").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    let (status, _) = server.get(&alice, "/sync?filter=99").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    for (bad, code) in [(r#"{"room":5}"#, "M_BAD_JSON"), ("{room", "M_NOT_JSON")] {
        let query = format!("/sync?filter={}", encode(bad));
        let (status, body) = server.get(&alice, &query).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(body["errcode"], code);
    }
    let answer = server.sync_with(&alice, "since=s1_99_5_5_abc_0").await;
    assert!(answer["rooms"]["join"].get(&room).is_some(), "{answer}");
}

/// What a request that waits is answered when something happens to its session.
async fn interrupted(
    server: &TestServer,
    (user, path): (&User, &str),
    happens: impl Future<Output = (StatusCode, Value)>,
) -> (StatusCode, Value) {
    let started = Instant::now();
    let (answer, (status, body)) = tokio::join!(server.get(user, path), happens);
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(started.elapsed() < LONG / 2, "nothing ended the waiting");
    answer
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_is_logged_out_while_waiting_is_told_nothing(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let root = server.register_admin("root").await;
    for (name, waits_for) in [("alice", "sync"), ("bob", "events")] {
        let user = server.register(name).await;
        let room = server.create_public_room(&user).await;
        let path = match waits_for {
            "sync" => {
                let before = settled(&server, &user).await;
                format!("/sync?timeout={}&{}", LONG.as_millis(), since(&before))
            }
            _ => format!("/events?timeout={}&room_id={room}", LONG.as_millis()),
        };
        let lock = format!("/_matrix/client/v1/admin/lock/{}", user.id);
        let locked = server.put(&root, &lock, json!({ "locked": true }));

        let (status, body) = interrupted(&server, (&user, &path), locked).await;

        assert_eq!(status, StatusCode::UNAUTHORIZED, "{waits_for}: {body}");
        assert_eq!(body["errcode"], "M_USER_LOCKED", "{waits_for}");
        server.put(&root, &lock, json!({ "locked": false })).await;
        let logout = server.post(&user, "/logout", json!({}));

        let (status, body) = interrupted(&server, (&user, &path), logout).await;

        assert_eq!(status, StatusCode::UNAUTHORIZED, "{waits_for}: {body}");
        assert_eq!(body["errcode"], "M_UNKNOWN_TOKEN", "{waits_for}");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn another_process_that_logs_out_ends_what_waits_too(pool: PgPool) {
    let one = TestServer::among_others(pool.clone(), None).await;
    let other = TestServer::among_others(pool, None).await;
    let alice = one.register("alice").await;
    let bob = one.register("bob").await;
    let room = one.create_public_room(&bob).await;
    one.join(&alice, &room).await;
    let before = settled(&one, &alice).await;
    let path = format!("/sync?timeout={}&{}", LONG.as_millis(), since(&before));
    let happens = async {
        let answer = other.post(&alice, "/logout", json!({})).await;
        one.say(&bob, &room, "secret").await;
        answer
    };

    let (status, body) = interrupted(&one, (&alice, &path), happens).await;

    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    assert_eq!(body["errcode"], "M_UNKNOWN_TOKEN");
}
