//! Which process follows the log for all: work that one does at a time.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use hearth_store::lease::{self, Held};
use sqlx::PgPool;

/// How long the lease is held without being renewed, and how often it is renewed.
const DURATION: i64 = 15_000;
const RENEWAL: Duration = Duration::from_secs(5);

/// Whether other processes may do the same work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processes {
    /// This one is the only one: a lease that was held before is of a process that is gone.
    One,
    /// There may be others.
    Many,
}

/// A lease that this process has, or waits for.
#[derive(Debug)]
pub struct Lead {
    pool: PgPool,
    name: &'static str,
    processes: Processes,
    holder: i64,
    is_ours: AtomicBool,
}

impl Lead {
    /// How often a lease is to be renewed.
    pub const RENEWAL: Duration = RENEWAL;

    /// The lease called `name`, which is not held yet.
    #[must_use]
    pub fn new(pool: PgPool, name: &'static str, processes: Processes) -> Self {
        Self {
            pool,
            name,
            processes,
            holder: rand::random(),
            is_ours: AtomicBool::new(false),
        }
    }

    /// What the lease is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What tells this process from others, and from itself in another life.
    #[must_use]
    pub fn holder(&self) -> i64 {
        self.holder
    }

    /// Whether this process has the lease.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.is_ours.load(Ordering::Acquire)
    }

    /// Whether other processes may leave work to this one.
    #[must_use]
    pub fn has_companions(&self) -> bool {
        self.is_ours() && self.processes == Processes::Many
    }

    /// Takes the lease or holds it for longer; says whether it was just taken.
    ///
    /// # Errors
    ///
    /// When the database fails; then the lease counts as lost.
    pub async fn hold(&self) -> sqlx::Result<bool> {
        let held = self.try_hold().await;
        let is_ours = matches!(held, Ok(Held::Yes));
        let was_ours = self.is_ours.swap(is_ours, Ordering::AcqRel);
        held.map(|_| is_ours && !was_ours)
    }

    async fn try_hold(&self) -> sqlx::Result<Held> {
        let mut conn = self.pool.acquire().await?;
        match self.processes {
            Processes::One => {
                lease::seize(&mut conn, self.name, self.holder, DURATION).await?;
                Ok(Held::Yes)
            }
            Processes::Many => lease::hold(&mut conn, self.name, self.holder, DURATION).await,
        }
    }

    /// Takes note that another process has the lease.
    pub fn lose(&self) {
        self.is_ours.store(false, Ordering::Release);
    }

    /// Gives the lease back, so that another process need not wait.
    pub async fn give_back(&self) {
        if !self.is_ours() {
            return;
        }
        self.lose();
        let given = async {
            let mut conn = self.pool.acquire().await?;
            lease::delete(&mut conn, self.name, self.holder).await
        };
        if let Err(error) = given.await {
            tracing::debug!("the lease runs out by itself: {error}");
        }
    }
}
