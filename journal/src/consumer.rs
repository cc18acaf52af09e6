//! Following the log for all processes: from the log to what a consumer notes down, and trying again what failed.
//!
//! One process does a consumer's work at a time, under its [`Lead`]. How far it is, is a cursor in the database that
//! moves in the transaction in which the work is noted down; what is done again after a crash is nothing but time.

use std::{sync::Arc, time::Duration};

use hearth_core::{Clock, Position};
use hearth_store::lease::Held;
use tokio::sync::{
    Notify,
    broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{Announcement, Entry, Journal, lead::Lead};

/// About how many entries that were announced are worked through at once.
const TOGETHER: usize = 500;

/// How far the cursor in the database may be behind when there was nothing to note down.
const LAZINESS: i64 = 1_000;

/// How many that failed are tried again at once.
const PAGE: i64 = 500;

/// How long nobody looks when nothing is to be tried again, as far as is known here.
const LONGEST_REST: Duration = Duration::from_mins(10);

/// How long to rest when the database is away.
const TROUBLE: Duration = Duration::from_secs(5);

/// Whether the cursor in the database moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It did, together with what was noted down.
    Yes,
    /// There was nothing to note down.
    No,
}

/// What failed and has to be tried again.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// How many of those whose time has come were found.
    pub found: usize,
    /// When the time of the next one comes, in milliseconds.
    pub next: Option<i64>,
}

/// Does something about the log's entries, one process for all.
pub trait Consumer: Send + Sync {
    /// The lease under which it is done.
    fn lead(&self) -> &Lead;

    /// Wakes [`retry`] when it may have to look earlier.
    fn sooner(&self) -> &Notify;

    /// Begins to work, since the lease was just taken, on what is noted down; gives the cursor, which is `head` when there
    /// was none.
    fn begin(&self, head: Position) -> impl Future<Output = sqlx::Result<Position>> + Send;

    /// Looks at what only a look at the database tells, whenever the lease was held for longer.
    fn look_around(&self) -> impl Future<Output = sqlx::Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Notes down what the entries of `(since, end]` mean, and moves the cursor to `end` with it.
    fn take_in(
        &self,
        entries: &[Entry],
        span: (Position, Position),
    ) -> impl Future<Output = sqlx::Result<Moved>> + Send;

    /// Moves the cursor; says whether the lease allows it.
    fn store(&self, end: Position) -> impl Future<Output = sqlx::Result<Held>> + Send;

    /// Begins to try those again that failed and whose time has come at `now`, at most `limit`.
    fn wake_due(&self, now: i64, limit: i64) -> impl Future<Output = sqlx::Result<Due>> + Send;
}

/// How far the log is worked through.
struct Cursor {
    /// All before is done.
    done: Position,
    /// What the database says.
    stored: Position,
}

/// Has `consumer` follow the log until `stop`; `news` was subscribed to before.
pub async fn consume(
    consumer: &impl Consumer,
    journal: &Journal,
    mut news: Receiver<Arc<Announcement>>,
    stop: &CancellationToken,
) {
    let mut renewals = tokio::time::interval(Lead::RENEWAL);
    let mut cursor = None;
    loop {
        let announced = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = renewals.tick() => {
                renew(consumer, journal, &mut cursor).await;
                Vec::new()
            }
            announced = news.recv() => match announced {
                Ok(announcement) => with_waiting(announcement, &mut news),
                Err(RecvError::Lagged(_)) => Vec::new(),
                Err(RecvError::Closed) => break,
            },
        };
        let Some(cursor) = cursor.as_mut().filter(|_| consumer.lead().is_ours()) else {
            continue;
        };
        if let Err(error) = catch_up(consumer, journal, cursor, &announced).await {
            tracing::warn!(
                lease = consumer.lead().name(),
                error = &error as &dyn std::error::Error,
                "what the log tells could not be noted down"
            );
        }
    }
    if let Some(cursor) = &cursor
        && consumer.lead().is_ours()
    {
        // What is done again after the next start is nothing but time.
        let _ = consumer.store(cursor.done).await;
    }
    consumer.lead().give_back().await;
}

