//! One server is away for a while.

use serde_json::json;
use sqlx::PgPool;

use super::pair::Pair;

#[sqlx::test(migrations = false)]
async fn what_waits_is_sent_after_a_new_start(pool: PgPool) {
    let mut pair = Pair::start(pool).await;
    let (alice, bob) = (
        pair.host.register("alice").await,
        pair.guest.register("bob").await,
    );
    let room = pair
        .host
        .room(&alice, json!({ "preset": "public_chat" }))
        .await;
    pair.guest.join(&bob, &room, &pair.host.name).await;
    pair.guest.stop().await;
    let said = pair.host.say(&alice, &room, "are you there?").await;

    pair.host.restart().await;
    pair.guest.restart().await;

    pair.guest.sees(&bob, &room, &said).await;
    pair.end().await;
}
