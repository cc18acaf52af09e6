//! States of rooms: immutable maps that share what they have in common.
//!
//! In memory a snapshot is a persistent map from state keys to events. In the table it is the difference to an
//! earlier one. The snapshots between two whole ones are numbered from 0; number *i* is stored as the difference to
//! number *i* with its lowest set bit cleared, so that any of them is read in at most twelve rows, and an entry is
//! stored a handful of times instead of once a snapshot.

use std::{collections::HashMap, sync::Arc};

use hearth_core::{EventNid, RoomNid, SnapshotNid, StateKeyNid};
use hearth_store::{snapshot, write::SnapshotRow};
use imbl::{OrdMap, ordmap::DiffItem};
use moka::future::Cache;
use sqlx::PgPool;

/// After so many snapshots one is stored whole.
const RUN: i32 = 4_096;

/// How many entries of state the cache may hold, counted as if nothing were shared.
const CACHED_ENTRIES: u64 = 20_000_000;

/// The first byte of a packed delta.
const FORMAT: u8 = 1;

/// A state: which event each state key holds.
pub type StateMap = OrdMap<StateKeyNid, EventNid>;

/// A state of a room.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its number.
    pub nid: SnapshotNid,
    /// The entries.
    pub map: StateMap,
    /// Its place in the run.
    index: i32,
    /// The stored ancestors that later snapshots may be the difference to, by falling index.
    ancestors: Vec<Ancestor>,
}

#[derive(Clone, Debug)]
struct Ancestor {
    nid: SnapshotNid,
    index: i32,
    map: StateMap,
}

impl Snapshot {
    /// The state of a room without events.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            nid: SnapshotNid(0),
            map: StateMap::new(),
            index: -1,
            ancestors: Vec::new(),
        }
    }

    /// A state for reading: it is not stored, and nothing may be built on it.
    #[must_use]
    pub(crate) fn unstored(map: StateMap) -> Self {
        Self {
            map,
            ..Self::empty()
        }
    }

    /// Whether this is the state `map`.
    #[must_use]
    pub(crate) fn holds(&self, map: &StateMap) -> bool {
        is_same(&self.map, map)
    }

    /// The event that holds `key`.
    #[must_use]
    pub fn get(&self, key: StateKeyNid) -> Option<EventNid> {
        self.map.get(&key).copied()
    }

    /// The state with one entry changed, for reading: it is not stored, and nothing may be built on it.
    #[must_use]
    pub(crate) fn with(&self, key: StateKeyNid, event: EventNid) -> Self {
        let mut changed = self.clone();
        changed.map.insert(key, event);
        changed
    }

    /// Makes the snapshot `nid` that holds `map`, and the row that stores it.
    #[must_use]
    pub fn successor(&self, nid: SnapshotNid, room: RoomNid, map: StateMap) -> (Self, SnapshotRow) {
        let index = (self.index + 1) % RUN;
        let mut ancestors = Vec::new();
        if index > 0 {
            ancestors.clone_from(&self.ancestors);
            ancestors.push(Ancestor {
                nid: self.nid,
                index: self.index,
                map: self.map.clone(),
            });
            let parent = index & (index - 1);
            ancestors.retain(|ancestor| ancestor.index <= parent);
        }
        let parent = ancestors.last();
        let row = SnapshotRow {
            nid,
            room,
            parent: parent.map(|parent| parent.nid),
            depth: index,
            delta: parent.map_or_else(
                || pack(&StateMap::new(), &map),
                |parent| pack(&parent.map, &map),
            ),
        };
        let snapshot = Self {
            nid,
            map,
            index,
            ancestors,
        };
        (snapshot, row)
    }

    /// What must be written over `self` to get `later`: the keys that differ, with their new events (`None`: gone).
    pub fn changes_to<'a>(
        &'a self,
        later: &'a Self,
    ) -> impl Iterator<Item = (StateKeyNid, Option<EventNid>)> + 'a {
        changes(&self.map, &later.map)
    }

    /// Rebuilds a snapshot from its row and those of its ancestors, itself first.
    fn unpack(chain: &[snapshot::Stored]) -> Result<Self, Corrupt> {
        let (own, parents) = chain.split_first().ok_or(Corrupt)?;
        let mut map = StateMap::new();
        let mut ancestors = Vec::with_capacity(parents.len());
        for row in parents.iter().rev() {
            apply(&mut map, &row.delta)?;
            ancestors.push(Ancestor {
                nid: row.nid,
                index: row.depth,
                map: map.clone(),
            });
        }
        apply(&mut map, &own.delta)?;
        Ok(Self {
            nid: own.nid,
            map,
            index: own.depth,
            ancestors,
        })
    }
}

