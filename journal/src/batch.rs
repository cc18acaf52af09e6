//! One transaction's worth of writes: who loses, and which positions the others get.

mod found;

use std::collections::{HashMap, HashSet, hash_map::Entry as MapEntry};

use hearth_core::{EventNid, Position, RoomNid};
use hearth_store::{
    is_unique_violation, log, room,
    write::{RoomWrite, Write},
};
use sqlx::PgConnection;

use self::found::{Found, named_states, received, unknown_targets};
use crate::{
    announcement::Entry,
    error::{Failure, WriteError},
    journal::Written,
    rejected::Rejected,
    rows::{self, Rows},
};

/// What became of a batch, if its transaction commits.
#[derive(Debug)]
pub(crate) struct Batch {
    /// One result a write, in order.
    pub results: Vec<Result<Written, WriteError>>,
    /// What was written; `None` when every write was rejected.
    pub advance: Option<Advance>,
}

/// How a batch moved the log.
#[derive(Debug)]
pub(crate) struct Advance {
    /// The log before.
    pub previous: Position,
    /// The log after.
    pub head: Position,
    /// What is between.
    pub entries: Vec<Entry>,
    /// The transaction's id, to ask what became of it.
    pub transaction: String,
}

/// Writes `writes` within the caller's transaction.
///
/// A write is lost when the room's revision, with the writes before it in this batch, is not the expected one, when it
/// is built on a write that was rejected here or before ([`Rejected`]), when a state that it names is gone, or when a
/// redaction and its target that did not know of each other have met. A write
/// whose client transaction made an event already, or whose received event is stored already, is a duplicate. These
/// drop out before positions are given; everything else commits or fails with the
/// transaction.
pub(crate) async fn write(
    conn: &mut PgConnection,
    epoch: i64,
    writes: &[&Write],
    rejected: &Rejected,
) -> Result<Batch, Failure> {
    let mut rooms = lock_rooms(conn, writes).await?;
    let found = Found::gather(conn, writes, &rooms).await?;
    let results = decide(writes, &found, &mut rooms, rejected);
    if results.iter().all(Result::is_err) {
        return Ok(Batch {
            results,
            advance: None,
        });
    }

    let accepted = || {
        let pairs = writes.iter().zip(&results);
        pairs.filter_map(|(write, result)| result.is_ok().then_some(*write))
    };
    let count = accepted().map(rows::count).sum();
    let advanced = log::advance(conn, epoch, count)
        .await?
        .ok_or(Failure::EpochOver)?;
    Ok(insert(conn, (writes, results), &rooms, (advanced, count)).await?)
}

/// Writes `writes` within the caller's transaction in two round trips where [`write`] takes four and more, if all of them
/// pass as they are and nothing but the rooms' rows has to be asked: that is all there is to most batches. `None`: they are to be written
/// by [`write`], and what was done here is to be undone.
///
/// A client's transaction that made an event already is found by the row that it cannot have twice.
pub(crate) async fn write_at_once(
    conn: &mut PgConnection,
    epoch: i64,
    writes: &[&Write],
    rejected: &Rejected,
) -> Result<Option<Batch>, Failure> {
    let nids = rooms_of(writes);
    let count = writes.iter().copied().map(rows::count).sum();
    let locked = log::lock_and_advance(conn, epoch, count, &nids).await?;
    let Some((advanced, locked)) = locked else {
        return Ok(None);
    };
    let mut rooms = locked.into_iter().map(|row| (row.nid, row)).collect();
    if !named_states(writes, &rooms).is_empty() {
        return Ok(None);
    }
    let results = decide(writes, &Found::default(), &mut rooms, rejected);
    if results.iter().any(Result::is_err) {
        return Ok(None);
    }
    match insert(conn, (writes, results), &rooms, (advanced, count)).await {
        Err(error) if is_unique_violation(&error) => Ok(None),
        outcome => Ok(Some(outcome?)),
    }
}

/// Gives the writes that passed their positions, the last `count` of the log, and writes them.
async fn insert(
    conn: &mut PgConnection,
    (writes, mut results): (&[&Write], Vec<Result<Written, WriteError>>),
    rooms: &HashMap<RoomNid, room::Changing>,
    (advanced, count): (log::Advanced, i64),
) -> sqlx::Result<Batch> {
    let previous = Position(advanced.position.0 - count);
    let mut rows = Rows::after(previous);
    for (write, result) in writes.iter().zip(&mut results) {
        if result.is_ok() {
            *result = Ok(rows.add(write));
        }
    }
    rows.insert(conn, rooms).await?;
    Ok(Batch {
        results,
        advance: Some(Advance {
            previous,
            head: advanced.position,
            entries: rows.entries,
            transaction: advanced.transaction,
        }),
    })
}

