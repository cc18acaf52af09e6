//! What we tell others about the keys of third servers.

use std::collections::{BTreeMap, BTreeSet};

use hearth_store::server_key;
use ruma::{
    CanonicalJsonObject, OwnedServerName, ServerName,
    api::federation::discovery::ServerSigningKeys, serde::Raw, signatures::sign_json,
};

use super::{KeyError, Keys};

/// How many servers one request may ask about.
pub const MOST_SERVERS: usize = 100;

impl Keys {
    /// What servers say about their keys, signed by us as well, those that are known; for each the time until which the
    /// answer should be good.
    ///
    /// An answer is asked for anew when half of its time is over, so that nobody gets a stale one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn notarize(
        &self,
        wanted: &BTreeMap<OwnedServerName, i64>,
    ) -> Result<Vec<Raw<ServerSigningKeys>>, KeyError> {
        let own = &self.0.own.identity.server_name;
        let others: Vec<&str> = wanted
            .keys()
            .filter(|server| *server != own)
            .map(|server| server.as_str())
            .collect();
        let now = self.0.clock.millis();
        let kept = self.answers(&others).await?;
        let stale: BTreeSet<OwnedServerName> = wanted
            .iter()
            .filter(|(server, _)| *server != own)
            .filter(|(server, until)| {
                kept.get(server.as_str())
                    .is_none_or(|kept| !is_fresh(kept, **until, now))
            })
            .map(|(server, _)| server.clone())
            .collect();
        let kept = if stale.is_empty() {
            kept
        } else {
            self.fetch(stale).await;
            self.answers(&others).await?
        };
        let mut answers = Vec::with_capacity(wanted.len());
        if wanted.contains_key(own) {
            answers.push(to_raw(&self.0.own.publish(now)?));
        }
        for answer in kept.values() {
            let mut object: CanonicalJsonObject = serde_json::from_str(&answer.answer)
                .map_err(|error| sqlx::Error::Decode(error.into()))?;
            sign_json(own.as_str(), &self.0.own.identity.key, &mut object)?;
            answers.push(to_raw(&object));
        }
        Ok(answers)
    }

    async fn answers(
        &self,
        servers: &[&str],
    ) -> sqlx::Result<BTreeMap<String, server_key::Answer>> {
        if servers.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut conn = self.0.pool.acquire().await?;
        let answers = server_key::list_answers(&mut conn, servers).await?;
        Ok(answers
            .into_iter()
            .map(|answer| (answer.server_name.clone(), answer))
            .collect())
    }

    /// What we say about our own keys.
    ///
    /// # Errors
    ///
    /// When it cannot be signed.
    pub fn publish(&self) -> Result<Raw<ServerSigningKeys>, KeyError> {
        Ok(to_raw(&self.0.own.publish(self.0.clock.millis())?))
    }

    /// The keys in use of a server, from memory, the database or itself.
    pub(super) async fn current(
        &self,
        server: &ServerName,
    ) -> sqlx::Result<BTreeMap<String, ruma::serde::Base64>> {
        let now = self.0.clock.millis();
        let mut known = self.known(server).await?;
        if !known
            .iter()
            .any(|key| !key.is_old && key.valid_until_ts >= now)
        {
            self.fetch_one(server).await;
            known = self.known(server).await?;
        }
        let current = known
            .iter()
            .filter(|key| !key.is_old && key.valid_until_ts >= now);
        Ok(current
            .map(|key| {
                let public = ruma::serde::Base64::new(key.key.clone());
                (key.key_id.clone(), public)
            })
            .collect())
    }
}

fn is_fresh(answer: &server_key::Answer, until: i64, now: i64) -> bool {
    let half = answer.fetched_ts + (answer.valid_until_ts - answer.fetched_ts) / 2;
    answer.valid_until_ts >= until && half > now
}

fn to_raw(object: &CanonicalJsonObject) -> Raw<ServerSigningKeys> {
    let json = serde_json::value::to_raw_value(object).expect("canonical JSON serializes");
    Raw::from_json(json)
}