/// Holds the lease; when it was just taken, goes on where its last holder ended.
async fn renew(consumer: &impl Consumer, journal: &Journal, cursor: &mut Option<Cursor>) {
    let lead = consumer.lead();
    let renewed = match lead.hold().await {
        Ok(is_new) if is_new || (cursor.is_none() && lead.is_ours()) => {
            begin(consumer, journal, cursor).await
        }
        Ok(_) if lead.is_ours() => consumer.look_around().await,
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = renewed {
        tracing::warn!(
            lease = lead.name(),
            error = &error as &dyn std::error::Error,
            "the log cannot be followed at the moment"
        );
    }
}

async fn begin(
    consumer: &impl Consumer,
    journal: &Journal,
    cursor: &mut Option<Cursor>,
) -> sqlx::Result<()> {
    let (head, tail) = (journal.head(), journal.tail());
    // What another process did meanwhile is not to be done again; if this fails, the next renewal begins anew.
    *cursor = None;
    let stored = consumer.begin(head).await?;
    consumer.sooner().notify_one();
    *cursor = Some(Cursor {
        done: stored.max(tail),
        stored,
    });
    Ok(())
}

/// An announcement with those that wait already, so that what comes fast is worked through together. None: some were
/// missed, and the log is to be read.
fn with_waiting(
    first: Arc<Announcement>,
    news: &mut Receiver<Arc<Announcement>>,
) -> Vec<Arc<Announcement>> {
    let mut count = first.entries.len();
    let mut announced = vec![first];
    while count < TOGETHER {
        match news.try_recv() {
            Ok(next) => {
                count += next.entries.len();
                announced.push(next);
            }
            Err(TryRecvError::Lagged(_)) => return Vec::new(),
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    announced
}

/// Works through what is after the cursor: what was announced, if that is what comes next, or else what the log says.
async fn catch_up(
    consumer: &impl Consumer,
    journal: &Journal,
    cursor: &mut Cursor,
    announced: &[Arc<Announcement>],
) -> sqlx::Result<()> {
    if let (Some(first), Some(last)) = (announced.first(), announced.last()) {
        if last.head <= cursor.done {
            return Ok(());
        }
        if first.previous <= cursor.done {
            let new = announced.iter().flat_map(|one| one.entries.iter());
            let new = new.filter(|entry| entry.position > cursor.done).copied();
            let new: Vec<Entry> = new.collect();
            return take_in(consumer, cursor, &new, last.head).await;
        }
    }
    let head = journal.head();
    while cursor.done < head {
        let page = journal.page(cursor.done, head).await?;
        take_in(consumer, cursor, &page.entries, page.next.unwrap_or(head)).await?;
    }
    Ok(())
}

async fn take_in(
    consumer: &impl Consumer,
    cursor: &mut Cursor,
    entries: &[Entry],
    end: Position,
) -> sqlx::Result<()> {
    match consumer.take_in(entries, (cursor.done, end)).await? {
        Moved::Yes => cursor.stored = end,
        Moved::No if end.0 - cursor.stored.0 < LAZINESS => {}
        Moved::No => match consumer.store(end).await? {
            Held::Yes => cursor.stored = end,
            Held::No => consumer.lead().lose(),
        },
    }
    cursor.done = end;
    Ok(())
}

/// Has `consumer` try again what failed, when its time has come, until `stop`.
pub async fn retry(consumer: &impl Consumer, clock: &Clock, stop: &CancellationToken) {
    loop {
        let rest = if consumer.lead().is_ours() {
            let now = clock.millis();
            match consumer.wake_due(now, PAGE).await {
                Ok(due) => rest(due, now),
                Err(error) => {
                    tracing::debug!(
                        lease = consumer.lead().name(),
                        "what is to be tried again could not be read: {error}"
                    );
                    TROUBLE
                }
            }
        } else {
            LONGEST_REST
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(rest) => {}
            () = consumer.sooner().notified() => {}
        }
    }
}

fn rest(due: Due, now: i64) -> Duration {
    // When there were too many for once, those that were tried have another time by then.
    let is_full = i64::try_from(due.found).is_ok_and(|count| count >= PAGE);
    let wait = match due.next {
        _ if is_full => TROUBLE,
        Some(next) => Duration::from_millis((next - now).max(1).unsigned_abs()),
        None => LONGEST_REST,
    };
    wait.min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_rests_past_the_time_of_the_next() {
        let due = |found, next| rest(Due { found, next }, 1_000);

        assert_eq!(due(0, Some(1_500)), Duration::from_millis(500));
        assert_eq!(due(1, None), LONGEST_REST);
        assert_eq!(due(0, Some(i64::MAX)), LONGEST_REST);
        assert_eq!(due(500, Some(1_500)), TROUBLE);
    }
}