/// A stored snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a stored snapshot is missing or malformed")]
pub struct Corrupt;

/// Reads snapshots and keeps them.
#[derive(Clone, Debug)]
pub struct Snapshots {
    pool: PgPool,
    cache: Cache<SnapshotNid, Arc<Snapshot>>,
}

impl Snapshots {
    /// Reads from `pool`.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let cache = Cache::builder()
            .max_capacity(CACHED_ENTRIES)
            .weigher(|_, snapshot: &Arc<Snapshot>| {
                u32::try_from(snapshot.map.len() + 16).unwrap_or(u32::MAX)
            })
            .build();
        Self { pool, cache }
    }

    /// The snapshot with this number.
    ///
    /// # Errors
    ///
    /// When the database fails, or has no such snapshot.
    pub async fn get(&self, nid: SnapshotNid) -> sqlx::Result<Arc<Snapshot>> {
        if nid.0 == 0 {
            return Ok(Arc::new(Snapshot::empty()));
        }
        self.cache
            .try_get_with(nid, self.load(nid))
            .await
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }

    /// The snapshots with these numbers.
    ///
    /// # Errors
    ///
    /// When the database fails, or lacks one of them.
    pub async fn map(
        &self,
        nids: impl IntoIterator<Item = SnapshotNid>,
    ) -> sqlx::Result<HashMap<SnapshotNid, Arc<Snapshot>>> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        for nid in nids {
            match self.cache.get(&nid).await {
                Some(snapshot) => {
                    found.insert(nid, snapshot);
                }
                None if nid.0 == 0 => {
                    found.insert(nid, Arc::new(Snapshot::empty()));
                }
                None => missing.push(nid),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let mut conn = self.pool.acquire().await?;
        let rows = snapshot::list_chains(&mut conn, &missing).await?;
        drop(conn);
        let rows: HashMap<SnapshotNid, snapshot::Stored> =
            rows.into_iter().map(|row| (row.nid, row)).collect();
        for nid in missing {
            let mut chain = Vec::new();
            let mut next = Some(nid);
            while let Some(row) = next.and_then(|nid| rows.get(&nid)) {
                chain.push(row.clone());
                next = row.parent;
            }
            let snapshot =
                Snapshot::unpack(&chain).map_err(|error| sqlx::Error::Decode(error.into()))?;
            let snapshot = Arc::new(snapshot);
            self.cache.insert(nid, Arc::clone(&snapshot)).await;
            found.insert(nid, snapshot);
        }
        Ok(found)
    }

    /// Remembers a snapshot whose row is committed.
    pub async fn remember(&self, snapshot: Arc<Snapshot>) {
        self.cache.insert(snapshot.nid, snapshot).await;
    }

    /// Forgets everything: the numbers may mean something else now.
    pub(crate) fn forget_all(&self) {
        self.cache.invalidate_all();
    }

    async fn load(&self, nid: SnapshotNid) -> sqlx::Result<Arc<Snapshot>> {
        let mut conn = self.pool.acquire().await?;
        let chain = snapshot::list_chain(&mut conn, nid).await?;
        let snapshot =
            Snapshot::unpack(&chain).map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(Arc::new(snapshot))
    }
}

/// Whether two states are the same.
pub(crate) fn is_same(one: &StateMap, other: &StateMap) -> bool {
    one.ptr_eq(other) || changes(one, other).next().is_none()
}

/// What must be written over `from` to get `to`: the keys that differ, with their new events (`None`: gone).
pub(crate) fn changes<'a>(
    from: &'a StateMap,
    to: &'a StateMap,
) -> impl Iterator<Item = (StateKeyNid, Option<EventNid>)> + 'a {
    from.diff(to).map(|item| match item {
        DiffItem::Add(key, event)
        | DiffItem::Update {
            new: (key, event), ..
        } => (*key, Some(*event)),
        DiffItem::Remove(key, _) => (*key, None),
    })
}

/// Packs the changes from `from` to `to`: keys as differences, events as differences, both as variable-length numbers.
fn pack(from: &StateMap, to: &StateMap) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    let (mut last_key, mut last_event) = (0, 0);
    for (key, event) in changes(from, to) {
        let event = event.map_or(0, |event| event.0);
        put(&mut bytes, key.0 - last_key);
        put(&mut bytes, event - last_event);
        (last_key, last_event) = (key.0, event);
    }
    bytes
}

