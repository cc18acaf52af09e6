//! Reading a long history backwards, page by page.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Bench, send::send_until};
use crate::{
    error::BenchError,
    measure::{Failures, Outcome},
    scan,
};

/// Events of a page.
const PAGE: u32 = 100;

/// Fills a room and reads it to its beginning until the time is up.
pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Outcome>, BenchError> {
    let users = bench.stage.users(bench.sizes.senders.max(1)).await?;
    let room = bench
        .stage
        .rooms(std::slice::from_ref(&users))
        .await?
        .remove(0);
    let share = bench.sizes.history / u32::try_from(users.len()).unwrap_or(u32::MAX);
    let patience = Instant::now() + Duration::from_mins(10);
    let mut senders = JoinSet::new();
    for (slot, user) in (0..).zip(&users) {
        senders.spawn(send_until(
            bench.stage.client(user),
            room.clone(),
            slot,
            patience,
            share,
        ));
    }
    let mut failures = Failures::default();
    for sent in senders.join_all().await {
        failures.merge(sent.failures);
    }

    let mut client = bench.stage.client(&users[0]);
    let probe = bench.probe()?;
    let (begin, deadline) = (Instant::now(), bench.deadline());
    let (mut latencies, mut events, mut from) = (Vec::new(), 0, None::<String>);
    while Instant::now() < deadline && latencies.len() < bench.sizes.operations as usize {
        let start = Instant::now();
        match client.messages(&room, from.as_deref(), PAGE).await {
            Ok(body) => {
                latencies.push(start.elapsed());
                events += scan::count(&body, "\"origin_server_ts\"");
                // At the end it begins again.
                from = scan::string(&body, "end").map(ToOwned::to_owned);
            }
            Err(error) => {
                failures.note(&error);
                break;
            }
        }
    }
    let took = begin.elapsed();
    let mut outcome = Outcome {
        scenario: format!("messages, {} in pages of {PAGE}", bench.sizes.history),
        unit: "pages".to_owned(),
        errors: failures.count,
        first_error: failures.first,
        ..Outcome::default()
    };
    outcome.figures.insert(
        "events/s".to_owned(),
        f64::from(events) / took.as_secs_f64(),
    );
    outcome.count(latencies.len(), took, latencies);
    Ok(vec![bench.finish(probe, outcome)?])
}
