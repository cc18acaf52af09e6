//! Many members: joining at once, and coming and going.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::Bench;
use crate::{
    client::{Client, User},
    error::BenchError,
    measure::{Failures, Outcome},
};

/// How many change their membership at the same time.
const WORKERS: usize = 20;

/// How many times longer than other scenarios `join-storm` and `churn` may take.
const PATIENCE: u32 = 12;

/// Many users join one room.
pub(super) async fn storm(bench: &mut Bench) -> Result<Vec<Outcome>, BenchError> {
    let users = bench.stage.users(bench.sizes.joins + 1).await?;
    let room = bench.stage.rooms(&[users[..1].to_vec()]).await?.remove(0);
    let name = format!("join-storm, {} joins", users.len() - 1);
    Ok(vec![drive(bench, name, &users[1..], &room, 1).await?])
}

/// The members of a large room leave and join again.
pub(super) async fn churn(bench: &mut Bench) -> Result<Vec<Outcome>, BenchError> {
    let users = bench.stage.users(bench.sizes.joins + 1).await?;
    let room = bench.stage.rooms(&[users[..1].to_vec()]).await?.remove(0);
    let members = u32::try_from(users.len() - 1).unwrap_or(u32::MAX).max(1);
    let changes = bench.sizes.changes.div_ceil(members) + 1;
    let name = format!("churn, {} members, {changes} changes each", users.len() - 1);
    let mut outcome = drive(bench, name, &users[1..], &room, changes).await?;
    if let Some(bytes) = outcome
        .database_growth
        .and_then(|bytes| i32::try_from(bytes).ok())
    {
        let each = f64::from(bytes) / f64::from(outcome.operations.max(1));
        outcome
            .figures
            .insert("database bytes an event".to_owned(), each);
    }
    Ok(vec![outcome])
}

/// Lets each of `users` change its membership `changes` times, joining first.
async fn drive(
    bench: &Bench,
    name: String,
    users: &[Arc<User>],
    room: &str,
    changes: u32,
) -> Result<Outcome, BenchError> {
    let mut shares: Vec<Vec<_>> = (0..WORKERS).map(|_| Vec::new()).collect();
    for (n, user) in users.iter().enumerate() {
        shares[n % WORKERS].push(bench.stage.client(user));
    }
    let probe = bench.probe()?;
    let begin = Instant::now();
    let deadline = begin + Duration::from_secs(bench.sizes.seconds.into()) * PATIENCE;
    let mut workers = JoinSet::new();
    for share in shares {
        workers.spawn(change_until(share, room.to_owned(), changes, deadline));
    }
    let (mut latencies, mut failures) = (Vec::new(), Failures::default());
    for (some, failed) in workers.join_all().await {
        latencies.extend(some);
        failures.merge(failed);
    }
    let mut outcome = Outcome {
        scenario: name,
        unit: "memberships".to_owned(),
        errors: failures.count,
        first_error: failures.first,
        ..Outcome::default()
    };
    outcome.count(latencies.len(), begin.elapsed(), latencies);
    bench.finish(probe, outcome)
}

async fn change_until(
    mut clients: Vec<Client>,
    room: String,
    changes: u32,
    deadline: Instant,
) -> (Vec<Duration>, Failures) {
    let (mut latencies, mut failures) = (Vec::new(), Failures::default());
    for round in 0..changes {
        for client in &mut clients {
            let start = Instant::now();
            if start >= deadline {
                return (latencies, failures);
            }
            let answer = if round % 2 == 0 {
                client.join(&room).await
            } else {
                client.leave(&room).await
            };
            match answer {
                Ok(()) => latencies.push(start.elapsed()),
                Err(error) => failures.note(&error),
            }
        }
    }
    (latencies, failures)
}
