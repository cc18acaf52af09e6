//! Telling push gateways what notifies (specification, "Push Notifications"; Push Gateway API).
//!
//! What notifies users with pushers is noted down for each of their pushers, in the same transaction in which the cursor
//! moves: a crash loses nothing. One process does all of this at a time, under a lease. There is one worker for each pusher
//! that has something to tell; it reads what waits, asks the rules again, tells one thing and strikes it out. What waits,
//! and how long a pusher that failed is left alone, is in the database.

mod audience;
mod compose;
mod counts;
mod delivery;
mod fanout;
mod gateways;
mod registry;

use std::sync::Arc;

use hearth_core::{Clock, PusherNid};
use hearth_journal::{Journal, Lead, Processes};
use hearth_rooms::Live;
use hearth_users::Receipts;
use moka::sync::Cache;
use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{audience::Audience, gateways::Known, registry::Registry};
use crate::{evaluator::Evaluator, gateway::Gateways, unread::UnreadCounts};

/// The name of the lease.
const LEASE: &str = "push";

/// For how many pushers the database is used at once.
const READS: usize = 8;

/// How many pushers are remembered that fail.
const CACHED: u64 = 100_000;

/// Tells push gateways what notifies.
#[derive(Clone, Debug)]
pub struct Pushing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    lead: Lead,
    audience: Audience,
    registry: Registry,
    known: Known,
    /// Pushers that failed and are not to be tried before that time.
    failing: Cache<PusherNid, i64>,
    reads: Semaphore,
    /// When a pusher is to be tried again may have changed.
    retry: Notify,
}

/// What [`Pushing`] is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The database.
    pub pool: PgPool,
    /// The time.
    pub clock: Clock,
    /// The log.
    pub journal: Journal,
    /// What rules say to events.
    pub evaluator: Evaluator,
    /// What is unread.
    pub unread: UnreadCounts,
    /// How far users have read.
    pub receipts: Receipts,
    /// The way to gateways.
    pub gateways: Arc<dyn Gateways>,
    /// Whether other processes may do the same.
    pub processes: Processes,
    /// Where work is started.
    pub tasks: TaskTracker,
    /// When it ends.
    pub stop: CancellationToken,
}

impl Pushing {
    /// Begins to tell what `live` tells of, and what waits from before, until `parts.stop`.
    pub fn start(parts: Parts, live: &Live) {
        let pushing = Self(Arc::new(Inner {
            lead: Lead::new(parts.pool.clone(), LEASE, parts.processes),
            audience: Audience::new(parts.pool.clone()),
            registry: Registry::default(),
            known: Known::default(),
            failing: Cache::new(CACHED),
            reads: Semaphore::new(READS),
            retry: Notify::new(),
            parts,
        }));
        let tasks = &pushing.0.parts.tasks;
        let (following, news) = (pushing.clone(), live.subscribe());
        tasks.spawn(async move {
            let parts = &following.0.parts;
            hearth_journal::consume(&following, &parts.journal, news, &parts.stop).await;
        });
        let trying = pushing.clone();
        tasks.spawn(async move {
            let parts = &trying.0.parts;
            hearth_journal::retry(&trying, &parts.clock, &parts.stop).await;
        });
    }

    /// Begins to tell what waits for a pusher, unless that is going on or it failed a short while ago.
    fn wake(&self, nid: PusherNid) {
        let now = self.0.parts.clock.millis();
        let is_left_alone = self.0.failing.get(&nid).is_some_and(|retry| retry > now);
        if !self.0.lead.is_ours() || is_left_alone {
            return;
        }
        if self.0.registry.wake(nid) {
            self.0.parts.tasks.spawn(self.clone().work(nid));
        }
    }

    /// A turn at the database: thousands of pushers that have something to tell do not stand in the way of requests.
    async fn database_turn(&self) -> SemaphorePermit<'_> {
        self.0.reads.acquire().await.expect("never closed")
    }
}
