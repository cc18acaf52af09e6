//! The keys that servers sign with (Server-Server API, "Retrieving server keys").

mod answer;
mod fetch;
pub mod notary;
mod own;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hearth_core::{Clock, Identity, config::OldVerifyKey};
use hearth_store::server_key::{self, Stored};
use moka::future::Cache;
use ruma::{
    OwnedServerName, OwnedServerSigningKeyId, ServerName, serde::Base64, signatures::JsonError,
};
use sqlx::PgPool;

use self::{fetch::Asked, own::OwnKeys};
use crate::client::Client;

/// How many servers' keys are in memory, and for how long.
const CACHED: u64 = 20_000;
const CACHED_TIME: Duration = Duration::from_hours(1);

/// The keys of servers.
#[derive(Clone, Debug)]
pub struct Keys(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    clock: Clock,
    client: Client,
    own: OwnKeys,
    notaries: Vec<OwnedServerName>,
    known: Cache<OwnedServerName, Arc<[Stored]>>,
    asked: Asked,
}

/// What [`Keys`] is made of.
#[derive(Debug)]
pub struct KeyParts {
    /// The database.
    pub pool: PgPool,
    /// The time.
    pub clock: Clock,
    /// Who asks other servers.
    pub client: Client,
    /// Who we are.
    pub identity: Arc<Identity>,
    /// The keys that we used before.
    pub old_keys: Vec<OldVerifyKey>,
    /// Who is asked for keys of servers that do not answer.
    pub notaries: Vec<OwnedServerName>,
}

/// A key that a signature names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Who signed.
    pub server: OwnedServerName,
    /// With which key.
    pub key_id: OwnedServerSigningKeyId,
    /// When, in milliseconds; `None` when the room version does not care whether the key was valid.
    pub at: Option<i64>,
}

/// Why keys are not had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The database failed.
    #[error("keys could not be read")]
    Storage(#[from] sqlx::Error),
    /// An answer could not be signed.
    #[error("an answer could not be signed")]
    Signing(#[from] JsonError),
}

impl Keys {
    /// Makes the service.
    #[must_use]
    pub fn new(parts: KeyParts) -> Self {
        Self(Arc::new(Inner {
            pool: parts.pool,
            clock: parts.clock,
            client: parts.client,
            own: OwnKeys {
                identity: parts.identity,
                old: parts.old_keys.into(),
            },
            notaries: parts.notaries,
            known: Cache::builder()
                .max_capacity(CACHED)
                .time_to_live(CACHED_TIME)
                .build(),
            asked: Asked::new(),
        }))
    }

    /// Finds keys: in memory, in the database, at the servers themselves, at notaries. Those that cannot be had, or that
    /// were not valid when they were used, are left out.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find(&self, wanted: &[Wanted]) -> Result<BTreeMap<Wanted, Base64>, KeyError> {
        let mut found = BTreeMap::new();
        let mut missing = self.find_known(wanted.iter(), &mut found).await?;
        if !missing.is_empty() {
            let servers = missing.iter().map(|wanted| wanted.server.clone()).collect();
            self.fetch(servers).await;
            missing = self.find_known(missing.into_iter(), &mut found).await?;
        }
        if !missing.is_empty() && !self.0.notaries.is_empty() {
            self.ask_notaries(&missing).await;
            self.find_known(missing.into_iter(), &mut found).await?;
        }
        Ok(found)
    }

    /// Takes what is known; returns what is not.
    async fn find_known<'a>(
        &self,
        wanted: impl Iterator<Item = &'a Wanted>,
        found: &mut BTreeMap<Wanted, Base64>,
    ) -> sqlx::Result<Vec<&'a Wanted>> {
        let mut missing = Vec::new();
        let mut others = Vec::new();
        for wanted in wanted {
            if wanted.server == self.0.own.identity.server_name {
                if let Some(key) = self.0.own.find(wanted.key_id.as_str(), wanted.at) {
                    found.insert(wanted.clone(), key);
                }
            } else {
                others.push(wanted);
            }
        }
        let servers: BTreeSet<&ServerName> = others.iter().map(|wanted| &*wanted.server).collect();
        let known = self.known_of(&servers).await?;
        for wanted in others {
            let keys = known.get(&*wanted.server).map_or(&[][..], |keys| &keys[..]);
            match keys.iter().find(|key| key.key_id == wanted.key_id.as_str()) {
                Some(key) if wanted.at.is_none_or(|at| at <= key.valid_until_ts) => {
                    found.insert(wanted.clone(), Base64::new(key.key.clone()));
                }
                Some(_) | None => missing.push(wanted),
            }
        }
        Ok(missing)
    }

    /// The keys of servers that are known here.
    async fn known_of<'a>(
        &self,
        servers: &BTreeSet<&'a ServerName>,
    ) -> sqlx::Result<BTreeMap<&'a ServerName, Arc<[Stored]>>> {
        let mut known = BTreeMap::new();
        let mut unread = Vec::new();
        for server in servers {
            match self.0.known.get(*server).await {
                Some(keys) => {
                    known.insert(*server, keys);
                }
                None => unread.push(*server),
            }
        }
        if unread.is_empty() {
            return Ok(known);
        }
        let names: Vec<&str> = unread.iter().map(|server| server.as_str()).collect();
        let mut conn = self.0.pool.acquire().await?;
        let rows = server_key::list(&mut conn, &names).await?;
        drop(conn);
        let mut read: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
        for row in rows {
            read.entry(row.server_name.clone()).or_default().push(row);
        }
        for server in unread {
            let keys: Arc<[Stored]> = read.remove(server.as_str()).unwrap_or_default().into();
            self.0
                .known
                .insert(server.to_owned(), Arc::clone(&keys))
                .await;
            known.insert(server, keys);
        }
        Ok(known)
    }

    async fn known(&self, server: &ServerName) -> sqlx::Result<Arc<[Stored]>> {
        let known = self.known_of(&BTreeSet::from([server])).await?;
        Ok(known.into_values().next().unwrap_or_default())
    }

    /// Takes note that a server was heard from, so that it is asked again.
    pub async fn heard_from(&self, server: &ServerName) {
        self.0.asked.forgive(server).await;
    }
}
