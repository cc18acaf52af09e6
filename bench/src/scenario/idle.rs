//! Long polls to which nothing happens: what a client that waits costs.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use super::Bench;
use crate::{
    client::{Client, Poll},
    error::BenchError,
    measure::{Failures, Outcome},
    process::Watch,
    stage::parallel,
};

/// The users who wait; each does so on several connections.
const USERS: usize = 50;

/// How many connections are opened before a short pause.
const BURST: u32 = 50;

/// Opens the polls, lets them be, and looks at the server.
pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Outcome>, BenchError> {
    let users = bench.stage.users(USERS).await?;
    let waiting = parallel(
        users.iter().map(|user| bench.stage.client(user)),
        |mut client| async {
            let poll = Poll {
                since: None,
                timeout: Duration::ZERO,
                timeline: None,
            };
            let (_, since) = client.sync(poll).await?;
            // One more, lest what the first one left behind is news to the others.
            let poll = Poll {
                since: Some(&since),
                timeout: Duration::ZERO,
                timeline: None,
            };
            let (_, since) = client.sync(poll).await?;
            Ok((client.user, since))
        },
    );
    let waiting = waiting.await?;
    let mut outcomes = Vec::new();
    for count in bench.sizes.polls.clone() {
        let clients = waiting.iter().cycle().take(count as usize);
        let clients = clients.map(|(user, since)| (bench.stage.client(user), since.clone()));
        outcomes.push(wait(bench, clients.collect()).await?);
    }
    Ok(outcomes)
}

async fn wait(bench: &Bench, clients: Vec<(Client, String)>) -> Result<Outcome, BenchError> {
    let count = u32::try_from(clients.len()).unwrap_or(u32::MAX);
    let opening = Watch::start(&bench.watched);
    let seen = Arc::new(Seen::default());
    let mut polls = JoinSet::new();
    for (n, (client, since)) in (0..).zip(clients) {
        // Each asks a little differently, so that no two are answered as one.
        let timeout = Duration::from_mins(5) + Duration::from_millis(n);
        polls.spawn(poll(client, since, timeout, Arc::clone(&seen)));
        if n % u64::from(BURST) == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    sleep(Duration::from_secs(5)).await;
    let memory = opening.finish();

    let probe = bench.probe()?;
    let begin = Instant::now();
    sleep(Duration::from_secs(bench.sizes.seconds.into())).await;
    let took = begin.elapsed();
    let outcome = Outcome {
        scenario: format!("idle, {count} polls"),
        unit: "polls".to_owned(),
        operations: count,
        seconds: took.as_secs_f64(),
        ..Outcome::default()
    };
    let mut outcome = bench.finish(probe, outcome)?;
    polls.shutdown().await;

    for (name, usage) in &memory {
        let grown = usage.rss_after.saturating_sub(usage.rss_before) / 1024;
        let grown = u32::try_from(grown).unwrap_or(u32::MAX);
        outcome.figures.insert(
            format!("{name} KB a poll"),
            f64::from(grown) / f64::from(count),
        );
    }
    for (name, usage) in &outcome.processes {
        let percent = usage.cpu_seconds / took.as_secs_f64() * 100.0;
        outcome
            .figures
            .insert(format!("{name} CPU, percent"), percent);
    }
    outcome.figures.insert(
        "answered early".to_owned(),
        seen.answered.load(Ordering::Relaxed).into(),
    );
    let failures = seen.failures.lock().unwrap_or_else(PoisonError::into_inner);
    outcome.errors = failures.count;
    outcome.first_error.clone_from(&failures.first);
    Ok(outcome)
}

/// What came of the polls.
#[derive(Debug, Default)]
struct Seen {
    answered: AtomicU32,
    failures: Mutex<Failures>,
}

async fn poll(mut client: Client, mut since: String, timeout: Duration, seen: Arc<Seen>) {
    loop {
        let begin = Instant::now();
        match client
            .sync(Poll {
                since: Some(&since),
                timeout,
                timeline: None,
            })
            .await
        {
            Ok((_, next)) => {
                if begin.elapsed() < timeout.mul_f64(0.9) {
                    seen.answered.fetch_add(1, Ordering::Relaxed);
                }
                since = next;
            }
            Err(error) => {
                seen.failures
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .note(&error);
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
