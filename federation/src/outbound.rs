//! Sending to other servers (Server-Server API, "Transactions").
//!
//! The log's events are noted down for the servers that have to get them, in the same transaction in which the cursor
//! moves: a crash loses nothing and sends nothing that was struck out. One process does all of this at a time, under a
//! lease. What is in memory are the servers that are being sent to right now; what waits, and how long a server that
//! fails is left alone, is in the database.

mod ephemera;
mod fanout;
mod receipts;
mod registry;
mod servers;
mod transaction;
mod typing;
mod worker;

use std::{sync::Arc, time::Duration};

use hearth_core::{Clock, DestinationNid, Identity};
use hearth_journal::{Journal, Lead, Processes};
use hearth_rooms::{Live, Rooms};
use hearth_store::destination;
use hearth_users::{Ephemeral, Presence, Typing};
use moka::{future::Cache, sync::Cache as SyncCache};
use ruma::{OwnedServerName, ServerName};
use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::registry::Registry;
use crate::client::Client;

/// The name of the lease for sending.
const LEASE: &str = "outbound";

/// To how many servers is sent at once that did not fail last, and to how many that did.
const HEALTHY_AT_ONCE: usize = 1_024;
const FAILING_AT_ONCE: usize = 64;

/// For how many servers the database is used at once: those that answered lately, and the others.
const ANSWERING_TURNS: usize = 4;
const OTHER_TURNS: usize = 2;

/// How many servers' numbers are in memory, and how many that fail.
const CACHED: u64 = 100_000;

/// How long a server that was heard from is not looked up again.
const HEARD: Duration = Duration::from_secs(20);

/// Sends to other servers.
#[derive(Clone, Debug)]
pub struct Outbound(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    lead: Lead,
    registry: Registry,
    numbers: Cache<OwnedServerName, DestinationNid>,
    /// Servers that failed and are not to be tried before that time.
    failing: SyncCache<DestinationNid, i64>,
    heard: SyncCache<OwnedServerName, ()>,
    healthy_at_once: Semaphore,
    failing_at_once: Semaphore,
    answering_turns: Semaphore,
    other_turns: Semaphore,
    /// When a server is to be tried again may have changed.
    retry: Notify,
}

/// What [`Outbound`] is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The database.
    pub pool: PgPool,
    /// The time.
    pub clock: Clock,
    /// Makes requests.
    pub client: Client,
    /// Who we are.
    pub identity: Arc<Identity>,
    /// The log.
    pub journal: Journal,
    /// Events, and who is in rooms.
    pub rooms: Rooms,
    /// Tells what typing and presence changes.
    pub ephemeral: Ephemeral,
    /// Who types.
    pub typing: Typing,
    /// Who is there.
    pub presence: Presence,
    /// Whether other processes may send.
    pub processes: Processes,
    /// Where work is started.
    pub tasks: TaskTracker,
    /// When it ends.
    pub stop: CancellationToken,
}

impl Outbound {
    /// Begins to send what `live` tells of, and what waits from before.
    #[must_use]
    pub fn start(parts: Parts, live: &Live) -> Self {
        let outbound = Self(Arc::new(Inner {
            lead: Lead::new(parts.pool.clone(), LEASE, parts.processes),
            registry: Registry::default(),
            numbers: Cache::new(CACHED),
            failing: SyncCache::new(CACHED),
            heard: SyncCache::builder()
                .max_capacity(CACHED)
                .time_to_live(HEARD)
                .build(),
            healthy_at_once: Semaphore::new(HEALTHY_AT_ONCE),
            failing_at_once: Semaphore::new(FAILING_AT_ONCE),
            answering_turns: Semaphore::new(ANSWERING_TURNS),
            other_turns: Semaphore::new(OTHER_TURNS),
            retry: Notify::new(),
            parts,
        }));
        let tasks = &outbound.0.parts.tasks;
        let (following, news) = (outbound.clone(), live.subscribe());
        tasks.spawn(async move {
            let parts = &following.0.parts;
            hearth_journal::consume(&following, &parts.journal, news, &parts.stop).await;
        });
        let trying = outbound.clone();
        tasks.spawn(async move {
            let parts = &trying.0.parts;
            hearth_journal::retry(&trying, &parts.clock, &parts.stop).await;
        });
        tasks.spawn(outbound.clone().tell_typing());
        outbound
    }

    /// Takes note that a server was heard from: if it failed before, it is tried again at once.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn heard_from(&self, server: &ServerName) -> sqlx::Result<()> {
        if self.0.heard.contains_key(server) {
            return Ok(());
        }
        self.0.heard.insert(server.to_owned(), ());
        let now = self.0.parts.clock.millis();
        let mut conn = self.0.parts.pool.acquire().await?;
        let failed = destination::update_heard(&mut conn, server, now).await?;
        drop(conn);
        if let Some(nid) = failed {
            self.0.failing.invalidate(&nid);
            self.wake(nid, server);
        }
        Ok(())
    }

    /// Sends the messages to devices that were noted down for servers.
    pub async fn send_messages(&self, servers: &[OwnedServerName]) -> sqlx::Result<()> {
        let names: Vec<&ServerName> = servers.iter().map(AsRef::as_ref).collect();
        for (server, nid) in self.numbers(&names).await? {
            self.wake(nid, &server);
        }
        Ok(())
    }

    /// Begins to send what waits for a server, unless that is going on or it failed a short while ago.
    fn wake(&self, nid: DestinationNid, server: &ServerName) {
        if !self.0.lead.is_ours() || self.is_left_alone(nid) {
            return;
        }
        if self.0.registry.wake(nid) {
            let work = self.clone().work(nid, server.to_owned());
            self.0.parts.tasks.spawn(work);
        }
    }

    /// A turn at the database for a server.
    ///
    /// A message into a room of hundreds of servers starts as many workers. They do not stand in the way of requests, and
    /// the servers that are gone not in the way of those that answer.
    async fn database_turn(&self, server: &ServerName) -> SemaphorePermit<'_> {
        let turns = if self.0.parts.client.has_answered(server) {
            &self.0.answering_turns
        } else {
            &self.0.other_turns
        };
        turns.acquire().await.expect("never closed")
    }

    /// Whether a server failed a short while ago.
    fn is_left_alone(&self, nid: DestinationNid) -> bool {
        let now = self.0.parts.clock.millis();
        let retry_ts = self.0.failing.get(&nid);
        retry_ts.is_some_and(|retry_ts| retry_ts > now)
    }

    /// The numbers of servers.
    async fn numbers(
        &self,
        servers: &[&ServerName],
    ) -> sqlx::Result<Vec<(OwnedServerName, DestinationNid)>> {
        let mut known = Vec::with_capacity(servers.len());
        let mut unknown = Vec::new();
        for server in servers {
            match self.0.numbers.get(*server).await {
                Some(nid) => known.push(((*server).to_owned(), nid)),
                None => unknown.push(*server),
            }
        }
        if unknown.is_empty() {
            return Ok(known);
        }
        let mut conn = self.0.parts.pool.acquire().await?;
        let rows = destination::upsert(&mut conn, &unknown).await?;
        drop(conn);
        for row in rows {
            let server = ServerName::parse(&row.server_name)
                .map_err(|error| sqlx::Error::Decode(error.into()))?;
            self.0.numbers.insert(server.clone(), row.nid).await;
            known.push((server, row.nid));
        }
        Ok(known)
    }
}
