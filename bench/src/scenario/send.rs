//! Sending while nobody listens: how many messages the server keeps in a second.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use super::Bench;
use crate::{
    client::{Client, User},
    error::BenchError,
    measure::{Failures, Outcome},
    scan::Mark,
};

/// Each sender in a room of its own, then all in one.
pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Outcome>, BenchError> {
    let users = bench.stage.users(bench.sizes.senders).await?;
    let own: Vec<_> = users.iter().map(|user| vec![Arc::clone(user)]).collect();
    let own = bench.stage.rooms(&own).await?;
    let several = drive(bench, &format!("send, {} rooms", own.len()), &users, &own).await?;

    let one = bench.stage.rooms(std::slice::from_ref(&users)).await?;
    let same = vec![one[0].clone(); users.len()];
    let one = drive(bench, "send, one room", &users, &same).await?;
    Ok(vec![several, one])
}

/// Lets each user send to its room without a pause, until the time is up.
async fn drive(
    bench: &Bench,
    name: &str,
    users: &[Arc<User>],
    rooms: &[String],
) -> Result<Outcome, BenchError> {
    let count = bench.sizes.operations / u32::try_from(users.len()).unwrap_or(u32::MAX).max(1);
    let probe = bench.probe()?;
    let (begin, deadline) = (Instant::now(), bench.deadline());
    let mut senders = JoinSet::new();
    for (slot, (user, room)) in (0..).zip(users.iter().zip(rooms)) {
        let client = bench.stage.client(user);
        senders.spawn(send_until(client, room.clone(), slot, deadline, count));
    }
    let sent = senders.join_all().await;
    let took = begin.elapsed();
    let outcome = Outcome {
        scenario: name.to_owned(),
        unit: "messages".to_owned(),
        ..Outcome::default()
    };
    let mut outcome = bench.finish(probe, outcome)?;

    let (mut latencies, mut failures) = (Vec::new(), Failures::default());
    for mut sent in sent {
        sent.check_last().await;
        latencies.append(&mut sent.latencies);
        failures.merge(sent.failures);
    }
    outcome.count(latencies.len(), took, latencies);
    outcome.errors = failures.count;
    outcome.first_error = failures.first;
    Ok(outcome)
}

/// What one sender did.
#[derive(Debug)]
pub(super) struct Sent {
    client: Client,
    room: String,
    pub(super) latencies: Vec<Duration>,
    pub(super) failures: Failures,
    /// The last event that was acknowledged.
    last: Option<String>,
}

impl Sent {
    /// Reads the last event: what was acknowledged must be there.
    async fn check_last(&mut self) {
        if let Some(event) = &self.last
            && let Err(error) = self.client.event(&self.room, event).await
        {
            self.failures.note(&error);
        }
    }
}

/// Sends one message after the other until `deadline`, at most `count`.
pub(super) async fn send_until(
    client: Client,
    room: String,
    slot: u32,
    deadline: Instant,
    count: u32,
) -> Sent {
    let mut sent = Sent {
        client,
        room,
        latencies: Vec::new(),
        failures: Failures::default(),
        last: None,
    };
    for number in 0..count {
        let begin = Instant::now();
        if begin >= deadline {
            break;
        }
        let text = Mark { slot, number }.text();
        match sent.client.send(&sent.room, &text).await {
            Ok(event) => {
                sent.latencies.push(begin.elapsed());
                sent.last = Some(event);
            }
            Err(error) => {
                sent.failures.note(&error);
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    sent
}
