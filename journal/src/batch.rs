//! One transaction's worth of writes: who loses, and which positions the others get.

use std::collections::{HashMap, HashSet, hash_map::Entry as MapEntry};

use hearth_core::{EventNid, Position, RoomNid, SnapshotNid};
use hearth_store::{
    event, is_unique_violation, log, pending_redaction, room, sent_event, snapshot,
    write::{EventRow, Redacts, RoomWrite, Source, Write},
};
use sqlx::PgConnection;

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
    let mut known = known_transactions(conn, writes).await?;
    known.extend(known_events(conn, writes).await?);
    let found = Found {
        known,
        states: lock_states(conn, writes, &rooms).await?,
        waiting: waiting_redactions(conn, writes).await?,
        come: come_targets(conn, writes).await?,
    };
    let mut results = decide(writes, &found, &mut rooms, rejected);
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
    let previous = Position(advanced.position.0 - count);
    let mut rows = Rows::after(previous);
    for (write, result) in writes.iter().zip(&mut results) {
        if result.is_ok() {
            *result = Ok(rows.add(write));
        }
    }
    rows.insert(conn, &rooms).await?;
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

/// Writes `writes` within the caller's transaction in half the round trips of [`write`], if all of them pass as they are
/// and nothing but the rooms' rows has to be asked: that is all there is to most batches. `None`: they are to be written
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
    let mut results = decide(writes, &Found::default(), &mut rooms, rejected);
    if results.iter().any(Result::is_err) {
        return Ok(None);
    }
    let previous = Position(advanced.position.0 - count);
    let mut rows = Rows::after(previous);
    for (write, result) in writes.iter().zip(&mut results) {
        *result = Ok(rows.add(write));
    }
    match rows.insert(conn, &rooms).await {
        Err(error) if is_unique_violation(&error) => return Ok(None),
        outcome => outcome?,
    }
    Ok(Some(Batch {
        results,
        advance: Some(Advance {
            previous,
            head: advanced.position,
            entries: rows.entries,
            transaction: advanced.transaction,
        }),
    }))
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

