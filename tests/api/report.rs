//! `/rooms/{roomId}/report`, `/users/{userId}/report`

use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use super::server::TestServer;

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn events_are_reported_by_members(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_room(&alice, json!({})).await;
    let text = json!({ "msgtype": "m.text", "body": "x" });
    let event = server
        .send_event(&alice, &room, "m.room.message", text)
        .await;
    let path = format!("/rooms/{room}/report/{event}");

    let own = server
        .post(&alice, &path, json!({ "reason": "spam" }))
        .await;
    assert_eq!(own.0, StatusCode::OK);

    let foreign = server.post(&bob, &path, json!({ "reason": "spam" })).await;
    let unknown = format!("/rooms/{room}/report/$none");
    let unknown = server
        .post(&alice, &unknown, json!({ "reason": "spam" }))
        .await;
    assert_eq!(foreign.0, StatusCode::NOT_FOUND);
    assert_eq!(foreign, unknown);
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM report WHERE reason = 'spam'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(count, 1);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn whether_a_room_or_a_user_exists_is_not_told(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_room(&alice, json!({})).await;

    for path in [
        format!("/rooms/{room}/report"),
        "/rooms/!none:example.org/report".to_owned(),
        format!("/users/{}/report", alice.id),
        "/users/@none:example.org/report".to_owned(),
    ] {
        let answer = server.post(&bob, &path, json!({ "reason": "" })).await;
        assert_eq!(answer, (StatusCode::OK, json!({})), "{path}");
    }
}
