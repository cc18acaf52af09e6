//! What one process does counts for the others at once, before any of them is told.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    redis::Redis,
    server::{TestServer, User},
};

const OK: StatusCode = StatusCode::OK;

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_token_that_another_process_revoked_is_refused(pool: PgPool) {
    let here = TestServer::among_others(pool.clone(), None).await;
    let there = TestServer::among_others(pool, None).await;
    let alice = here.register("alice").await;
    assert_eq!(there.get(&alice, "/account/whoami").await.0, OK);

    assert_eq!(here.post(&alice, "/logout", json!({})).await.0, OK);

    let (status, _) = there.get(&alice, "/account/whoami").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn whom_another_process_banned_reads_nothing_any_more(pool: PgPool) {
    let here = TestServer::among_others(pool.clone(), None).await;
    let there = TestServer::among_others(pool, None).await;
    let (alice, bob) = (here.register("alice").await, here.register("bob").await);
    let body = json!({ "preset": "public_chat" });
    let (_, room) = here.post(&alice, "/createRoom", body).await;
    let room = room["room_id"].as_str().unwrap();
    let join = format!("/rooms/{room}/join");
    assert_eq!(there.post(&bob, &join, json!({})).await.0, OK);
    let members = format!("/rooms/{room}/joined_members");
    assert_eq!(there.get(&bob, &members).await.0, OK);

    let ban = format!("/rooms/{room}/ban");
    let body = json!({ "user_id": bob.id });
    assert_eq!(here.post(&alice, &ban, body).await.0, OK);
    let secret = here
        .send_event(&alice, room, "m.room.message", json!({ "body": "secret" }))
        .await;

    assert_eq!(there.get(&bob, &members).await.0, StatusCode::FORBIDDEN);
    let event = format!("/rooms/{room}/event/{secret}");
    assert_eq!(there.get(&bob, &event).await.0, StatusCode::NOT_FOUND);
    let unban = format!("/rooms/{room}/unban");
    let body = json!({ "user_id": bob.id });
    assert_eq!(here.post(&alice, &unban, body).await.0, OK);
    assert_eq!(there.post(&bob, &join, json!({})).await.0, OK);
    assert_eq!(there.get(&bob, &event).await.0, OK);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_waits_hears_of_a_logout_at_another_process(pool: PgPool) {
    let redis = Redis::start().await;
    let here = TestServer::among_others(pool.clone(), Some(&redis)).await;
    let there = TestServer::among_others(pool, Some(&redis)).await;
    let alice = here.register("alice").await;
    let (_, first) = there.get(&alice, "/sync?timeout=0").await;
    let since = first["next_batch"].as_str().unwrap();
    // That she logged in may have come after the first answer.
    let knows = |body: &Value| body["device_lists"].is_null().then_some(());
    let ((), since) = sync_until(&there, &alice, since, knows).await;
    let path = format!("/sync?timeout=60000&since={since}");
    let waiting = there.get(&alice, &path);
    let log_out = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        here.post(&alice, "/logout", json!({})).await
    };

    let both = async { tokio::join!(waiting, log_out) };
    let both = tokio::time::timeout(Duration::from_secs(20), both).await;

    let ((status, body), _) = both.expect("the poll ends");
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    assert_eq!(body["errcode"], "M_UNKNOWN_TOKEN");
}

/// Syncs until `wanted` finds something in an answer, at most for a while; gives that and the next token.
async fn sync_until<T>(
    server: &TestServer,
    user: &User,
    since: &str,
    wanted: impl Fn(&Value) -> Option<T>,
) -> (T, String) {
    let mut since = since.to_owned();
    let search = async {
        loop {
            let path = format!("/sync?timeout=1000&since={since}");
            let (status, body) = server.get(user, &path).await;
            assert_eq!(status, OK, "{body}");
            body["next_batch"].as_str().unwrap().clone_into(&mut since);
            if let Some(found) = wanted(&body) {
                return (found, since);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), search)
        .await
        .expect("it is told")
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_types_and_who_is_there_is_seen_through_every_process(pool: PgPool) {
    let redis = Redis::start().await;
    let here = TestServer::among_others(pool.clone(), Some(&redis)).await;
    let there = TestServer::among_others(pool, Some(&redis)).await;
    let (alice, bob) = (here.register("alice").await, there.register("bob").await);
    let room = here
        .create_room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let join = format!("/rooms/{room}/join");
    assert_eq!(there.post(&bob, &join, json!({})).await.0, OK);
    let (_, first) = there.get(&bob, "/sync?timeout=0").await;
    let since = first["next_batch"].as_str().unwrap();

    let typing = format!("/rooms/{room}/typing/{}", alice.id);
    let body = json!({ "typing": true, "timeout": 30_000 });
    assert_eq!(here.put(&alice, &typing, body).await.0, OK);
    let path = format!("/presence/{}/status", alice.id);
    let body = json!({ "presence": "online", "status_msg": "here" });
    assert_eq!(here.put(&alice, &path, body).await.0, OK);

    let types = |body: &Value| {
        let events = &body["rooms"]["join"][&room]["ephemeral"]["events"];
        let typing = events
            .as_array()?
            .iter()
            .find(|event| event["type"] == "m.typing")?;
        (typing["content"]["user_ids"] == json!([alice.id])).then_some(())
    };
    let ((), since) = sync_until(&there, &bob, since, types).await;
    let status = |body: &Value| {
        let events = body["presence"]["events"].as_array()?;
        let of_alice = events.iter().find(|event| event["sender"] == alice.id)?;
        (of_alice["content"]["status_msg"] == "here").then_some(())
    };
    let (_, body) = there.get(&bob, &path).await;
    if body["status_msg"] != "here" {
        sync_until(&there, &bob, &since, status).await;
    }

    // A client that goes on at another process is told nothing twice for ever.
    let quiet = |body: &Value| {
        let quiet = body["rooms"]["join"].is_null() && body["presence"].is_null();
        quiet.then_some(())
    };
    let ((), since) = sync_until(&here, &bob, &since, quiet).await;
    let ((), since) = sync_until(&there, &bob, &since, quiet).await;

    assert_eq!(
        here.put(&alice, &typing, json!({ "typing": false }))
            .await
            .0,
        OK
    );
    let stops = |body: &Value| {
        let events = &body["rooms"]["join"][&room]["ephemeral"]["events"];
        (events[0]["content"]["user_ids"] == json!([])).then_some(())
    };
    sync_until(&there, &bob, &since, stops).await;
}
