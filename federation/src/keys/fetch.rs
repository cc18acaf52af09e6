//! Asking servers, and notaries, for keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use hearth_store::server_key;
use moka::{Expiry, future::Cache};
use ruma::{
    CanonicalJsonObject, OwnedServerName, ServerName,
    api::federation::discovery::{
        get_remote_server_keys_batch::v2 as batch, get_server_keys::v2 as direct,
    },
};

use super::{
    Keys, Wanted,
    answer::{self, Answer},
    own::on_the_wire,
};
use crate::client::Bounds;

/// How many servers are asked at once.
const AT_ONCE: usize = 32;

/// How long a server is not asked again that answered.
const ANSWERED_LIFETIME: Duration = Duration::from_secs(30);

/// How long a server is not asked again that did not answer: longer each time.
const SHORTEST_FAILURE: Duration = Duration::from_secs(10);
const LONGEST_FAILURE: Duration = Duration::from_hours(1);

/// How many servers are remembered that were asked a short while ago.
const CACHED: u64 = 50_000;

/// How many keys a notary is asked for in one request.
const NOTARY_BATCH: usize = 100;

/// The servers that were asked a short while ago. Who asks for the same server meanwhile waits for the same answer.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    outcomes: Cache<OwnedServerName, Outcome>,
    failures: Cache<OwnedServerName, u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    /// It failed so many times in a row.
    Failed(u32),
}

struct ByOutcome;

impl Expiry<OwnedServerName, Outcome> for ByOutcome {
    fn expire_after_create(
        &self,
        _: &OwnedServerName,
        outcome: &Outcome,
        _: Instant,
    ) -> Option<Duration> {
        Some(match outcome {
            Outcome::Answered => ANSWERED_LIFETIME,
            Outcome::Failed(times) => SHORTEST_FAILURE
                .saturating_mul(1 << times.saturating_sub(1).min(10))
                .min(LONGEST_FAILURE),
        })
    }
}

impl Asked {
    pub(super) fn new() -> Self {
        Self {
            outcomes: Cache::builder()
                .max_capacity(CACHED)
                .expire_after(ByOutcome)
                .build(),
            failures: Cache::builder()
                .max_capacity(CACHED)
                .time_to_live(LONGEST_FAILURE * 2)
                .build(),
        }
    }

    /// Forgets that a server did not answer, since it was heard from.
    pub(super) async fn forgive(&self, server: &ServerName) {
        self.failures.invalidate(server).await;
        self.outcomes.invalidate(server).await;
    }
}

impl Keys {
    /// Asks servers for their keys, those that were not asked a short while ago.
    pub(super) async fn fetch(&self, servers: BTreeSet<OwnedServerName>) {
        stream::iter(servers)
            .for_each_concurrent(AT_ONCE, |server| async move {
                self.fetch_one(&server).await;
            })
            .await;
    }

    /// Asks one server.
    pub(super) async fn fetch_one(&self, server: &ServerName) {
        let asked = &self.0.asked;
        let ask = async {
            match self.ask(server).await {
                Ok(()) => {
                    asked.failures.invalidate(server).await;
                    Outcome::Answered
                }
                Err(error) => {
                    tracing::debug!(%server, "no keys: {error}");
                    let times = asked.failures.get(server).await.unwrap_or(0) + 1;
                    asked.failures.insert(server.to_owned(), times).await;
                    Outcome::Failed(times)
                }
            }
        };
        asked.outcomes.get_with_by_ref(server, ask).await;
    }

    async fn ask(
        &self,
        server: &ServerName,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let request = direct::Request::new();
        let response = self.0.client.ask(server, request, Bounds::SMALL).await?;
        let now = self.0.clock.millis();
        let answer = Answer::read(&response.server_key, server, now)?;
        self.take_in(server, answer, now).await?;
        Ok(())
    }

    /// Asks notaries, one after the other, for keys that their servers did not give.
    pub(super) async fn ask_notaries(&self, wanted: &[&Wanted]) {
        for notary in &self.0.notaries {
            for part in wanted.chunks(NOTARY_BATCH) {
                if let Err(error) = self.ask_notary(notary, part).await {
                    tracing::info!(%notary, "the notary does not help: {error}");
                    break;
                }
            }
        }
    }

    async fn ask_notary(
        &self,
        notary: &ServerName,
        wanted: &[&Wanted],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let now = self.0.clock.millis();
        let mut servers: BTreeMap<OwnedServerName, BTreeMap<_, _>> = BTreeMap::new();
        for wanted in wanted {
            let mut criteria = batch::QueryCriteria::new();
            criteria.minimum_valid_until_ts = Some(on_the_wire(wanted.at.unwrap_or(0).min(now)));
            servers
                .entry(wanted.server.clone())
                .or_default()
                .insert(wanted.key_id.clone(), criteria);
        }
        let asked: BTreeSet<OwnedServerName> = servers.keys().cloned().collect();
        let request = batch::Request::new(servers);
        let response = self.0.client.ask(notary, request, Bounds::LARGE).await?;
        let trusted = self.current(notary).await?;
        for raw in response.server_keys {
            let Ok(named) = raw.get_field::<OwnedServerName>("server_name") else {
                continue;
            };
            let Some(server) = named.filter(|server| asked.contains(server)) else {
                continue;
            };
            let answer = Answer::read(&raw, &server, now).and_then(|answer| {
                answer::verify(&answer.object, notary, trusted.clone())?;
                Ok(answer)
            });
            match answer {
                Ok(answer) => self.take_in(&server, answer, now).await?,
                // The answers about others may be right.
                Err(error) => tracing::debug!(%notary, %server, "an answer is not taken: {error}"),
            }
        }
        Ok(())
    }

    /// Writes what a server answered.
    async fn take_in(&self, server: &ServerName, answer: Answer, now: i64) -> sqlx::Result<()> {
        let mut conn = self.0.pool.acquire().await?;
        server_key::upsert(&mut conn, &answer.keys, now).await?;
        let row = server_key::Answer {
            server_name: server.to_string(),
            answer: written(&answer.object),
            valid_until_ts: answer.valid_until_ts,
            fetched_ts: now,
        };
        server_key::upsert_answer(&mut conn, &row).await?;
        drop(conn);
        self.0.known.invalidate(server).await;
        Ok(())
    }
}

fn written(object: &CanonicalJsonObject) -> String {
    serde_json::to_string(object).expect("canonical JSON serializes")
}
