//! Numbers for strings that are used again and again, and numbers for new events and snapshots.
//!
//! What the [`Interner`] remembers is committed; what [`Blocks`] hands out is not, until the caller's rows are.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hearth_core::{EventNid, SnapshotNid, StateKeyNid, UserNid};
use moka::future::Cache;
use ruma::{OwnedUserId, UserId};
use sqlx::PgPool;

use crate::{sequence, state_key, user_id};

/// How many users, and how many state keys, stay in memory.
const CACHED: u64 = 500_000;

/// A pair of event type and state key.
pub type StateKey = (String, String);

/// Gives users and state keys their numbers.
#[derive(Clone, Debug)]
pub struct Interner {
    pool: PgPool,
    /// How often everything was forgotten: what was read before that is not remembered.
    generation: Arc<AtomicU64>,
    users: Cache<OwnedUserId, UserNid>,
    user_ids: Cache<UserNid, OwnedUserId>,
    keys: Cache<StateKey, StateKeyNid>,
    key_names: Cache<StateKeyNid, Arc<StateKey>>,
}

impl Interner {
    /// Reads from and writes to `pool`.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            generation: Arc::default(),
            users: Cache::new(CACHED),
            user_ids: Cache::new(CACHED),
            keys: Cache::new(CACHED),
            key_names: Cache::new(CACHED),
        }
    }

    /// Forgets everything: the database is not the one that it was read from.
    pub fn forget_all(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.users.invalidate_all();
        self.user_ids.invalidate_all();
        self.keys.invalidate_all();
        self.key_names.invalidate_all();
    }

    /// The user's number; a new one if there is none.
    pub async fn user(&self, id: &UserId) -> sqlx::Result<UserNid> {
        if let Some(nid) = self.users.get(id).await {
            return Ok(nid);
        }
        let found = self.users(&[id]).await?;
        found.get(id).copied().ok_or(sqlx::Error::RowNotFound)
    }

    /// The users' numbers; new ones where there are none.
    pub async fn users(&self, ids: &[&UserId]) -> sqlx::Result<HashMap<OwnedUserId, UserNid>> {
        let mut found = self.find_users(ids).await?;
        let missing: Vec<&str> = ids
            .iter()
            .filter(|id| !found.contains_key(**id))
            .map(|id| id.as_str())
            .collect();
        if !missing.is_empty() {
            let mut conn = self.pool.acquire().await?;
            user_id::insert(&mut conn, &missing).await?;
            drop(conn);
            found = self.find_users(ids).await?;
        }
        Ok(found)
    }

    /// The user's number, if it has one.
    pub async fn find_user(&self, id: &UserId) -> sqlx::Result<Option<UserNid>> {
        if let Some(nid) = self.users.get(id).await {
            return Ok(Some(nid));
        }
        Ok(self.find_users(&[id]).await?.get(id).copied())
    }

    /// The numbers of those of `ids` that have one.
    pub async fn find_users(&self, ids: &[&UserId]) -> sqlx::Result<HashMap<OwnedUserId, UserNid>> {
        let mut found = HashMap::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            match self.users.get(*id).await {
                Some(nid) => {
                    found.insert((*id).to_owned(), nid);
                }
                None => missing.push(id.as_str()),
            }
        }
        if !missing.is_empty() {
            let generation = self.generation();
            let mut conn = self.pool.acquire().await?;
            for (id, nid) in user_id::list_nids(&mut conn, &missing).await? {
                let id = self.remember_user(generation, nid, &id).await?;
                found.insert(id, nid);
            }
        }
        Ok(found)
    }

    /// The id of a user's number.
    ///
    /// # Errors
    ///
    /// When the database fails, or has no such number.
    pub async fn user_id(&self, nid: UserNid) -> sqlx::Result<OwnedUserId> {
        if let Some(id) = self.user_ids.get(&nid).await {
            return Ok(id);
        }
        let found = self.user_ids(&[nid]).await?;
        found.get(&nid).cloned().ok_or(sqlx::Error::RowNotFound)
    }

    /// The ids of these numbers.
    pub async fn user_ids(&self, nids: &[UserNid]) -> sqlx::Result<HashMap<UserNid, OwnedUserId>> {
        let mut found = HashMap::with_capacity(nids.len());
        let mut missing = Vec::new();
        for nid in nids {
            match self.user_ids.get(nid).await {
                Some(id) => {
                    found.insert(*nid, id);
                }
                None => missing.push(*nid),
            }
        }
        if !missing.is_empty() {
            let generation = self.generation();
            let mut conn = self.pool.acquire().await?;
            for (nid, id) in user_id::list_ids(&mut conn, &missing).await? {
                found.insert(nid, self.remember_user(generation, nid, &id).await?);
            }
        }
        Ok(found)
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    async fn remember_user(
        &self,
        generation: u64,
        nid: UserNid,
        id: &str,
    ) -> sqlx::Result<OwnedUserId> {
        let id = UserId::parse(id).map_err(|error| sqlx::Error::Decode(error.into()))?;
        if self.generation() != generation {
            return Ok(id);
        }
        self.users.insert(id.clone(), nid).await;
        self.user_ids.insert(nid, id.clone()).await;
        Ok(id)
    }

    /// The number of a state key; a new one if there is none.
    pub async fn state_key(&self, kind: &str, key: &str) -> sqlx::Result<StateKeyNid> {
        let found = self.state_keys(&[(kind, key)]).await?;
        found.first().copied().ok_or(sqlx::Error::RowNotFound)
    }

    /// The numbers of state keys, in the order given; new ones where there are none.
    pub async fn state_keys(&self, keys: &[(&str, &str)]) -> sqlx::Result<Vec<StateKeyNid>> {
        let mut found = self.find_state_keys(keys).await?;
        let missing: Vec<(&str, &str)> = keys
            .iter()
            .zip(&found)
            .filter_map(|(key, nid)| nid.is_none().then_some(*key))
            .collect();
        if !missing.is_empty() {
            let (kinds, names): (Vec<&str>, Vec<&str>) = missing.into_iter().unzip();
            let mut conn = self.pool.acquire().await?;
            state_key::insert(&mut conn, &kinds, &names).await?;
            drop(conn);
            found = self.find_state_keys(keys).await?;
        }
        found
            .into_iter()
            .map(|nid| nid.ok_or(sqlx::Error::RowNotFound))
            .collect()
    }

    /// The number of a state key, if it has one.
    pub async fn find_state_key(&self, kind: &str, key: &str) -> sqlx::Result<Option<StateKeyNid>> {
        let found = self.find_state_keys(&[(kind, key)]).await?;
        Ok(found.first().copied().flatten())
    }

    /// The numbers of state keys, in the order given; `None` where there is none.
    pub async fn find_state_keys(
        &self,
        keys: &[(&str, &str)],
    ) -> sqlx::Result<Vec<Option<StateKeyNid>>> {
        let mut found = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for (kind, key) in keys {
            let cached = self
                .keys
                .get(&((*kind).to_owned(), (*key).to_owned()))
                .await;
            if cached.is_none() {
                missing.push((*kind, *key));
            }
            found.push(cached);
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let (kinds, names): (Vec<&str>, Vec<&str>) = missing.into_iter().unzip();
        let generation = self.generation();
        let mut conn = self.pool.acquire().await?;
        let rows = state_key::list(&mut conn, &kinds, &names).await?;
        drop(conn);
        let mut read = HashMap::with_capacity(rows.len());
        for row in rows {
            let nid = row.nid;
            let pair = self.remember_key(generation, row).await;
            read.insert((pair.0.clone(), pair.1.clone()), nid);
        }
        for ((kind, key), nid) in keys.iter().zip(&mut found) {
            if nid.is_none() {
                *nid = read.get(&((*kind).to_owned(), (*key).to_owned())).copied();
            }
        }
        Ok(found)
    }

    /// The state keys of these numbers.
    pub async fn state_key_names(
        &self,
        nids: &[StateKeyNid],
    ) -> sqlx::Result<HashMap<StateKeyNid, Arc<StateKey>>> {
        let mut found = HashMap::with_capacity(nids.len());
        let mut missing = Vec::new();
        for nid in nids {
            match self.key_names.get(nid).await {
                Some(pair) => {
                    found.insert(*nid, pair);
                }
                None => missing.push(*nid),
            }
        }
        if !missing.is_empty() {
            let generation = self.generation();
            let mut conn = self.pool.acquire().await?;
            for row in state_key::list_by_nid(&mut conn, &missing).await? {
                let nid = row.nid;
                found.insert(nid, self.remember_key(generation, row).await);
            }
        }
        Ok(found)
    }

    async fn remember_key(&self, generation: u64, row: state_key::Stored) -> Arc<StateKey> {
        let pair = Arc::new((row.kind, row.key));
        if self.generation() != generation {
            return pair;
        }
        self.keys.insert((*pair).clone(), row.nid).await;
        self.key_names.insert(row.nid, Arc::clone(&pair)).await;
        pair
    }
}

/// Numbers for new events and snapshots, taken from the sequences in blocks.
///
/// A number is only good once a row with it is committed. After a connection error the rest of the blocks is thrown
/// away, because a `PostgreSQL` that crashed may hand them out again.
#[derive(Clone, Debug)]
pub struct Blocks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    events: Block,
    snapshots: Block,
}

