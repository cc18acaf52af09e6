//! How long it takes to join a large room of another server, without the network between the two.
//!
//! `DATABASE_URL=… cargo run --release -p hearth-rooms --example large_join -- 2000`

#![expect(clippy::unwrap_used, reason = "it shares the servers of the tests")]

#[path = "../tests/shared/counts.rs"]
mod counts;
#[path = "../tests/servers/network.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod network;
#[path = "../tests/servers/server.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod server;

use std::{env, slice::from_ref, time::Instant};

use futures_util::{StreamExt as _, stream};
use hearth_rooms::Preset;
use hearth_store::MIGRATOR;
use ruma::RoomVersionId;
use sqlx::PgPool;

use crate::server::Server;

#[tokio::main]
async fn main() {
    let url = env::var("DATABASE_URL").expect("DATABASE_URL names an empty database");
    let members: usize = env::args()
        .nth(1)
        .map_or(2_000, |count| count.parse().expect("a number of members"));
    let pool = PgPool::connect(&url).await.expect("the database answers");
    MIGRATOR.run(&pool).await.expect("the database is empty");
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let bob = there.user("bob").await;
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Public, vec![])
        .await;
    let began = Instant::now();
    let joins: Vec<_> = (0..members)
        .map(|number| {
            let (there, tea) = (&there, &tea);
            async move {
                let member = there.user(&format!("member{number}")).await;
                let joined = there.rooms.join_by_id(tea, &[], &member).await;
                joined.expect("the room is public");
            }
        })
        .collect();
    stream::iter(joins)
        .buffer_unordered(32)
        .collect::<Vec<()>>()
        .await;
    println!("{members} members joined in {:?}", began.elapsed());

    let ann = here.user("ann").await;
    let began = Instant::now();
    let joined = here.rooms.join_by_id(&tea, from_ref(&there.name), &ann);
    joined.await.expect("the room is public");
    println!("joined it from another server in {:?}", began.elapsed());
    assert_eq!(here.state(&tea).await.len(), there.state(&tea).await.len());
    here.end().await;
    there.end().await;
}
