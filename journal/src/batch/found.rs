//! What a batch asks the database before it decides.

use std::collections::{HashMap, HashSet};

use hearth_core::{EventNid, RoomNid, SnapshotNid};
use hearth_store::{
    event, pending_redaction, room, sent_event, snapshot,
    write::{EventRow, Redacts, RoomWrite, Source, Write},
};
use sqlx::PgConnection;

use crate::rows;

/// What the database knows about a batch.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The events of the writes that are duplicates.
    pub(super) known: HashMap<usize, EventNid>,
    /// See [`lock_states`].
    states: HashMap<SnapshotNid, bool>,
    /// The redactions that wait for received events, by the ids of these.
    waiting: HashMap<String, Vec<EventNid>>,
    /// The targets of redactions that are said to be unknown, and are stored.
    come: HashSet<String>,
}

impl Found {
    /// Asks the database about writes whose `rooms` are locked.
    pub(super) async fn gather(
        conn: &mut PgConnection,
        writes: &[&Write],
        rooms: &HashMap<RoomNid, room::Changing>,
    ) -> sqlx::Result<Self> {
        let mut known = known_transactions(conn, writes).await?;
        known.extend(known_events(conn, writes).await?);
        Ok(Self {
            known,
            states: lock_states(conn, writes, rooms).await?,
            waiting: waiting_redactions(conn, writes).await?,
            come: come_targets(conn, writes).await?,
        })
    }

    pub(super) fn lacks_state_of(&self, write: &RoomWrite) -> bool {
        states(write).any(|nid| self.states.get(&nid) == Some(&false))
    }

    /// Whether a redaction of a write has its target by now, or one waits for an event of it that it knows nothing of.
    pub(super) fn has_met(&self, write: &Write, room: &RoomWrite) -> bool {
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
pub(super) fn named_states(
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
pub(super) fn unknown_targets(write: &Write) -> impl Iterator<Item = &str> {
    let events = write.room.iter().flat_map(|room| &room.events);
    events.filter_map(|row| match &row.redacts {
        Some(Redacts::Unknown(target)) => Some(target.as_str()),
        Some(Redacts::Known(_)) | None => None,
    })
}

/// The events of a write that others may have stored.
pub(super) fn received(write: &Write) -> impl Iterator<Item = &EventRow> {
    let events = write.room.iter().flat_map(|room| &room.events);
    events.filter(|event| event.source != Source::Made)
}
