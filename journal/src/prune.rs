//! The tail of the log: what is too old for any token goes.

use std::{sync::atomic::Ordering, time::Duration};

use hearth_core::{Clock, Position};
use hearth_store::{
    current_state, device_list_change, log, log_mark,
    log_tail::{self, Tail, Updated},
    sent_event,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;

/// How often one of the processes prunes.
const ROUND: Duration = Duration::from_mins(10);

/// How often a process looks where the tail is, and whether a round is due: often enough that it knows of a tail
/// before the rows behind it go, a [`ROUND`] later.
const LOOK: Duration = Duration::from_mins(4);

/// Keeps the log, and the tables that go with it, from growing for ever.
///
/// Every process runs one; each round is taken by one of them. A process that stands still in the middle of its round
/// and goes on later does no harm: every step says from where it starts.
#[derive(Debug)]
pub struct Pruner {
    journal: Journal,
    clock: Clock,
    bounds: Bounds,
}

/// What is kept. Stated beside the tables in `migrations/`, too.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Younger positions and transactions stay.
    age: Duration,
    /// So many positions stay, however old they are.
    positions: i64,
    /// So many rows go in one transaction.
    chunk: i64,
}

impl Bounds {
    const USUAL: Self = Self {
        age: Duration::from_hours(7 * 24),
        positions: 1_000_000,
        chunk: 5_000,
    };

    /// What is older than this, in milliseconds since the epoch, may go.
    fn oldest(&self, now: i64) -> i64 {
        now - millis(self.age)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Pruner {
    /// Prunes what `journal` wrote, with `clock` for its age.
    #[must_use]
    pub fn new(journal: Journal, clock: Clock) -> Self {
        Self {
            journal,
            clock,
            bounds: Bounds::USUAL,
        }
    }

    /// Prunes until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work = async {
            loop {
                ticks.tick().await;
                if let Err(error) = self.round().await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "pruning failed");
                }
            }
        };
        // What is under way is rolled back, and done in a later round.
        stop.run_until_cancelled(work).await;
    }

    /// Prunes, if it is time and no other process does.
    async fn round(&self) -> sqlx::Result<()> {
        let now = self.clock.millis();
        let mut conn = self.journal.0.pool.acquire().await?;
        let before = log_tail::update_round(&mut conn, now, now - millis(ROUND)).await?;
        if let Some(before) = before {
            log_mark::insert(&mut conn, now).await?;
            let oldest = self.bounds.oldest(now);
            log_tail::update_position(&mut conn, oldest, self.bounds.positions).await?;
            log_mark::delete_before(&mut conn, oldest).await?;
            drop(conn);
            // The tail as it was: every process knows of it since the last round.
            self.prune_log(before).await?;
            self.prune_transactions(oldest).await?;
            conn = self.journal.0.pool.acquire().await?;
        }
        let tail = log_tail::find(&mut conn).await?.position;
        self.journal.0.tail.fetch_max(tail.0, Ordering::Release);
        Ok(())
    }

    async fn prune_log(&self, tail: Tail) -> sqlx::Result<()> {
        let mut pruned = tail.pruned;
        while pruned < tail.position {
            let to = Position(tail.position.0.min(pruned.0 + self.bounds.chunk));
            let mut tx = self.journal.0.pool.begin().await?;
            match log_tail::update_pruned(&mut tx, pruned, to).await? {
                Updated::Yes => (),
                Updated::ByAnother => return Ok(()),
            }
            let rooms = log::delete(&mut tx, pruned, to).await?;
            current_state::delete_before(&mut tx, &rooms, to).await?;
            device_list_change::delete(&mut tx, to).await?;
            tx.commit().await?;
            pruned = to;
        }
        Ok(())
    }

    async fn prune_transactions(&self, oldest_ts: i64) -> sqlx::Result<()> {
        let full = u64::try_from(self.bounds.chunk).unwrap_or(u64::MAX);
        loop {
            let mut conn = self.journal.0.pool.acquire().await?;
            let gone = sent_event::delete_before(&mut conn, oldest_ts, self.bounds.chunk).await?;
            if gone < full {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
