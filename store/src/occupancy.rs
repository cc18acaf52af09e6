//! Whether this process has the database to itself.
//!
//! What a process keeps in memory to decide by (sessions, who is in which room) is true only while nobody else changes
//! the rows. So each process that serves holds an advisory lock: exclusively when it is meant to be the only one, shared
//! when it shares Redis with others. The lock belongs to a session, so that `kill -9` frees it at once. While the session
//! is lost, whoever asks is told that there may be others, and reads rows instead of its memory.

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The lock's number ("hearthoc" in ASCII).
const LOCK: i64 = 0x68_65_61_72_74_68_6f_63;

/// How long a start waits for a process that is about to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the session is asked whether it lives, and how long it may take to answer.
const PULSE: Duration = Duration::from_secs(1);

/// How long to wait before the lock is tried again.
const PAUSE: Duration = Duration::from_millis(250);

/// How a process wants to have the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// For itself.
    Alone,
    /// Together with processes that want the same.
    Shared,
}

/// Why a process may not use the database.
#[derive(Debug, thiserror::Error)]
pub enum OccupyError {
    /// Somebody is there, or wants to be alone.
    #[error(
        "another Hearth process uses this database; several processes can share it when each of them has the same redis.url in its configuration"
    )]
    Occupied,
    /// The database failed.
    #[error("locking the database failed")]
    Storage(#[from] sqlx::Error),
}

/// Tells whether this process has the database to itself.
#[derive(Clone, Debug)]
pub struct Occupancy(Arc<State>);

#[derive(Debug)]
struct State {
    /// Zero: others may be there. Else the number of the time for which this process is alone.
    tenure: AtomicU64,
    /// How many such times there were.
    count: AtomicU64,
}

/// Holds the lock; to be run as long as the process serves.
#[derive(Debug)]
pub struct Keeper {
    occupancy: Occupancy,
    claim: Claim,
    options: PgConnectOptions,
    session: PgConnection,
}

impl Occupancy {
    /// Others may be there.
    #[must_use]
    pub fn shared() -> Self {
        Self(Arc::new(State {
            tenure: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }))
    }

    /// Nobody else can be there, for whatever reason the caller knows.
    #[must_use]
    pub fn alone() -> Self {
        let occupancy = Self::shared();
        occupancy.begin();
        occupancy
    }

    /// The number of the time for which this process is alone; `None` when others may be there.
    ///
    /// What was read in one such time is not to be believed in another.
    #[must_use]
    pub fn tenure(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.0.tenure.load(Ordering::Acquire))
    }

    fn begin(&self) {
        let number = self.0.count.fetch_add(1, Ordering::AcqRel) + 1;
        self.0.tenure.store(number, Ordering::Release);
    }

    fn end(&self) {
        self.0.tenure.store(0, Ordering::Release);
    }

    /// Takes the lock in a session of its own, which must not go through a pooler.
    pub(crate) async fn claim(
        options: PgConnectOptions,
        claim: Claim,
    ) -> Result<Keeper, OccupyError> {
        let mut session = options.connect().await?;
        let deadline = Instant::now() + PATIENCE;
        let mut told = false;
        while !try_lock(&mut session, claim).await? {
            if Instant::now() >= deadline {
                return Err(OccupyError::Occupied);
            }
            if !told {
                tracing::info!("waiting for another process that uses the database");
                told = true;
            }
            sleep(PAUSE).await;
        }
        let occupancy = match claim {
            Claim::Alone => Self::alone(),
            Claim::Shared => Self::shared(),
        };
        Ok(Keeper {
            occupancy,
            claim,
            options,
            session,
        })
    }
}

impl Keeper {
    /// What it tells.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        self.occupancy.clone()
    }

    /// Holds the lock until `stop`, and takes it again when the session was lost.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            if stop.run_until_cancelled(self.watch()).await.is_none() {
                break;
            }
            self.occupancy.end();
            tracing::warn!("the session that keeps other processes out of the database is lost");
            if stop.run_until_cancelled(self.reclaim()).await.is_none() {
                break;
            }
        }
        self.occupancy.end();
        // The lock ends with the session, whatever becomes of the farewell.
        let _ = timeout(PULSE, self.session.close()).await;
    }

    /// Returns when the session is lost.
    async fn watch(&mut self) {
        loop {
            sleep(PULSE).await;
            if !matches!(timeout(PULSE, self.session.ping()).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    async fn reclaim(&mut self) {
        let mut told = false;
        loop {
            match self.try_reclaim().await {
                Ok(true) => break,
                Ok(false) if !told => {
                    told = true;
                    tracing::error!("{}", OccupyError::Occupied);
                }
                Ok(false) | Err(_) => {}
            }
            sleep(PAUSE).await;
        }
        if self.claim == Claim::Alone {
            self.occupancy.begin();
        }
    }

    async fn try_reclaim(&mut self) -> sqlx::Result<bool> {
        let connecting = timeout(PULSE, self.options.connect()).await;
        self.session = connecting.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        try_lock(&mut self.session, self.claim).await
    }
}

async fn try_lock(conn: &mut PgConnection, claim: Claim) -> sqlx::Result<bool> {
    match claim {
        Claim::Alone => {
            sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "locked!""#, LOCK)
                .fetch_one(conn)
                .await
        }
        Claim::Shared => {
            sqlx::query_scalar!(
                r#"SELECT pg_try_advisory_lock_shared($1) AS "locked!""#,
                LOCK
            )
            .fetch_one(conn)
            .await
        }
    }
}
