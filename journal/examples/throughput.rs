//! How many events a second the journal writes.
//!
//! `DATABASE_URL=postgres://… cargo run -p hearth-journal --example throughput [submitters] [rooms] [seconds]`
//!
//! Each submitter sends one message after the other, as a client does: it waits for the commit. The database should be
//! an empty one of its own.

use std::{
    env,
    error::Error,
    time::{Duration, Instant},
};

use hearth_core::{EventNid, RoomNid, UserNid};
use hearth_journal::{Journal, Parts, WriteError};
use hearth_store::{
    MIGRATOR,
    intern::{Blocks, Interner},
    room,
    write::{EventRow, Placement, RoomWrite, Source, Status, TransactionRow, Write},
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// About as much as an encrypted message has.
const BODY: usize = 800;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [submitters, rooms, seconds] = arguments([20, 20, 10])?;
    let pool = PgPoolOptions::new()
        .max_connections(20)
        .test_before_acquire(false)
        .connect(&env::var("DATABASE_URL")?)
        .await?;
    MIGRATOR.run(&pool).await?;
    let blocks = Blocks::new(pool.clone());
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let journal = Journal::start(Parts {
        pool: pool.clone(),
        blocks: blocks.clone(),
        interner: Interner::new(pool.clone()),
        redis: None,
        tasks: &tasks,
        stop: stop.clone(),
    })
    .await?;
    let mut commits = journal.subscribe();
    let rooms = make_rooms(&pool, rooms).await?;

    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let mut running = JoinSet::new();
    for index in 0..submitters {
        let room = rooms[usize::try_from(index)? % rooms.len()];
        let user = UserNid(i64::try_from(index)? + 1);
        running.spawn(send_until(end, journal.clone(), blocks.clone(), room, user));
    }
    let mut times = Vec::new();
    while let Some(sent) = running.join_next().await {
        times.extend(sent??);
    }
    let took = started.elapsed();
    stop.cancel();
    tasks.close();
    tasks.wait().await;

    let mut batches = 0_u32;
    loop {
        match commits.try_recv() {
            Ok(_) => batches += 1,
            Err(tokio::sync::broadcast::error::TryRecvError::Lagged(missed)) => {
                batches += u32::try_from(missed)?;
            }
            Err(_) => break,
        }
    }
    report(times, batches, took);
    Ok(())
}

fn arguments<const N: usize>(usual: [u64; N]) -> Result<[u64; N], std::num::ParseIntError> {
    let mut numbers = usual;
    for (number, argument) in numbers.iter_mut().zip(env::args().skip(1)) {
        *number = argument.parse()?;
    }
    Ok(numbers)
}

async fn make_rooms(pool: &PgPool, count: u64) -> sqlx::Result<Vec<RoomNid>> {
    let mut conn = pool.acquire().await?;
    let mut rooms = Vec::new();
    for index in 0..count.max(1) {
        rooms.extend(room::insert(&mut conn, &format!("!{index}:example.org"), "12").await?);
    }
    Ok(rooms)
}

/// Sends message after message; gives how long each took.
async fn send_until(
    end: Instant,
    journal: Journal,
    blocks: Blocks,
    room: RoomNid,
    user: UserNid,
) -> Result<Vec<Duration>, SendError> {
    let mut times = Vec::new();
    let mut previous = None;
    while Instant::now() < end {
        let nid = blocks.event().await?;
        let started = Instant::now();
        journal.submit(message(room, user, nid, previous)).await?;
        times.push(started.elapsed());
        previous = Some(nid);
    }
    Ok(times)
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("no number for an event")]
    Number(#[from] sqlx::Error),
    #[error("a write failed")]
    Write(#[from] WriteError),
}

fn message(room: RoomNid, user: UserNid, nid: EventNid, previous: Option<EventNid>) -> Write {
    let event = EventRow {
        nid,
        room,
        event_id: format!("${nid}"),
        sender: user,
        kind: "m.room.encrypted".to_owned(),
        state_key: None,
        depth: nid.0,
        origin_server_ts: 0,
        source: Source::Made,
        placement: Placement::Live,
        snapshot: None,
        auth: vec![EventNid(1), EventNid(2), EventNid(3)],
        status: Status::Accepted,
        json: "x".repeat(BODY),
        relation: None,
        redacts: None,
    };
    let transaction = TransactionRow {
        user,
        device_id: "PHONE".to_owned(),
        action: "send/m.room.encrypted".to_owned(),
        txn_id: nid.to_string(),
    };
    Write {
        room: Some(RoomWrite {
            room,
            expected_revision: 0,
            events: vec![event],
            snapshots: Vec::new(),
            new_state: None,
            extremities_gone: previous.into_iter().collect(),
            extremities_new: vec![nid],
            memberships: Vec::new(),
            transaction: Some(transaction),
            redacted: Vec::new(),
            redactions_seen: Vec::new(),
            gaps: Vec::new(),
        }),
        ..Write::default()
    }
}

fn report(mut times: Vec<Duration>, batches: u32, took: Duration) {
    times.sort_unstable();
    let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
    let at = |percent: usize| times.get(times.len() * percent / 100).copied();
    println!(
        "{:.0} writes/s, {:.0} commits/s, {:.1} writes a commit; p50 {:?}, p99 {:?}",
        f64::from(count) / took.as_secs_f64(),
        f64::from(batches) / took.as_secs_f64(),
        f64::from(count) / f64::from(batches.max(1)),
        at(50).unwrap_or_default(),
        at(99).unwrap_or_default(),
    );
}