fn apply(map: &mut StateMap, delta: &[u8]) -> Result<(), Corrupt> {
    let (&format, mut rest) = delta.split_first().ok_or(Corrupt)?;
    if format != FORMAT {
        return Err(Corrupt);
    }
    let (mut key, mut event) = (0_i64, 0_i64);
    while !rest.is_empty() {
        key = key.checked_add(take(&mut rest)?).ok_or(Corrupt)?;
        event = event.checked_add(take(&mut rest)?).ok_or(Corrupt)?;
        if event == 0 {
            map.remove(&StateKeyNid(key));
        } else {
            map.insert(StateKeyNid(key), EventNid(event));
        }
    }
    Ok(())
}

/// Writes a number in zigzag form, seven bits a byte, the last one without the high bit.
fn put(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    loop {
        let low = (rest & 0x7f).to_le_bytes()[0];
        rest >>= 7;
        if rest == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn take(bytes: &mut &[u8]) -> Result<i64, Corrupt> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Corrupt)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
        }
    }
    Err(Corrupt)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(row: &SnapshotRow) -> snapshot::Stored {
        snapshot::Stored {
            nid: row.nid,
            parent: row.parent,
            delta: row.delta.clone(),
            depth: row.depth,
        }
    }

    /// Reads `nid` back from rows as the database would give them.
    fn read(rows: &[SnapshotRow], nid: SnapshotNid) -> Snapshot {
        let mut chain = Vec::new();
        let mut next = Some(nid);
        while let Some(nid) = next {
            let found = rows.iter().find(|row| row.nid == nid).unwrap();
            chain.push(row(found));
            next = found.parent;
        }
        assert!(chain.len() <= 13, "a chain of {}", chain.len());
        Snapshot::unpack(&chain).unwrap()
    }

    #[test]
    fn snapshots_survive_the_table() {
        let mut rows = Vec::new();
        let mut snapshots = vec![Snapshot::empty()];
        for n in 1..=i64::from(RUN) + 100 {
            let last = snapshots.last().unwrap();
            let mut map = last.map.clone();
            map.insert(StateKeyNid(n * 7919 % 1_000), EventNid(n));
            if n % 50 == 0 {
                map.remove(&StateKeyNid(n % 1_000));
            }
            let (next, row) = last.successor(SnapshotNid(n), RoomNid(1), map);
            rows.push(row);
            snapshots.push(next);
        }

        for n in [1, 2, 3, 1_000, 4_095, 4_096, 4_097, 4_190] {
            let snapshot = read(&rows, SnapshotNid(n));
            let index = usize::try_from(n).unwrap();
            assert_eq!(snapshot.map, snapshots[index].map, "{n}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_state_survives_packing(
            from in proptest::collection::btree_map(1..i64::MAX, 1..i64::MAX, 0..40),
            to in proptest::collection::btree_map(1..i64::MAX, 1..i64::MAX, 0..40),
        ) {
            let state = |map: std::collections::BTreeMap<i64, i64>| -> StateMap {
                map.into_iter().map(|(key, event)| (StateKeyNid(key), EventNid(event))).collect()
            };
            let (from, to) = (state(from), state(to));
            let mut read = from.clone();

            apply(&mut read, &pack(&from, &to)).unwrap();

            proptest::prop_assert_eq!(read, to);
        }

        #[test]
        fn random_bytes_are_no_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let _ = apply(&mut StateMap::new(), &bytes);
        }
    }

    #[test]
    fn a_reread_snapshot_goes_on_like_the_first() {
        let mut rows = Vec::new();
        let mut last = Snapshot::empty();
        for n in 1..=40 {
            let mut map = last.map.clone();
            map.insert(StateKeyNid(n % 9), EventNid(n));
            let (next, row) = last.successor(SnapshotNid(n), RoomNid(1), map);
            rows.push(row);
            last = if n % 3 == 0 {
                read(&rows, next.nid)
            } else {
                next
            };
        }

        assert_eq!(read(&rows, SnapshotNid(40)).map, last.map);
    }

    #[test]
    fn numbers_survive_packing() {
        for number in [0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            assert_eq!(take(&mut bytes.as_slice()).unwrap(), number);
        }
    }

    #[test]
    fn rubbish_is_an_error() {
        assert!(apply(&mut StateMap::new(), &[]).is_err());
        assert!(apply(&mut StateMap::new(), &[9]).is_err());
        assert!(apply(&mut StateMap::new(), &[FORMAT, 0x80]).is_err());
        assert!(take(&mut [0xff_u8; 11].as_slice()).is_err());
    }
}