/// Whether [`write_at_once`] is worth trying.
pub(crate) fn is_plain(writes: &[&Write]) -> bool {
    let is_known = |write: &&Write| {
        received(write).next().is_none() && unknown_targets(write).next().is_none()
    };
    !rooms_of(writes).is_empty() && writes.iter().all(is_known)
}

fn rooms_of(writes: &[&Write]) -> Vec<RoomNid> {
    let rooms = writes.iter().filter_map(|write| write.room.as_ref());
    let nids: HashSet<RoomNid> = rooms.map(|room| room.room).collect();
    nids.into_iter().collect()
}

async fn lock_rooms(
    conn: &mut PgConnection,
    writes: &[&Write],
) -> sqlx::Result<HashMap<RoomNid, room::Changing>> {
    let nids = rooms_of(writes);
    if nids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = room::lock_all(conn, &nids).await?;
    Ok(rows.into_iter().map(|row| (row.nid, row)).collect())
}

/// A client transaction: user, device, room, action, id.
type TransactionKey<'a> = (i64, &'a str, i64, &'a str, &'a str);

fn key(room: &RoomWrite) -> Option<TransactionKey<'_>> {
    let row = room.transaction.as_ref()?;
    Some((
        row.user.0,
        &row.device_id,
        room.room.0,
        &row.action,
        &row.txn_id,
    ))
}

/// Who is rejected; brings `rooms` to the state after the others.
fn decide(
    writes: &[&Write],
    found: &Found,
    rooms: &mut HashMap<RoomNid, room::Changing>,
    rejected: &Rejected,
) -> Vec<Result<Written, WriteError>> {
    let mut results = Vec::with_capacity(writes.len());
    let mut lost = Rejected::default();
    let mut transactions = HashMap::new();
    let mut arrived: HashMap<&str, EventNid> = HashMap::new();
    let mut redacted: HashSet<&str> = HashSet::new();
    for (index, write) in writes.iter().enumerate() {
        let Some(new) = &write.room else {
            results.push(Ok(Written::NOTHING));
            continue;
        };
        let twin = key(new)
            .and_then(|key| transactions.get(&key).copied())
            .or_else(|| received(write).find_map(|row| arrived.get(&*row.event_id).copied()));
        let met = found.has_met(write, new)
            || unknown_targets(write).any(|target| arrived.contains_key(target))
            || received(write).any(|row| redacted.contains(&*row.event_id));
        let result = match (
            found.known.get(&index).copied().or(twin),
            rooms.get_mut(&new.room),
        ) {
            (Some(event), _) => Err(WriteError::Duplicate(event)),
            (None, Some(room))
                if room.revision == new.expected_revision
                    && !rejected.underlies(new)
                    && !lost.underlies(new)
                    && !found.lacks_state_of(new)
                    && !met =>
            {
                apply(room, new);
                Ok(Written::NOTHING)
            }
            (None, _) => Err(WriteError::Lost),
        };
        match (&result, key(new), new.events.first()) {
            (Ok(_), Some(key), Some(event)) => {
                if let MapEntry::Vacant(free) = transactions.entry(key) {
                    free.insert(event.nid);
                }
            }
            (Ok(_), ..) => {}
            (Err(_), ..) => lost.add(new),
        }
        if result.is_ok() {
            arrived.extend(received(write).map(|row| (&*row.event_id, row.nid)));
            redacted.extend(unknown_targets(write));
        }
        results.push(result);
    }
    results
}

/// Brings a room's row to the state after a write.
///
/// Extremities change by what the write takes away and adds, so events of others that came meanwhile stay: a fork.
fn apply(room: &mut room::Changing, new: &RoomWrite) {
    if let Some(snapshot) = new.new_state {
        room.revision += 1;
        room.snapshot = Some(snapshot);
    }
    room.extremities
        .retain(|nid| !new.extremities_gone.contains(nid));
    for nid in &new.extremities_new {
        if !room.extremities.contains(nid) {
            room.extremities.push(*nid);
        }
    }
}