/// The rest of a block: `next..end`.
#[derive(Debug, Default)]
struct Block(Mutex<(i64, i64)>);

impl Block {
    fn take(&self) -> Option<i64> {
        let mut rest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (rest.0 < rest.1).then(|| {
            rest.0 += 1;
            rest.0 - 1
        })
    }

    fn set(&self, next: i64, end: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (next, end);
    }
}

impl Blocks {
    /// Takes blocks from the sequences of `pool`.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self(Arc::new(Inner {
            pool,
            events: Block::default(),
            snapshots: Block::default(),
        }))
    }

    /// A number for a new event.
    pub async fn event(&self) -> sqlx::Result<EventNid> {
        loop {
            if let Some(nid) = self.0.events.take() {
                return Ok(EventNid(nid));
            }
            let mut conn = self.0.pool.acquire().await?;
            let first = sequence::next_events(&mut conn).await?;
            self.0.events.set(first, first + sequence::EVENTS);
        }
    }

    /// A number for a new snapshot.
    pub async fn snapshot(&self) -> sqlx::Result<SnapshotNid> {
        loop {
            if let Some(nid) = self.0.snapshots.take() {
                return Ok(SnapshotNid(nid));
            }
            let mut conn = self.0.pool.acquire().await?;
            let first = sequence::next_snapshots(&mut conn).await?;
            self.0.snapshots.set(first, first + sequence::SNAPSHOTS);
        }
    }

    /// Throws the rest of the blocks away.
    pub fn reset(&self) {
        self.0.events.set(0, 0);
        self.0.snapshots.set(0, 0);
    }
}
