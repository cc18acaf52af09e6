//! What push gateways are told.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    gateway::{self, Gateway},
    server::{TestServer, User},
};

/// Alice's room, in which Bob is, whose phone is told.
struct Fixture {
    pool: PgPool,
    server: TestServer,
    gateway: Gateway,
    alice: User,
    bob: User,
    room: String,
}

impl Fixture {
    async fn new(pool: PgPool) -> Self {
        let server = gateway::server(pool.clone()).await;
        let gateway = Gateway::start().await;
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room = json!({ "preset": "public_chat", "name": "Tea", "room_alias_name": "tea" });
        let room = server.create_room(&alice, room).await;
        server.join(&bob, &room).await;
        gateway.tell(&server, &bob, "phone").await;
        Self {
            pool,
            server,
            gateway,
            alice,
            bob,
            room,
        }
    }

    async fn say(&self, user: &User, body: &str) -> String {
        let content = json!({ "msgtype": "m.text", "body": body });
        self.server
            .send_event(user, &self.room, "m.room.message", content)
            .await
    }

    /// Waits until it is noted down that a gateway failed.
    async fn failed(&self) {
        wait_for_failure(&self.pool).await;
    }

    async fn read(&self, user: &User, event: &str) {
        let path = format!("/rooms/{}/receipt/m.read/{event}", self.room);
        let (status, body) = self.server.post(user, &path, json!({})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
}

async fn wait_for_failure(pool: &PgPool) {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let failures: i32 = sqlx::query_scalar("SELECT max(failures) FROM pusher")
            .fetch_one(pool)
            .await
            .unwrap();
        if failures > 0 {
            return;
        }
        assert!(Instant::now() < limit, "nothing failed");
        tokio::task::yield_now().await;
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_message_is_told_with_all_that_belongs_to_it(pool: PgPool) {
    let f = Fixture::new(pool).await;

    let id = f.say(&f.alice, "hello bob").await;

    let told = f.gateway.next().await;
    assert_eq!(
        told,
        json!({
            "event_id": id,
            "room_id": f.room,
            "type": "m.room.message",
            "sender": f.alice.id,
            "sender_display_name": "alice",
            "room_name": "Tea",
            "room_alias": "#tea:example.org",
            "content": { "msgtype": "m.text", "body": "hello bob" },
            "prio": "high",
            "counts": { "unread": 1 },
            "devices": [{
                "app_id": "com.example.app",
                "pushkey": "phone",
                "pushkey_ts": 1_750_000_000,
                "data": { "custom": { "key": 1 } },
                "tweaks": { "sound": "default", "highlight": true },
            }],
        })
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_gateway_that_wants_ids_gets_no_more(pool: PgPool) {
    let f = Fixture::new(pool).await;
    let mut pusher = f.gateway.pusher("phone");
    pusher["data"]["format"] = "event_id_only".into();
    f.server.post(&f.bob, "/pushers/set", pusher).await;

    let id = f.say(&f.alice, "a secret").await;

    let told = f.gateway.next().await;
    assert_eq!(told["event_id"], id);
    assert_eq!(told["devices"][0]["data"]["format"], "event_id_only");
    let mut keys: Vec<&String> = told.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["counts", "devices", "event_id", "prio", "room_id"]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn counts_grow_and_are_taken_back_when_they_are_read_elsewhere(pool: PgPool) {
    let f = Fixture::new(pool).await;

    f.say(&f.alice, "one").await;
    assert_eq!(f.gateway.next().await["counts"], json!({ "unread": 1 }));
    let two = f.say(&f.alice, "two").await;
    assert_eq!(f.gateway.next().await["counts"], json!({ "unread": 2 }));
    f.read(&f.bob, &two).await;

    let told = f.gateway.next().await;
    assert_eq!(told["counts"], json!({ "unread": 0 }));
    assert_eq!(told["event_id"], Value::Null);
    assert_eq!(told["devices"][0]["pushkey"], "phone");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_writes_has_read(pool: PgPool) {
    let f = Fixture::new(pool).await;
    f.say(&f.alice, "one").await;
    f.gateway.next().await;

    f.say(&f.bob, "my answer").await;

    let told = f.gateway.next().await;
    assert_eq!(told["counts"], json!({ "unread": 0 }));
    assert_eq!(told["event_id"], Value::Null, "nobody is told of his own");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn what_does_not_notify_is_not_told(pool: PgPool) {
    let f = Fixture::new(pool).await;
    let carol = f.server.register("carol").await;
    f.server.join(&carol, &f.room).await;
    let ignored = json!({ "ignored_users": { carol.id.clone(): {} } });
    let path = format!("/user/{}/account_data/m.ignored_user_list", f.bob.id);
    assert_eq!(f.server.put(&f.bob, &path, ignored).await.0, 200);
    let muted = f.server.create_public_room(&f.alice).await;
    f.server.join(&f.bob, &muted).await;
    let path = format!("/pushrules/global/override/{muted}");
    let rule = json!({
        "actions": [],
        "conditions": [{ "kind": "event_match", "key": "room_id", "pattern": muted }],
    });
    assert_eq!(f.server.put(&f.bob, &path, rule).await.0, 200);

    let content = || json!({ "msgtype": "m.text", "body": "bob" });
    let kind = "m.room.message";
    f.server.send_event(&f.alice, &muted, kind, content()).await;
    f.say(&carol, "bob").await;
    f.say(&f.bob, "bob").await;
    let notice = json!({ "msgtype": "m.notice", "body": "bob" });
    f.server.send_event(&f.alice, &f.room, kind, notice).await;
    let last = f.say(&f.alice, "this one").await;

    assert_eq!(f.gateway.next().await["event_id"], last);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_invite_is_told_to_whom_it_is_for(pool: PgPool) {
    let f = Fixture::new(pool).await;
    let room = f
        .server
        .create_room(&f.alice, json!({ "name": "Den" }))
        .await;

    let path = format!("/rooms/{room}/invite");
    let (status, body) = f
        .server
        .post(&f.alice, &path, json!({ "user_id": f.bob.id }))
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");

    let told = f.gateway.next().await;
    assert_eq!(told["room_id"], room);
    assert_eq!(told["type"], "m.room.member");
    assert_eq!(told["user_is_target"], true);
    assert_eq!(told["content"]["membership"], "invite");
    assert_eq!(told["room_name"], "Den");
    assert_eq!(told["prio"], "high");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn calls_are_counted_once_they_are_missed(pool: PgPool) {
    let f = Fixture::new(pool).await;
    let call = json!({ "call_id": "1", "version": 0, "lifetime": 60_000, "offer": { "type": "offer", "sdp": "x" } });
    f.server
        .send_event(&f.alice, &f.room, "m.call.invite", call)
        .await;
    let told = f.gateway.next().await;
    assert_eq!(told["counts"], json!({ "unread": 1 }));
    assert_eq!(told["devices"][0]["tweaks"]["sound"], "ring");

    f.say(&f.alice, "call me back").await;

    let told = f.gateway.next().await;
    assert_eq!(told["counts"], json!({ "unread": 2, "missed_calls": 1 }));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_rejected_pushkey_is_forgotten(pool: PgPool) {
    let f = Fixture::new(pool).await;
    let other = Gateway::start().await;
    other.tell(&f.server, &f.bob, "tablet").await;
    f.gateway
        .answer(StatusCode::OK, json!({ "rejected": ["phone"] }));

    f.say(&f.alice, "one").await;
    f.gateway.next().await;
    other.next().await;

    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let (_, body) = f.server.get(&f.bob, "/pushers").await;
        let keys: Vec<&Value> = body["pushers"].as_array().unwrap().iter().collect();
        if let [left] = &keys[..] {
            assert_eq!(left["pushkey"], "tablet");
            return;
        }
        assert!(Instant::now() < limit, "{body}");
        tokio::task::yield_now().await;
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_gateway_that_fails_gets_it_later_and_holds_up_nobody(pool: PgPool) {
    let f = Fixture::new(pool).await;
    let other = Gateway::start().await;
    other.tell(&f.server, &f.bob, "tablet").await;
    f.gateway.answer(StatusCode::BAD_GATEWAY, json!({}));

    let one = f.say(&f.alice, "one").await;
    assert_eq!(other.next().await["event_id"], one);
    assert_eq!(f.gateway.next().await["event_id"], one);
    f.failed().await;
    f.gateway.answer(StatusCode::OK, json!({ "rejected": [] }));
    f.server.advance(Duration::from_secs(10));
    let two = f.say(&f.alice, "two").await;

    let told = f.gateway.told(2).await;
    assert_eq!(told[0]["event_id"], one);
    assert_eq!(told[1]["event_id"], two);
    assert_eq!(other.next().await["event_id"], two);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn what_waited_for_more_than_a_day_is_not_told(pool: PgPool) {
    let f = Fixture::new(pool).await;
    f.gateway.answer(StatusCode::BAD_GATEWAY, json!({}));
    f.say(&f.alice, "old").await;
    f.gateway.next().await;
    f.failed().await;
    f.gateway.answer(StatusCode::OK, json!({ "rejected": [] }));
    f.server.advance(Duration::from_hours(25));

    let new = f.say(&f.alice, "new").await;

    assert_eq!(f.gateway.next().await["event_id"], new);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn what_happened_while_the_server_was_away_is_told(pool: PgPool) {
    let f = Fixture::new(pool.clone()).await;
    f.gateway.answer(StatusCode::BAD_GATEWAY, json!({}));
    let one = f.say(&f.alice, "one").await;
    f.gateway.next().await;
    f.failed().await;
    let gateway = f.gateway.clone();
    drop(f);
    gateway.answer(StatusCode::OK, json!({ "rejected": [] }));
    sqlx::query("UPDATE pusher SET retry_ts = 1")
        .execute(&pool)
        .await
        .unwrap();

    let _server = gateway::server(pool).await;

    assert_eq!(gateway.next().await["event_id"], one);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn gateways_in_the_own_network_are_not_reached(pool: PgPool) {
    let mut config = gateway::config();
    config.push.allow_private_addresses = false;
    let server = TestServer::with_config(pool.clone(), config).await;
    let gateway = Gateway::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    gateway.tell(&server, &bob, "phone").await;

    let content = json!({ "msgtype": "m.text", "body": "hello" });
    server
        .send_event(&alice, &room, "m.room.message", content)
        .await;

    wait_for_failure(&pool).await;
    assert!(gateway.told(0).await.is_empty());
}

/// How long it takes until a gateway knows, as it is in a process that has nothing else to do.
#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_gateway_knows_within_a_second(pool: PgPool) {
    let f = Fixture::new(pool).await;
    let mut times = Vec::new();
    for number in 0..50 {
        let start = Instant::now();
        f.say(&f.alice, &format!("message {number}")).await;
        f.gateway.next().await;
        times.push(start.elapsed());
    }

    times.sort_unstable();
    println!(
        "until a gateway knows: median {:?}, longest {:?}",
        times[25], times[49]
    );
    assert!(times[48] < Duration::from_secs(1), "{times:?}");
}