/// The writes whose transaction made an event already.
///
/// The rooms are locked, and a transaction belongs to a room: nobody can add one meanwhile.
async fn known_transactions(
    conn: &mut PgConnection,
    writes: &[&Write],
) -> sqlx::Result<HashMap<usize, EventNid>> {
    let (indices, rows): (Vec<usize>, Vec<sent_event::Row<'_>>) = writes
        .iter()
        .enumerate()
        .filter_map(|(index, write)| Some((index, rows::transaction(write.room.as_ref()?)?)))
        .unzip();
    if rows.is_empty() {
        return Ok(HashMap::new());
    }
    let known = sent_event::list_known(conn, &rows).await?;
    let known = known.into_iter();
    Ok(known
        .map(|(index, event)| (indices[index], event))
        .collect())
}

/// The states that writes name and that must be there, with whether they are: each is kept from being deleted until
/// the transaction ends.
async fn lock_states(
    conn: &mut PgConnection,
    writes: &[&Write],
    rooms: &HashMap<RoomNid, room::Changing>,
) -> sqlx::Result<HashMap<SnapshotNid, bool>> {
    let named = named_states(writes, rooms);
    let mut states = HashMap::new();
    if named.is_empty() {
        return Ok(states);
    }
    let nids: Vec<SnapshotNid> = named.iter().copied().collect();
    states.extend(named.into_iter().map(|nid| (nid, false)));
    for nid in snapshot::lock_all(conn, &nids).await? {
        states.insert(nid, true);
    }
    Ok(states)
}

/// The states that writes name and that nothing says to be there.
///
/// Rooms' current states are: their rows are locked, and name them. So is what the batch itself makes. That is all
/// there is to most batches.
fn named_states(
    writes: &[&Write],
    rooms: &HashMap<RoomNid, room::Changing>,
) -> HashSet<SnapshotNid> {
    let mut named = HashSet::new();
    for write in writes.iter().filter_map(|write| write.room.as_ref()) {
        let current = rooms.get(&write.room).and_then(|room| room.snapshot);
        named.extend(states(write).filter(|nid| Some(*nid) != current));
    }
    if !named.is_empty() {
        let rooms = writes.iter().filter_map(|write| write.room.as_ref());
        for made in rooms.flat_map(|room| &room.snapshots) {
            named.remove(&made.nid);
        }
    }
    named
}

/// The states that a write names. State 0 is that of a room without events, and has no row.
fn states(write: &RoomWrite) -> impl Iterator<Item = SnapshotNid> {
    let before = write.events.iter().filter_map(|event| event.snapshot);
    let parents = write.snapshots.iter().filter_map(|made| made.parent);
    let all = before.chain(parents).chain(write.new_state);
    all.filter(|nid| nid.0 != 0)
}

/// What the database knows about a batch.
#[derive(Debug, Default)]
struct Found {
    /// The events of the writes that are duplicates.
    known: HashMap<usize, EventNid>,
    /// See [`lock_states`].
    states: HashMap<SnapshotNid, bool>,
    /// The redactions that wait for received events, by the ids of these.
    waiting: HashMap<String, Vec<EventNid>>,
    /// The targets of redactions that are said to be unknown, and are stored.
    come: HashSet<String>,
}

impl Found {
    fn lacks_state_of(&self, write: &RoomWrite) -> bool {
        states(write).any(|nid| self.states.get(&nid) == Some(&false))
    }

    /// Whether a redaction of a write has its target by now, or one waits for an event of it that it knows nothing of.
    fn has_met(&self, write: &Write, room: &RoomWrite) -> bool {
        let seen = |nid: &EventNid| room.redactions_seen.contains(nid);
        let waits = |id: &String| {
            self.waiting
                .get(id)
                .is_some_and(|all| !all.iter().all(seen))
        };
        unknown_targets(write).any(|target| self.come.contains(target))
            || received(write).any(|row| waits(&row.event_id))
    }
}

/// The redactions that wait for the received events of the writes.
///
/// The rooms are locked, so that none comes meanwhile.
async fn waiting_redactions(
    conn: &mut PgConnection,
    writes: &[&Write],
) -> sqlx::Result<HashMap<String, Vec<EventNid>>> {
    let ids: Vec<&str> = writes
        .iter()
        .flat_map(|write| received(write))
        .map(|row| &*row.event_id)
        .collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut waiting: HashMap<String, Vec<EventNid>> = HashMap::new();
    for (target, redaction) in pending_redaction::list(conn, &ids).await? {
        waiting.entry(target).or_default().push(redaction);
    }
    Ok(waiting)
}

/// Those of the targets that the writes' redactions say to be unknown which are stored.
async fn come_targets(conn: &mut PgConnection, writes: &[&Write]) -> sqlx::Result<HashSet<String>> {
    let targets: Vec<&str> = writes
        .iter()
        .flat_map(|write| unknown_targets(write))
        .collect();
    if targets.is_empty() {
        return Ok(HashSet::new());
    }
    let stored = event::list_known(conn, &targets).await?;
    Ok(stored.into_iter().map(|known| known.event_id).collect())
}

/// The targets of a write's redactions that are said to be unknown.
fn unknown_targets(write: &Write) -> impl Iterator<Item = &str> {
    let events = write.room.iter().flat_map(|room| &room.events);
    events.filter_map(|row| match &row.redacts {
        Some(Redacts::Unknown(target)) => Some(target.as_str()),
        Some(Redacts::Known(_)) | None => None,
    })
}

/// The writes of received events that are stored already, by another process.
///
/// The rooms are locked, and an event belongs to a room: nobody can add one meanwhile.
async fn known_events(
    conn: &mut PgConnection,
    writes: &[&Write],
) -> sqlx::Result<HashMap<usize, EventNid>> {
    let received: Vec<(usize, &EventRow)> = writes
        .iter()
        .enumerate()
        .flat_map(|(index, write)| received(write).map(move |event| (index, event)))
        .collect();
    if received.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<&str> = received.iter().map(|(_, row)| &*row.event_id).collect();
    let stored = event::list_known(conn, &ids).await?;
    let stored: HashMap<&str, &event::Known> = stored
        .iter()
        .map(|known| (&*known.event_id, known))
        .collect();
    let known = received.into_iter().filter_map(|(index, row)| {
        let known = stored.get(&*row.event_id)?;
        let is_duplicate = match row.source {
            Source::Outlier => known.snapshot.is_some(),
            Source::Made | Source::Received => true,
        };
        is_duplicate.then_some((index, known.nid))
    });
    Ok(known.collect())
}

/// The events of a write that others may have stored.
fn received(write: &Write) -> impl Iterator<Item = &EventRow> {
    let events = write.room.iter().flat_map(|room| &room.events);
    events.filter(|event| event.source != Source::Made)
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
