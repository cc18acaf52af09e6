//! The group commit: one task a process that writes everything which waits in one transaction.

use std::{collections::VecDeque, sync::atomic::Ordering, time::Duration};

use hearth_store::{
    is_conflict, is_connection_error, is_timeout, log,
    write::{RoomWrite, Write},
};
use sqlx::{Connection as _, Postgres, pool::PoolConnection};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    batch,
    error::{Failure, WriteError},
    journal::{Journal, Written},
    rejected::Rejected,
};

/// How many writes a transaction takes at the most, and about how many bytes.
const BATCH: usize = 400;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// How often a batch that loses to another transaction is run again.
const CONFLICTS: u32 = 5;

/// How long writes wait for a database that is away, counted from the first failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same when the server stops.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// How long the connection is kept while there is nothing to write.
const IDLE: Duration = Duration::from_millis(500);

/// A write that waits for its transaction.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The epoch in which it was built.
    pub epoch: i64,
    /// About how many bytes it has.
    pub size: usize,
    pub write: Write,
    pub answer: oneshot::Sender<Result<Written, WriteError>>,
}

/// About how many bytes a write has.
pub(crate) fn size(write: &Write) -> usize {
    let room = write.room.as_ref().map_or(0, |room: &RoomWrite| {
        let events: usize = room.events.iter().map(|event| event.json.len() + 500).sum();
        let deltas = room.snapshots.iter().map(|snapshot| snapshot.delta.len());
        let deltas: usize = deltas.map(|length| length + 100).sum();
        events + deltas + 500 * room.memberships.len()
    });
    let account_data = write.account_data.iter().map(|row| row.content.len() + 200);
    let to_device = write.to_device.iter().map(|row| row.message.len() + 200);
    let rest = write.receipts.len() + write.device_lists.len() + write.memberships.len();
    room + account_data.sum::<usize>() + to_device.sum::<usize>() + 300 * rest
}

/// Writes until `stop`, and then what still waits; cancels `drained` at the end.
pub(crate) async fn run(
    journal: Journal,
    mut queue: mpsc::UnboundedReceiver<Waiting>,
    stop: CancellationToken,
    drained: CancellationToken,
) {
    let _drained = drained.drop_guard();
    let mut writer = Writer {
        journal,
        rejected: Rejected::default(),
        connection: None,
        stop: stop.clone(),
        away_since: None,
    };
    let mut backlog = VecDeque::new();
    let mut is_stopping = false;
    loop {
        if backlog.is_empty() {
            let mut fresh = Vec::new();
            tokio::select! {
                biased;
                count = queue.recv_many(&mut fresh, BATCH) => if count == 0 {
                    return;
                },
                () = stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    queue.close();
                }
                () = sleep(IDLE), if writer.connection.is_some() => writer.connection = None,
            }
            backlog.extend(fresh);
            if backlog.is_empty() {
                continue;
            }
        }
        let batch = take(&mut backlog);
        writer.write_all(batch).await;
    }
}

/// Takes as much from the front as a transaction should have.
fn take(backlog: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let mut bytes = 0;
    let fitting = backlog.iter().take_while(|waiting| {
        bytes += waiting.size;
        bytes <= BATCH_BYTES
    });
    let count = fitting.count().clamp(1, BATCH).min(backlog.len());
    backlog.drain(..count).collect()
}

struct Writer {
    journal: Journal,
    rejected: Rejected,
    /// Kept from batch to batch while there is work, since a pool asks each time whether the connection is alive.
    connection: Option<PoolConnection<Postgres>>,
    stop: CancellationToken,
    /// Since when the database does not answer.
    away_since: Option<Instant>,
}

