//! The one door to the log.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hearth_core::{Position, config};
use hearth_store::{
    intern::{Blocks, Interner},
    log, log_tail,
    write::Write,
};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    announcement::{Announcement, Entry, Origin},
    batch::{self, Advance, Batch},
    epoch,
    error::{Failure, StartError, WriteError},
    fanout::Fanout,
    follow::{self, Page},
    head::Head,
    rejected::Rejected,
    writer::{self, Waiting},
};

/// How many writes may wait, and how many bytes they may have.
const QUEUE: usize = 20_000;
const QUEUE_BYTES: usize = 128 * 1024 * 1024;

/// How many entries of the log are read at once.
pub(crate) const PAGE: i64 = 10_000;

/// How long the database is asked what became of a COMMIT whose answer was lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// The commit-ordered log.
#[derive(Clone, Debug)]
pub struct Journal(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub pool: PgPool,
    pub blocks: Blocks,
    pub interner: Interner,
    pub head: Head,
    epoch: watch::Sender<i64>,
    /// The `PostgreSQL` that the epoch belongs to.
    cluster: Mutex<log::Cluster>,
    pub tail: AtomicI64,
    renewal: tokio::sync::Mutex<()>,
    queue: mpsc::UnboundedSender<Waiting>,
    pub waiting: AtomicUsize,
    pub waiting_bytes: AtomicUsize,
    fanout: Option<Fanout>,
}

/// What a journal is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The database.
    pub pool: PgPool,
    /// Numbers of new events and snapshots: dropped after connection errors.
    pub blocks: Blocks,
    /// Numbers of users and state keys: forgotten when an epoch begins.
    pub interner: Interner,
    /// Carries announcements between processes; without it they look at the log once a second.
    pub redis: Option<&'a config::Redis>,
    /// Where background work is started.
    pub tasks: &'a TaskTracker,
    /// When it has to end.
    pub stop: CancellationToken,
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

