//! The group commit: one task a process that writes everything which waits in one transaction.

use std::{collections::HashSet, sync::atomic::Ordering, time::Instant};

use hearth_core::EventNid;
use hearth_store::{is_connection_error, write::Write};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    batch,
    error::WriteError,
    journal::{Journal, Written},
};

/// How many writes a transaction takes at the most.
const BATCH: usize = 400;

/// How many rejected events are remembered.
const REMEMBERED: usize = 50_000;

/// A write that waits for its transaction.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub write: Write,
    pub answer: oneshot::Sender<Result<Written, WriteError>>,
}

/// Writes until `stop`, and then what still waits.
pub(crate) async fn run(
    journal: Journal,
    mut writes: mpsc::UnboundedReceiver<Waiting>,
    stop: CancellationToken,
) {
    let mut rejected = HashSet::new();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let count = tokio::select! {
            biased;
            count = writes.recv_many(&mut batch, BATCH) => count,
            () = stop.cancelled(), if !writes.is_closed() => {
                writes.close();
                continue;
            }
        };
        if count == 0 {
            return;
        }
        journal.0.waiting.fetch_sub(count, Ordering::Relaxed);
        metrics::histogram!("hearth_journal_batch_writes").record(count_of(count));
        if rejected.len() > REMEMBERED {
            rejected.clear();
        }
        write_all(&journal, std::mem::take(&mut batch), &mut rejected).await;
        batch.reserve(BATCH);
    }
}

fn count_of(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

/// Writes a batch; when it fails, its halves, so that a bad row fails only its own write.
async fn write_all(journal: &Journal, batch: Vec<Waiting>, rejected: &mut HashSet<EventNid>) {
    let mut parts = vec![batch];
    while let Some(mut part) = parts.pop() {
        let started = Instant::now();
        let writes: Vec<&Write> = part.iter().map(|waiting| &waiting.write).collect();
        let outcome = write_once(journal, &writes, rejected).await;
        metrics::histogram!("hearth_journal_commit_seconds")
            .record(started.elapsed().as_secs_f64());
        match outcome {
            Ok(results) => {
                for (waiting, result) in part.into_iter().zip(results) {
                    // Who no longer waits does not want to know.
                    let _ = waiting.answer.send(result);
                }
            }
            Err(error) if part.len() > 1 && !is_connection_error(&error) => {
                let rest = part.split_off(part.len() / 2);
                parts.push(rest);
                parts.push(part);
            }
            Err(error) => fail(journal, part, error, rejected),
        }
    }
}

async fn write_once(
    journal: &Journal,
    writes: &[&Write],
    rejected: &mut HashSet<EventNid>,
) -> sqlx::Result<Vec<Result<Written, WriteError>>> {
    let mut tx = journal.0.pool.begin().await?;
    let batch = batch::write(&mut tx, journal.epoch(), writes, rejected).await?;
    rejected.extend(batch.rejected.iter().copied());
    journal.finish(tx, batch).await
}

/// Fails every write of a part that cannot be written.
fn fail(
    journal: &Journal,
    part: Vec<Waiting>,
    error: sqlx::Error,
    rejected: &mut HashSet<EventNid>,
) {
    tracing::warn!(
        error = &error as &dyn std::error::Error,
        writes = part.len(),
        "a batch failed"
    );
    if is_connection_error(&error) {
        journal.0.blocks.reset();
    }
    let mut error = Some(error);
    for waiting in part {
        let events = waiting.write.room.iter().flat_map(|room| &room.events);
        rejected.extend(events.map(|event| event.nid));
        let error = error.take().unwrap_or(sqlx::Error::WorkerCrashed);
        let _ = waiting.answer.send(Err(WriteError::Storage(error)));
    }
}
