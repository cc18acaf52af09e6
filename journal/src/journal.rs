//! The one door to the log.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use hearth_core::Position;
use hearth_store::{intern::Blocks, log, log_tail, write::Write};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    announcement::{Announcement, Entry, Kind, Origin},
    batch::{self, Batch},
    error::{StartError, WriteError},
    head::Head,
    writer::{self, Waiting},
};

/// How many writes may wait.
const QUEUE: usize = 20_000;

/// How many entries of the log are read at once.
const PAGE: i64 = 10_000;

/// The commit-ordered log.
#[derive(Clone, Debug)]
pub struct Journal(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub pool: PgPool,
    pub blocks: Blocks,
    pub head: Head,
    pub epoch: AtomicI64,
    pub tail: AtomicI64,
    queue: mpsc::UnboundedSender<Waiting>,
    pub waiting: AtomicUsize,
}

/// The places that a write got: its events first, in order, without others between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The first place.
    pub first: Position,
    /// The last place.
    pub last: Position,
}

impl Written {
    pub(crate) const NOTHING: Self = Self {
        first: Position(0),
        last: Position(0),
    };
}

/// A write in the queue: resolves once it is committed.
#[derive(Debug)]
pub struct Pending(Answer);

#[derive(Debug)]
enum Answer {
    Refused,
    Coming(oneshot::Receiver<Result<Written, WriteError>>),
}

impl Future for Pending {
    type Output = Result<Written, WriteError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Answer::Refused => Poll::Ready(Err(WriteError::Overloaded)),
            Answer::Coming(answer) => Pin::new(answer)
                .poll(cx)
                .map(|answer| answer.unwrap_or(Err(WriteError::Overloaded))),
        }
    }
}

impl Journal {
    /// Reads the head and starts the writer; it stops, when `stop` is cancelled, after everything that waits.
    pub async fn start(
        pool: PgPool,
        blocks: Blocks,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let mut conn = pool.acquire().await?;
        let cluster = log::find_cluster(&mut conn).await?;
        let head = log::upsert_head(&mut conn, &cluster).await?;
        let tail = log_tail::find(&mut conn).await?;
        drop(conn);
        let (queue, writes) = mpsc::unbounded_channel();
        let journal = Self(Arc::new(Inner {
            pool,
            blocks,
            head: Head::new(head.position),
            epoch: AtomicI64::new(head.epoch),
            tail: AtomicI64::new(tail.position.0),
            queue,
            waiting: AtomicUsize::new(0),
        }));
        tracker.spawn(writer::run(journal.clone(), writes, stop));
        Ok(journal)
    }

    /// Puts a write into the queue; the order of calls is the order of positions.
    #[must_use = "a write is not done before it is awaited"]
    pub fn submit(&self, write: Write) -> Pending {
        let (answer, coming) = oneshot::channel();
        if self.0.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE
            || self.0.queue.send(Waiting { write, answer }).is_err()
        {
            self.0.waiting.fetch_sub(1, Ordering::Relaxed);
            return Pending(Answer::Refused);
        }
        Pending(Answer::Coming(coming))
    }

    /// Writes within `tx`, which holds other rows that belong to it, and commits it.
    pub async fn commit(
        &self,
        mut tx: Transaction<'static, Postgres>,
        write: Write,
    ) -> Result<Written, WriteError> {
        let batch = batch::write(&mut tx, self.epoch(), &[&write], &HashSet::new()).await?;
        let result = self.finish(tx, batch).await?;
        result.into_iter().next().unwrap_or(Ok(Written::NOTHING))
    }

    /// Commits a batch and tells of it; gives the results of its writes.
    pub(crate) async fn finish(
        &self,
        tx: Transaction<'_, Postgres>,
        batch: Batch,
    ) -> sqlx::Result<Vec<Result<Written, WriteError>>> {
        tx.commit().await?;
        if batch.head > batch.previous {
            self.0.head.announce(Announcement {
                previous: batch.previous,
                head: batch.head,
                entries: batch.entries.into(),
                origin: Origin::Local,
            });
        }
        Ok(batch.results)
    }

    /// How far the log is known without holes.
    #[must_use]
    pub fn head(&self) -> Position {
        self.0.head.position()
    }

    /// The log's epoch: tokens of another one are no good.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// Where the log begins: what a token from before it missed is no longer known.
    #[must_use]
    pub fn tail(&self) -> Position {
        Position(self.0.tail.load(Ordering::Acquire))
    }

    /// Hears of every commit from now on, in the order of the log.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Announcement>> {
        self.0.head.subscribe()
    }

    /// Waits until everything up to `position` is known here.
    pub async fn wait_for(&self, position: Position) {
        let mut head = self.0.head.watch();
        // The sender lives as long as the journal.
        let _ = head.wait_for(|head| *head >= position).await;
    }

    /// Reads the log's entries in `(from, to]`, as many as one page holds.
    pub async fn read(&self, from: Position, to: Position) -> sqlx::Result<Vec<Entry>> {
        let mut conn = self.0.pool.acquire().await?;
        let rows = log::list(&mut conn, from, to, PAGE).await?;
        let entries = rows.into_iter().filter_map(|row| {
            Some(Entry {
                position: row.position,
                kind: Kind::from_number(row.kind)?,
                room: row.room,
                user: row.user,
                event: row.event,
            })
        });
        Ok(entries.collect())
    }
}