impl Writer {
    /// Writes a batch; when it fails, its halves, so that a bad row fails only its own write.
    async fn write_all(&mut self, batch: Vec<Waiting>) {
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            let (mut part, stale): (Vec<_>, Vec<_>) = part
                .into_iter()
                .partition(|waiting| waiting.epoch == self.journal.epoch());
            for waiting in stale {
                self.answer(waiting, Err(Failure::EpochOver.into()));
            }
            if part.is_empty() {
                continue;
            }
            match self.write_patiently(&part).await {
                Ok(results) => {
                    self.away_since = None;
                    for (waiting, result) in part.into_iter().zip(results) {
                        self.answer(waiting, result);
                    }
                }
                Err(Failure::NotCommitted(error)) if part.len() > 1 && !is_away(&error) => {
                    let rest = part.split_off(part.len() / 2);
                    parts.push(rest);
                    parts.push(part);
                }
                Err(failure) => self.fail(part, failure).await,
            }
        }
    }

    /// Writes a batch, and again while it loses to other transactions or the database is away for a short time.
    async fn write_patiently(
        &mut self,
        part: &[Waiting],
    ) -> Result<Vec<Result<Written, WriteError>>, Failure> {
        let writes: Vec<&Write> = part.iter().map(|waiting| &waiting.write).collect();
        let mut conflicts = 0;
        let mut pause = Duration::from_millis(20);
        loop {
            let started = Instant::now();
            let failure = match self.write_once(&writes).await {
                Ok(results) => {
                    record(writes.len(), started.elapsed());
                    return Ok(results);
                }
                Err(failure) => failure,
            };
            let Failure::NotCommitted(error) = &failure else {
                return Err(failure);
            };
            if is_conflict(error) && conflicts < CONFLICTS {
                conflicts += 1;
            } else if is_away(error) && self.may_wait() {
                tracing::debug!(
                    error = error as &dyn std::error::Error,
                    "the database is away, trying again"
                );
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            } else {
                return Err(failure);
            }
        }
    }

    fn may_wait(&mut self) -> bool {
        let since = *self.away_since.get_or_insert_with(Instant::now);
        let patience = if self.stop.is_cancelled() {
            LAST_PATIENCE
        } else {
            PATIENCE
        };
        since.elapsed() < patience
    }

    async fn write_once(
        &mut self,
        writes: &[&Write],
    ) -> Result<Vec<Result<Written, WriteError>>, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.journal.0.pool.acquire().await?,
        };
        let outcome = self.write_with(&mut connection, writes).await;
        match &outcome {
            Ok(_) => self.connection = Some(connection),
            Err(Failure::NotCommitted(error) | Failure::Unknown(error))
                if is_connection_error(error) =>
            {
                connection.close_on_drop();
                self.journal.0.blocks.reset();
            }
            Err(_) => {}
        }
        outcome
    }

    async fn write_with(
        &self,
        connection: &mut PoolConnection<Postgres>,
        writes: &[&Write],
    ) -> Result<Vec<Result<Written, WriteError>>, Failure> {
        if batch::is_plain(writes) {
            let mut tx = connection.begin_with(log::BEGIN).await?;
            let (epoch, rejected) = (self.journal.epoch(), &self.rejected);
            match batch::write_at_once(&mut tx, epoch, writes, rejected).await? {
                Some(batch) => return self.journal.finish(tx, batch).await,
                None => tx.rollback().await?,
            }
        }
        let mut tx = connection.begin_with(log::BEGIN).await?;
        let batch = batch::write(&mut tx, self.journal.epoch(), writes, &self.rejected).await?;
        self.journal.finish(tx, batch).await
    }

    /// Fails every write of a part that cannot be written.
    async fn fail(&mut self, part: Vec<Waiting>, failure: Failure) {
        tracing::warn!(
            error = &failure as &dyn std::error::Error,
            writes = part.len(),
            "a batch failed"
        );
        if matches!(failure, Failure::EpochOver)
            && let Err(error) = self.journal.renew().await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the new epoch cannot be read"
            );
        }
        let mut failure = Some(failure);
        for waiting in part {
            let error = match failure.take() {
                Some(Failure::EpochOver) => {
                    failure = Some(Failure::EpochOver);
                    WriteError::Lost
                }
                Some(failure) => failure.into(),
                None => WriteError::Storage(sqlx::Error::WorkerCrashed),
            };
            self.answer(waiting, Err(error));
        }
    }

    fn answer(&mut self, waiting: Waiting, result: Result<Written, WriteError>) {
        if result.is_err()
            && let Some(room) = &waiting.write.room
        {
            self.rejected.add(room);
        }
        let inner = &self.journal.0;
        inner.waiting.fetch_sub(1, Ordering::Relaxed);
        inner
            .waiting_bytes
            .fetch_sub(waiting.size, Ordering::Relaxed);
        // Who no longer waits does not want to know.
        let _ = waiting.answer.send(result);
    }
}

/// Whether all writes fail like this for the time being, so that smaller batches fare no better.
fn is_away(error: &sqlx::Error) -> bool {
    is_connection_error(error) || is_timeout(error)
}

fn record(writes: usize, elapsed: Duration) {
    let writes = u32::try_from(writes).map_or(f64::MAX, f64::from);
    metrics::histogram!("hearth_journal_batch_writes").record(writes);
    metrics::histogram!("hearth_journal_commit_seconds").record(elapsed.as_secs_f64());
}
