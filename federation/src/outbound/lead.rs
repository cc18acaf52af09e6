//! Which process sends.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use hearth_store::lease::{self, Held};
use sqlx::PgPool;

/// The name of the lease.
pub(super) const LEASE: &str = "outbound";

/// How long the lease is held without being renewed, and how often it is renewed.
const DURATION: i64 = 15_000;
pub(super) const RENEWAL: Duration = Duration::from_secs(5);

/// Whether other processes may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processes {
    /// This one is the only one: a lease that was held before is of a process that is gone.
    One,
    /// There may be others.
    Many,
}

/// The lease of this process.
#[derive(Debug)]
pub(super) struct Lead {
    pool: PgPool,
    processes: Processes,
    /// Tells this process from others and from itself in another life.
    pub(super) holder: i64,
    is_ours: AtomicBool,
}

impl Lead {
    pub(super) fn new(pool: PgPool, processes: Processes) -> Self {
        Self {
            pool,
            processes,
            holder: rand::random(),
            is_ours: AtomicBool::new(false),
        }
    }

    /// Whether this process sends.
    pub(super) fn is_ours(&self) -> bool {
        self.is_ours.load(Ordering::Acquire)
    }

    /// Whether other processes may leave work to this one.
    pub(super) fn has_companions(&self) -> bool {
        self.is_ours() && self.processes == Processes::Many
    }

    /// Takes the lease or holds it for longer; says whether it was just taken.
    pub(super) async fn hold(&self) -> sqlx::Result<bool> {
        let held = self.try_hold().await;
        let is_ours = matches!(held, Ok(Held::Yes));
        let was_ours = self.is_ours.swap(is_ours, Ordering::AcqRel);
        held.map(|_| is_ours && !was_ours)
    }

    async fn try_hold(&self) -> sqlx::Result<Held> {
        let mut conn = self.pool.acquire().await?;
        match self.processes {
            Processes::One => {
                lease::seize(&mut conn, LEASE, self.holder, DURATION).await?;
                Ok(Held::Yes)
            }
            Processes::Many => lease::hold(&mut conn, LEASE, self.holder, DURATION).await,
        }
    }

    /// Takes note that another process has the lease.
    pub(super) fn lose(&self) {
        self.is_ours.store(false, Ordering::Release);
    }

    /// Gives the lease back, so that another process need not wait.
    pub(super) async fn give_back(&self) {
        if !self.is_ours() {
            return;
        }
        self.lose();
        let given = async {
            let mut conn = self.pool.acquire().await?;
            lease::delete(&mut conn, LEASE, self.holder).await
        };
        if let Err(error) = given.await {
            tracing::debug!("the lease runs out by itself: {error}");
        }
    }
}
