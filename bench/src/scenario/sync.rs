//! What a sync costs that is not a wait: the first one, and those that find little.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::Bench;
use crate::{
    client::{Client, Poll, User},
    error::BenchError,
    measure::{Failures, Outcome},
    stage::parallel,
};

/// Messages in each room of `initial-sync`.
const MESSAGES: usize = 10;

/// How often a user syncs from the beginning, at most.
const REPEATS: u32 = 20;

/// Rooms in `incremental-sync`, and how many of them each user is in.
const ROOMS: usize = 20;
const ROOMS_OF_A_USER: usize = 5;

/// Clients in `incremental-sync` that ask at the same time.
const WORKERS: usize = 20;

/// A user in many rooms begins anew, again and again.
pub(super) async fn initial(bench: &mut Bench) -> Result<Vec<Outcome>, BenchError> {
    let mut outcomes = Vec::new();
    let mut made = 0;
    let users = bench.stage.users(WORKERS + 1).await?;
    // The first users of the stage are in other rooms too, so this one is new.
    let reader = bench.stage.newcomer().await?;
    for rooms in bench.sizes.initial_rooms.clone() {
        fill(bench, &users, &reader, made..rooms).await?;
        made = made.max(rooms);
        outcomes.push(initial_with(bench, &reader, made).await?);
    }
    Ok(outcomes)
}

async fn fill(
    bench: &Bench,
    users: &[Arc<User>],
    reader: &Arc<User>,
    rooms: std::ops::Range<usize>,
) -> Result<(), BenchError> {
    let rooms = rooms.map(|n| {
        (
            bench.stage.client(&users[n % users.len()]),
            bench.stage.client(reader),
        )
    });
    parallel(rooms, |(mut creator, mut reader)| async move {
        let room = creator.create_room("Bench").await?;
        reader.join(&room).await?;
        for n in 0..MESSAGES {
            creator.send(&room, &format!("Message {n}.")).await?;
        }
        Ok(())
    })
    .await
    .map(drop)
}

async fn initial_with(
    bench: &Bench,
    reader: &Arc<User>,
    rooms: usize,
) -> Result<Outcome, BenchError> {
    let mut client = bench.stage.client(reader);
    let probe = bench.probe()?;
    let (begin, deadline) = (Instant::now(), bench.deadline());
    let (mut latencies, mut failures, mut bytes) = (Vec::new(), Failures::default(), 0);
    for n in 0..REPEATS {
        let start = Instant::now();
        if start >= deadline && n > 0 {
            break;
        }
        // Each asks a little differently, so that none is answered with the answer to another.
        let timeout = Duration::from_millis(n.into());
        match client
            .sync(Poll {
                since: None,
                timeout,
                timeline: None,
            })
            .await
        {
            Ok((body, _)) => {
                latencies.push(start.elapsed());
                bytes = body.len();
            }
            Err(error) => failures.note(&error),
        }
    }
    let took = begin.elapsed();
    let mut outcome = Outcome {
        scenario: format!("initial-sync, {rooms} rooms of {MESSAGES} messages"),
        unit: "syncs".to_owned(),
        errors: failures.count,
        first_error: failures.first,
        ..Outcome::default()
    };
    if let Some(first) = latencies.first() {
        outcome
            .figures
            .insert("first, ms".to_owned(), first.as_secs_f64() * 1000.0);
    }
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    outcome.figures.insert("bytes".to_owned(), bytes.into());
    outcome.count(latencies.len(), took, latencies);
    bench.finish(probe, outcome)
}

/// Users of whom few have news ask whether there are any, without waiting.
pub(super) async fn incremental(bench: &mut Bench) -> Result<Vec<Outcome>, BenchError> {
    let users = bench.stage.users(bench.sizes.idle_users.max(1)).await?;
    let members: Vec<Vec<_>> = (0..ROOMS)
        .map(|room| {
            let inside = |n: &usize| (0..ROOMS_OF_A_USER).any(|k| (n + k * 4) % ROOMS == room);
            (0..users.len())
                .filter(inside)
                .map(|n| Arc::clone(&users[n]))
                .collect()
        })
        .filter(|members: &Vec<_>| !members.is_empty())
        .collect();
    let rooms = bench.stage.rooms(&members).await?;
    let readers = parallel(
        users.iter().map(|user| bench.stage.client(user)),
        |mut client| async {
            let poll = Poll {
                since: None,
                timeout: Duration::ZERO,
                timeline: None,
            };
            let (_, since) = client.sync(poll).await?;
            Ok((client, since))
        },
    );
    let mut shares: Vec<Vec<_>> = (0..WORKERS).map(|_| Vec::new()).collect();
    for (n, reader) in readers.await?.into_iter().enumerate() {
        shares[n % WORKERS].push(reader);
    }

    let mut talker = JoinSet::new();
    talker.spawn(talk(bench.stage.client(&members[0][0]), rooms[0].clone()));
    let probe = bench.probe()?;
    let (begin, deadline) = (Instant::now(), bench.deadline());
    let count = bench.sizes.operations / 20;
    let mut workers = JoinSet::new();
    for share in shares.into_iter().filter(|share| !share.is_empty()) {
        workers.spawn(ask_until(share, deadline, count));
    }
    let (mut latencies, mut failures) = (Vec::new(), Failures::default());
    for (some, failed) in workers.join_all().await {
        latencies.extend(some);
        failures.merge(failed);
    }
    let mut outcome = Outcome {
        scenario: format!("incremental-sync, {} users", users.len()),
        unit: "syncs".to_owned(),
        errors: failures.count,
        first_error: failures.first,
        ..Outcome::default()
    };
    outcome.count(latencies.len(), begin.elapsed(), latencies);
    let outcome = bench.finish(probe, outcome)?;
    talker.shutdown().await;
    Ok(vec![outcome])
}

/// Sends ten messages a second until it is stopped.
async fn talk(mut client: Client, room: String) {
    let mut pace = interval(Duration::from_millis(100));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        // A message that fails is news that is missing, and nothing is measured by it.
        let _ = client.send(&room, "News.").await;
    }
}

async fn ask_until(
    mut readers: Vec<(Client, String)>,
    deadline: Instant,
    count: u32,
) -> (Vec<Duration>, Failures) {
    let (mut latencies, mut failures) = (Vec::new(), Failures::default());
    for n in 0..count as usize {
        let start = Instant::now();
        if start >= deadline {
            break;
        }
        let place = n % readers.len();
        let (client, since) = &mut readers[place];
        let poll = Poll {
            since: Some(since),
            timeout: Duration::ZERO,
            timeline: None,
        };
        match client.sync(poll).await {
            Ok((_, next)) => {
                latencies.push(start.elapsed());
                *since = next;
            }
            Err(error) => failures.note(&error),
        }
    }
    (latencies, failures)
}
