//! `/sendToDevice/{eventType}/{txnId}`

use hearth_core::{Position, UserNid};
use hearth_store::to_device;
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{TestServer, User};

/// What waits for a device.
async fn waiting(pool: &PgPool, server: &TestServer, user: &User) -> Vec<Value> {
    let user_id = ruma::UserId::parse(&user.id).unwrap();
    let nid: UserNid = server.state.interner.user(&user_id).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let all = (Position(0), Position(i64::MAX));
    let messages = to_device::list(&mut conn, nid, &user.device, all, 100).await;
    let messages = messages.unwrap().into_iter();
    messages
        .map(|message| serde_json::from_str(&message.message).unwrap())
        .collect()
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_message_goes_to_a_device_or_to_all(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let bob2 = server.log_in("bob").await;
    let to = |device: &str, number: u64| json!({ "messages": { (bob.id.clone()): { (device): { "n": number } } } });

    let one = server
        .put(&alice, "/sendToDevice/x.y/1", to(&bob.device, 1))
        .await;
    let all = server.put(&alice, "/sendToDevice/x.y/2", to("*", 2)).await;
    let again = server.put(&alice, "/sendToDevice/x.y/2", to("*", 2)).await;
    let nobody = server
        .put(&alice, "/sendToDevice/x.y/3", to("NONE", 3))
        .await;

    for (status, body) in [one, all, again, nobody] {
        assert_eq!((status, body), (StatusCode::OK, json!({})));
    }
    let event = |n| json!({ "type": "x.y", "sender": alice.id, "content": { "n": n } });
    assert_eq!(waiting(&pool, &server, &bob).await, [event(1), event(2)]);
    assert_eq!(waiting(&pool, &server, &bob2).await, [event(2)]);
}
