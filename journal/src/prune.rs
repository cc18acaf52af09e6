//! What nobody needs any more goes: the tail of the log, rows that expired, states that nothing uses.

mod expired;
mod snapshots;

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use hearth_core::{Clock, Position, RoomNid, UserNid};
use hearth_store::{
    current_state, device_list_change, log, log_mark,
    log_tail::{self, Tail, Updated},
    receipt, sent_event, to_device,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::expired::Expiring;
use crate::{announcement::Kind, journal::Journal};

/// How often one of the processes prunes.
const ROUND: Duration = Duration::from_mins(10);

/// How often a process looks where the tail is, and whether a round is due: often enough that it knows of a tail
/// before the rows behind it go, a [`ROUND`] later.
const LOOK: Duration = Duration::from_mins(4);

/// How long clients' transactions are remembered that made an event; not longer than the log.
const SENT: Duration = Duration::from_hours(7 * 24);

/// Keeps tables from growing for ever.
///
/// `docs/storage.md` says of each what bounds it; this is the one place where rows go because of their age.
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
    /// Younger positions stay.
    age: Duration,
    /// So many positions stay, however old they are.
    positions: i64,
    /// Messages wait so long for a device that is not seen.
    absence: Duration,
    /// A snapshot stays so long after it was found to be used by nothing.
    unused: Duration,
    /// So many rows go in one transaction.
    chunk: i64,
    /// So many transactions a round has for a table at the most.
    chunks: u32,
}

impl Bounds {
    const USUAL: Self = Self {
        age: Duration::from_hours(7 * 24),
        positions: 1_000_000,
        absence: Duration::from_hours(180 * 24),
        unused: Duration::from_hours(1),
        chunk: 5_000,
        chunks: 200,
    };
}

/// The time `age` before `now`, both in milliseconds since the epoch.
fn before(now: i64, age: Duration) -> i64 {
    now - millis(age)
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
        let round = log_tail::update_round(&mut conn, now, before(now, ROUND)).await?;
        if let Some(tail) = round {
            log_mark::insert(&mut conn, now).await?;
            let oldest = before(now, self.bounds.age);
            log_tail::update_position(&mut conn, oldest, self.bounds.positions).await?;
            log_mark::delete_before(&mut conn, oldest).await?;
            let outlived = log_mark::find_position(&mut conn, before(now, SENT)).await?;
            drop(conn);
            // As long as the log still tells of them.
            self.prune_sent(tail.sent, outlived.unwrap_or(tail.sent))
                .await?;
            // The tail as it was: every process knows of it since the last round.
            self.prune_log(tail, now).await?;
            for table in Expiring::ALL {
                self.prune_expired(table, now).await?;
            }
            self.sweep_snapshots(now).await?;
            conn = self.journal.0.pool.acquire().await?;
        }
        let tail = log_tail::find(&mut conn).await?.position;
        self.journal.0.tail.fetch_max(tail.0, Ordering::Release);
        Ok(())
    }

    /// Forgets clients' transactions up to `to`.
    async fn prune_sent(&self, from: Position, to: Position) -> sqlx::Result<()> {
        let mut gone = from;
        while gone < to {
            let next = Position(to.0.min(gone.0 + self.bounds.chunk));
            let mut tx = self.journal.0.pool.begin().await?;
            match log_tail::update_sent(&mut tx, gone, next).await? {
                Updated::Yes => (),
                Updated::ByAnother => return Ok(()),
            }
            sent_event::delete(&mut tx, gone, next).await?;
            tx.commit().await?;
            gone = next;
        }
        Ok(())
    }

    async fn prune_log(&self, tail: Tail, now: i64) -> sqlx::Result<()> {
        let absent = before(now, self.bounds.absence);
        let mut pruned = tail.pruned;
        while pruned < tail.position {
            let to = Position(tail.position.0.min(pruned.0 + self.bounds.chunk));
            let mut tx = self.journal.0.pool.begin().await?;
            match log_tail::update_pruned(&mut tx, pruned, to).await? {
                Updated::Yes => (),
                Updated::ByAnother => return Ok(()),
            }
            let gone = Gone::of(&log::delete(&mut tx, pruned, to).await?);
            current_state::delete_before(&mut tx, &gone.rooms, to).await?;
            device_list_change::delete(&mut tx, to).await?;
            to_device::delete_unwanted(&mut tx, &gone.addressees, absent, self.bounds.chunk)
                .await?;
            receipt::delete_overtaken(&mut tx, &gone.read.0, &gone.read.1).await?;
            tx.commit().await?;
            pruned = to;
        }
        Ok(())
    }
}

/// What pruned entries of the log told of.
#[derive(Debug, Default)]
struct Gone {
    rooms: Vec<RoomNid>,
    /// Who got messages to devices.
    addressees: Vec<UserNid>,
    /// Where somebody read, and who.
    read: (Vec<RoomNid>, Vec<UserNid>),
}

impl Gone {
    fn of(entries: &[log::Gone]) -> Self {
        let rooms: BTreeSet<RoomNid> = entries.iter().filter_map(|entry| entry.room).collect();
        let mut gone = Self {
            rooms: rooms.into_iter().collect(),
            ..Self::default()
        };
        for entry in entries {
            match (Kind::from_number(entry.kind), entry.room, entry.user) {
                (Some(Kind::ToDevice), _, Some(user)) => gone.addressees.push(user),
                (Some(Kind::Receipt), Some(room), Some(user)) => {
                    gone.read.0.push(room);
                    gone.read.1.push(user);
                }
                _ => {}
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests;
