//! Where another server is (Server-Server API, "Resolving server names").
//!
//! Discovery ends in one name: what belongs into the `Host` header. Everything else follows from it, and the connector
//! does it: the name in the certificate is that name without its port, and the address is found by its port, its SRV
//! records or port 8448.

pub mod address;
pub mod dns;
mod well_known;

use std::time::{Duration, Instant};

use moka::{Expiry, future::Cache};
use ruma::{OwnedServerName, ServerName};

pub(crate) use self::well_known::WellKnown;

/// How many hosts are remembered.
const CACHED: u64 = 50_000;

/// How long a host is remembered that has no well-known file: longer with each time that it had none.
const SHORTEST_FAILURE: Duration = Duration::from_mins(2);
const LONGEST_FAILURE: Duration = Duration::from_hours(1);

/// How long it is remembered how often a host had none.
const FAILURES_REMEMBERED: Duration = Duration::from_hours(24);

/// Finds servers.
#[derive(Clone, Debug)]
pub struct Discovery {
    well_known: WellKnown,
    found: Cache<OwnedServerName, Found>,
    failures: Cache<OwnedServerName, u32>,
}

/// What the well-known file of a host says, and for how long.
#[derive(Clone, Debug)]
struct Found {
    delegated: Option<OwnedServerName>,
    lifetime: Duration,
}

struct ByLifetime;

impl Expiry<OwnedServerName, Found> for ByLifetime {
    fn expire_after_create(
        &self,
        _: &OwnedServerName,
        found: &Found,
        _: Instant,
    ) -> Option<Duration> {
        Some(found.lifetime)
    }
}

impl Discovery {
    pub(crate) fn new(well_known: WellKnown) -> Self {
        Self {
            well_known,
            found: Cache::builder()
                .max_capacity(CACHED)
                .expire_after(ByLifetime)
                .build(),
            failures: Cache::builder()
                .max_capacity(CACHED)
                .time_to_live(FAILURES_REMEMBERED)
                .build(),
        }
    }

    /// What belongs into the `Host` header of requests to `server`.
    pub async fn host_of(&self, server: &ServerName) -> OwnedServerName {
        if server.is_ip_literal() || server.port().is_some() {
            return server.to_owned();
        }
        let found = self.found.get_with_by_ref(server, self.look(server)).await;
        found.delegated.unwrap_or_else(|| server.to_owned())
    }

    async fn look(&self, server: &ServerName) -> Found {
        match self.well_known.fetch(server).await {
            Ok((delegated, lifetime)) => {
                self.failures.invalidate(server).await;
                Found {
                    delegated: Some(delegated),
                    lifetime,
                }
            }
            Err(error) => {
                tracing::debug!(%server, "no well-known file: {error}");
                let failures = self.failures.get(server).await.unwrap_or(0);
                let remembered = self.failures.insert(server.to_owned(), failures + 1);
                remembered.await;
                Found {
                    delegated: None,
                    lifetime: failure_lifetime(failures),
                }
            }
        }
    }
}

fn failure_lifetime(failures: u32) -> Duration {
    SHORTEST_FAILURE
        .saturating_mul(1 << failures.min(10))
        .min(LONGEST_FAILURE)
}

#[cfg(test)]
mod tests;
