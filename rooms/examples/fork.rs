//! How long it takes to resolve a fork of 2 × 500 state events in a room of 5,000 members.
//!
//! ```text
//! scripts/with-postgres cargo run --release -p hearth-rooms --example fork
//! ```

#[expect(clippy::unwrap_used, reason = "it is a check of the tests")]
#[path = "../tests/shared/counts.rs"]
mod counts;
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "it is the scene of the tests"
)]
#[path = "../tests/rooms/engine.rs"]
mod engine;
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "it is the scene of the tests"
)]
#[path = "../tests/rooms/peer.rs"]
mod peer;

use std::{error::Error, sync::Arc, time::Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hearth_rooms::Draft;
use ruma::{RoomVersionId, UserId, events::TimelineEventType};
use serde_json::json;
use sqlx::PgPool;

use crate::{
    engine::{Engine, canonical},
    peer::{Peer, World},
};

const MEMBERS: usize = 5_000;
const EVENTS: usize = 500;
const TRANSACTION: usize = 50;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    hearth_store::MIGRATOR.run(&pool).await?;
    let peer = Peer::new("there.org");
    let engine = Engine::start(&pool, Arc::new(World(vec![Arc::clone(&peer)]))).await;
    let room = engine.room(RoomVersionId::V12).await;
    stream::iter(0..MEMBERS)
        .map(|number| {
            let (engine, room) = (&engine, &room);
            async move {
                let user = UserId::parse(format!("@user{number}:here.org"))?;
                let kind = TimelineEventType::RoomMember;
                let join = canonical(json!({ "membership": "join" }));
                let join = Draft::state(kind, user.to_string(), join);
                engine.rooms.send(room, &user, join).await?;
                Ok::<_, Box<dyn Error>>(())
            }
        })
        .buffer_unordered(64)
        .try_collect::<()>()
        .await?;
    engine.join(&room, &peer, "bob").await;
    let bob = peer.user("bob");
    let levels = json!({ "users": { bob.as_str(): 50 } });
    engine.set(&room, "m.room.power_levels", "", levels).await;

    let mut theirs = peer.on_top(&engine, &room).await;
    for number in 0..EVENTS {
        let content = json!({ "ours": number });
        engine
            .set(&room, "org.example.note", &number.to_string(), content)
            .await;
    }
    let mut events = Vec::new();
    for number in 0..EVENTS {
        let key = number.to_string();
        let content = json!({ "theirs": number });
        let event = theirs.state(&bob, ("org.example.note", &key), &content);
        let event = event.sign(&peer);
        theirs = theirs.after(&event).later(1);
        events.push(event);
    }
    let (last, events) = events.split_last().expect("there are some");
    let events: Vec<_> = events.iter().collect();
    let healing = Instant::now();
    for transaction in events.chunks(TRANSACTION) {
        engine.receive_all(&room, transaction).await;
    }
    let all = healing.elapsed();
    let resolving = Instant::now();
    engine.status(&room, last).await;
    let one = resolving.elapsed();
    let state = engine.state(&room).await.len();
    println!("{state} entries of state, {EVENTS} keys in conflict");
    println!("the other branch, {TRANSACTION} events at a time: {all:?}");
    println!("its last event, with the whole conflict: {one:?}");
    Ok(())
}