/// A write in the queue: resolves once it is committed. Dropping it does not take the write back.
#[derive(Debug)]
#[must_use = "a write is not done before it is awaited"]
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
    pub async fn start(parts: Parts<'_>) -> Result<Self, StartError> {
        let located = epoch::open(&parts.pool).await?;
        let mut conn = parts.pool.acquire().await?;
        let tail = log_tail::find(&mut conn).await?;
        drop(conn);
        let (queue, writes) = mpsc::unbounded_channel();
        let fanout = match parts.redis {
            Some(redis) => Some(Fanout::open(&parts.pool, redis).await?),
            None => None,
        };
        let (fanout, fanout_tasks) = fanout.unzip();
        let journal = Self(Arc::new(Inner {
            pool: parts.pool,
            blocks: parts.blocks,
            interner: parts.interner,
            head: Head::new(located.head.position),
            epoch: watch::Sender::new(located.head.epoch),
            cluster: Mutex::new(located.cluster),
            tail: AtomicI64::new(tail.position.0),
            renewal: tokio::sync::Mutex::default(),
            queue,
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            fanout,
        }));
        let drained = CancellationToken::new();
        let stop = parts.stop;
        if let Some(fanout_tasks) = fanout_tasks {
            fanout_tasks.spawn(&journal, parts.tasks, &stop, &drained);
        }
        parts
            .tasks
            .spawn(writer::run(journal.clone(), writes, stop.clone(), drained));
        parts.tasks.spawn(follow::run(journal.clone(), stop));
        Ok(journal)
    }

    /// Puts a write into the queue; the order of calls is the order of positions.
    pub fn submit(&self, write: Write) -> Pending {
        let (answer, coming) = oneshot::channel();
        let waiting = Waiting {
            epoch: self.epoch(),
            size: writer::size(&write),
            write,
            answer,
        };
        let size = waiting.size;
        let count = self.0.waiting.fetch_add(1, Ordering::Relaxed);
        let bytes = self.0.waiting_bytes.fetch_add(size, Ordering::Relaxed);
        if count >= QUEUE || bytes >= QUEUE_BYTES || self.0.queue.send(waiting).is_err() {
            self.0.waiting.fetch_sub(1, Ordering::Relaxed);
            self.0.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
            return Pending(Answer::Refused);
        }
        Pending(Answer::Coming(coming))
    }

    /// Writes within `tx`, which holds other rows that belong to it, and commits it; when the write is rejected, the
    /// other rows are not written either.
    ///
    /// `tx` must hold no locks on journalled tables.
    pub async fn commit(
        &self,
        mut tx: Transaction<'static, Postgres>,
        write: Write,
    ) -> Result<Written, WriteError> {
        log::limit(&mut tx).await?;
        let batch = batch::write(&mut tx, self.epoch(), &[&write], &Rejected::default()).await;
        let outcome = match batch {
            Ok(batch) => self.finish(tx, batch).await,
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(results) => results.into_iter().next().unwrap_or(Err(WriteError::Lost)),
            Err(failure) => {
                if matches!(failure, Failure::EpochOver) {
                    self.renew().await?;
                }
                Err(failure.into())
            }
        }
    }

    /// Commits a batch and tells of it; gives the results of its writes. Nothing is committed when all were rejected.
    pub(crate) async fn finish(
        &self,
        tx: Transaction<'_, Postgres>,
        batch: Batch,
    ) -> Result<Vec<Result<Written, WriteError>>, Failure> {
        let Some(advance) = batch.advance else {
            tx.rollback().await?;
            return Ok(batch.results);
        };
        if let Err(error) = tx.commit().await {
            if !hearth_store::is_connection_error(&error) {
                return Err(Failure::NotCommitted(error));
            }
            self.settle(&advance.transaction, error).await?;
        }
        self.tell(advance);
        Ok(batch.results)
    }

    fn tell(&self, advance: Advance) {
        if advance.head <= advance.previous {
            return;
        }
        let announcement = Arc::new(Announcement {
            previous: advance.previous,
            head: advance.head,
            entries: advance.entries.into(),
            origin: Origin::Local,
        });
        if let Some(fanout) = &self.0.fanout {
            fanout.tell(self.epoch(), Arc::clone(&announcement));
        }
        self.0.head.announce(announcement);
    }

    /// Finds out whether a transaction was committed, the answer to whose COMMIT was lost with `error`.
    async fn settle(&self, transaction: &str, error: sqlx::Error) -> Result<(), Failure> {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the answer to COMMIT was lost"
        );
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(20);
        loop {
            match self.find_outcome(transaction).await {
                Ok(Some(true)) => return Ok(()),
                Ok(Some(false)) => return Err(Failure::NotCommitted(error)),
                Err(Failure::EpochOver) => return Err(Failure::Unknown(error)),
                // It is still under way, or the database is away.
                Ok(None) | Err(Failure::NotCommitted(_) | Failure::Unknown(_)) => {}
            }
            if Instant::now() >= deadline {
                return Err(Failure::Unknown(error));
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn find_outcome(&self, transaction: &str) -> Result<Option<bool>, Failure> {
        let mut conn = self.0.pool.acquire().await?;
        let cluster = log::find_cluster(&mut conn).await?;
        if !self.is_of(self.epoch(), &cluster) {
            // Transaction ids of another PostgreSQL mean nothing.
            return Err(Failure::EpochOver);
        }
        Ok(log::find_outcome(&mut conn, transaction).await?)
    }

    /// Whether `epoch` is the known one and belongs to `cluster`.
    pub(crate) fn is_of(&self, epoch: i64, cluster: &log::Cluster) -> bool {
        let known = self.0.cluster.lock();
        epoch == self.epoch() && *known.unwrap_or_else(PoisonError::into_inner) == *cluster
    }

    /// Reads which epoch this is, or begins one; forgets what is of another.
    pub(crate) async fn renew(&self) -> sqlx::Result<log::Head> {
        let _alone = self.0.renewal.lock().await;
        let located = epoch::open(&self.0.pool).await?;
        let known = self.epoch();
        if located.head.epoch != known {
            tracing::warn!(
                from = known,
                to = located.head.epoch,
                "the log began a new epoch"
            );
            self.0.interner.forget_all();
            self.0.blocks.reset();
        }
        let cluster = self.0.cluster.lock();
        *cluster.unwrap_or_else(PoisonError::into_inner) = located.cluster;
        self.0.epoch.send_if_modified(|epoch| {
            let known = std::mem::replace(epoch, located.head.epoch);
            known != *epoch
        });
        Ok(located.head)
    }

    /// How far the log is known without holes.
    #[must_use]
    pub fn head(&self) -> Position {
        self.0.head.position()
    }

    /// The log's epoch: tokens of another one are no good.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        *self.0.epoch.borrow()
    }

    /// Waits until the epoch is another one than `known`; gives it.
    ///
    /// After that nothing holds that was read before from rows which a fail-over may have lost.
    pub async fn epoch_after(&self, known: i64) -> i64 {
        let mut epoch = self.0.epoch.subscribe();
        let next = epoch.wait_for(|epoch| *epoch != known).await;
        next.map_or(known, |epoch| *epoch)
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
        Ok(self.page(from, to).await?.entries)
    }

    pub(crate) async fn page(&self, from: Position, to: Position) -> sqlx::Result<Page> {
        let mut conn = self.0.pool.acquire().await?;
        let rows = log::list(&mut conn, from, to, PAGE).await?;
        Ok(Page::of(rows))
    }
}
