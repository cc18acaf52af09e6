//! One transaction's worth of writes: who loses, which positions they get, what goes into which table.

use std::collections::{HashMap, HashSet, hash_map::Entry as MapEntry};

use hearth_core::{EventNid, Position, RoomNid, SnapshotNid, UserNid};
use hearth_store::{
    account_data, current_state, device_list_change, event, log, membership, receipt, relation,
    room, sent_event, snapshot, to_device,
    write::{
        AccountDataRow, MembershipRow, Placement, ReceiptRow, Redacts, RoomWrite, SnapshotRow,
        ToDeviceRow, Write,
    },
};
use sqlx::PgConnection;

use crate::{
    announcement::{Entry, Kind},
    error::WriteError,
    journal::Written,
};

/// What became of a batch, if its transaction commits.
#[derive(Debug)]
pub(crate) struct Batch {
    /// One result a write, in order.
    pub results: Vec<Result<Written, WriteError>>,
    /// The log before.
    pub previous: Position,
    /// The log after.
    pub head: Position,
    /// What is between.
    pub entries: Vec<Entry>,
    /// The transaction's id, if it took positions.
    pub transaction: Option<String>,
    /// Events that will never be: whatever was built on them is lost.
    pub rejected: Vec<EventNid>,
}

/// The log's epoch is not the one that this process knows.
#[derive(Debug, thiserror::Error)]
#[error("the log began a new epoch")]
pub(crate) struct EpochOver;

/// Writes `writes` within the caller's transaction.
///
/// A write loses when the room's revision is not the expected one, or when it is built on an event that was rejected in
/// this batch or before (`rejected`): extremities name what an event is built on, so a chain of pipelined events falls
/// with its first. Everything else commits or fails with the transaction.
pub(crate) async fn write(
    conn: &mut PgConnection,
    epoch: i64,
    writes: &[&Write],
    rejected: &HashSet<EventNid>,
) -> sqlx::Result<Batch> {
    let mut rooms = lock_rooms(conn, writes).await?;
    let known = known_transactions(conn, writes).await?;
    let (mut results, lost) = decide(writes, &known, &mut rooms, rejected);
    let accepted: Vec<(usize, &Write)> = writes
        .iter()
        .enumerate()
        .filter(|(index, _)| results[*index].is_ok())
        .map(|(index, write)| (index, *write))
        .collect();

    let mut rows = Rows::default();
    let count: i64 = accepted.iter().map(|(_, write)| positions(write)).sum();
    let mut batch = Batch {
        results: Vec::new(),
        previous: Position(0),
        head: Position(0),
        entries: Vec::new(),
        transaction: None,
        rejected: lost,
    };
    if !accepted.is_empty() {
        let advanced = log::advance(conn, epoch, count)
            .await?
            .ok_or_else(|| sqlx::Error::Protocol(EpochOver.to_string()))?;
        batch.head = advanced.position;
        batch.previous = Position(advanced.position.0 - count);
        batch.transaction = Some(advanced.transaction);
        rows.next = batch.previous.0;
        for (index, write) in accepted {
            results[index] = Ok(rows.add(write));
        }
        rows.insert(conn, &rooms).await?;
        batch.entries = rows.entries;
    }
    batch.results = results;
    Ok(batch)
}

async fn lock_rooms(
    conn: &mut PgConnection,
    writes: &[&Write],
) -> sqlx::Result<HashMap<RoomNid, room::Changing>> {
    let nids: HashSet<RoomNid> = writes
        .iter()
        .filter_map(|write| write.room.as_ref().map(|room| room.room))
        .collect();
    if nids.is_empty() {
        return Ok(HashMap::new());
    }
    let nids: Vec<RoomNid> = nids.into_iter().collect();
    let rows = room::lock_all(conn, &nids).await?;
    Ok(rows.into_iter().map(|row| (row.nid, row)).collect())
}

/// The writes whose transaction made an event already.
async fn known_transactions(
    conn: &mut PgConnection,
    writes: &[&Write],
) -> sqlx::Result<HashMap<usize, EventNid>> {
    let (indices, rows): (Vec<usize>, Vec<sent_event::Row<'_>>) = writes
        .iter()
        .enumerate()
        .filter_map(|(index, write)| Some((index, transaction(write.room.as_ref()?)?)))
        .unzip();
    if rows.is_empty() {
        return Ok(HashMap::new());
    }
    let known = sent_event::list_known(conn, &rows).await?;
    Ok(known
        .into_iter()
        .map(|(index, event)| (indices[index], event))
        .collect())
}

fn transaction(write: &RoomWrite) -> Option<sent_event::Row<'_>> {
    Some(sent_event::Row {
        transaction: write.transaction.as_ref()?,
        room: write.room,
        event: write.events.first()?.nid,
    })
}

/// Who loses; brings `rooms` to the state after the winners.
fn decide(
    writes: &[&Write],
    known: &HashMap<usize, EventNid>,
    rooms: &mut HashMap<RoomNid, room::Changing>,
    rejected: &HashSet<EventNid>,
) -> (Vec<Result<Written, WriteError>>, Vec<EventNid>) {
    let mut results = Vec::with_capacity(writes.len());
    let mut lost: Vec<EventNid> = Vec::new();
    let mut transactions = HashMap::new();
    for (index, write) in writes.iter().enumerate() {
        let Some(new) = &write.room else {
            results.push(Ok(Written::NOTHING));
            continue;
        };
        let gone = |nid: &EventNid| rejected.contains(nid) || lost.contains(nid);
        let twin = new.transaction.as_ref().and_then(|row| {
            let key = (row.user, &row.device_id, new.room, &row.action, &row.txn_id);
            match transactions.entry(key) {
                MapEntry::Occupied(first) => Some(*first.get()),
                MapEntry::Vacant(free) => {
                    free.insert(new.events.first()?.nid);
                    None
                }
            }
        });
        let result = match (known.get(&index), rooms.get_mut(&new.room)) {
            (Some(event), _) => Err(WriteError::Duplicate(*event)),
            (None, _) if twin.is_some_and(|nid| !gone(&nid)) => Err(WriteError::Lost),
            (None, Some(room))
                if room.revision == new.expected_revision
                    && !new.extremities_gone.iter().any(gone) =>
            {
                apply(room, new);
                Ok(Written::NOTHING)
            }
            (None, _) => Err(WriteError::Lost),
        };
        if result.is_err() {
            lost.extend(new.events.iter().map(|event| event.nid));
        }
        results.push(result);
    }
    (results, lost)
}

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

/// How many positions a write takes.
fn positions(write: &Write) -> i64 {
    let room = write.room.as_ref().map_or(0, |room| {
        let live = live_events(room).count();
        // A new state without a live event is an entry of its own.
        live + usize::from(live == 0 && room.new_state.is_some())
    });
    let count = room
        + write.receipts.len()
        + write.account_data.len()
        + write.to_device.len()
        + write.device_lists.len()
        + write.memberships.len();
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn live_events(room: &RoomWrite) -> impl Iterator<Item = &hearth_store::write::EventRow> {
    room.events
        .iter()
        .filter(|event| event.placement == Placement::Live)
}

/// The rows of a batch with their positions.
#[derive(Default)]
struct Rows<'a> {
    next: i64,
    entries: Vec<Entry>,
    events: Vec<event::Placed<'a>>,
    relations: Vec<relation::Row<'a>>,
    redacted: (Vec<EventNid>, Vec<EventNid>),
    snapshots: Vec<&'a SnapshotRow>,
    states: (Vec<RoomNid>, Vec<Position>, Vec<SnapshotNid>),
    transactions: Vec<sent_event::Row<'a>>,
    memberships: HashMap<(UserNid, RoomNid), (&'a MembershipRow, Position)>,
    receipts: HashMap<(RoomNid, UserNid, &'a str, &'a str), (&'a ReceiptRow, Position)>,
    account_data: HashMap<(UserNid, RoomNid, &'a str), (&'a AccountDataRow, Position)>,
    to_device: Vec<(&'a ToDeviceRow, Position)>,
    device_lists: (Vec<UserNid>, Vec<Position>),
    /// Rooms whose row changes.
    rooms: HashSet<RoomNid>,
}

impl<'a> Rows<'a> {
    /// Gives everything in a write its position.
    fn add(&mut self, write: &'a Write) -> Written {
        let first = Position(self.next + 1);
        if let Some(room) = &write.room {
            self.add_room(room);
        }
        for row in &write.receipts {
            let position = self.entry(Kind::Receipt, Some(row.room), Some(row.user), None);
            let key = (row.room, row.user, row.kind.as_str(), row.thread.as_str());
            self.receipts.insert(key, (row, position));
        }
        for row in &write.account_data {
            let room = (row.room.0 != 0).then_some(row.room);
            let position = self.entry(Kind::AccountData, room, Some(row.user), None);
            self.account_data
                .insert((row.user, row.room, &row.kind), (row, position));
        }
        for row in &write.to_device {
            let position = self.entry(Kind::ToDevice, None, Some(row.user), None);
            self.to_device.push((row, position));
        }
        for user in &write.device_lists {
            let position = self.entry(Kind::DeviceList, None, Some(*user), None);
            self.device_lists.0.push(*user);
            self.device_lists.1.push(position);
        }
        for row in &write.memberships {
            let position = self.entry(Kind::Membership, Some(row.room), Some(row.user), row.event);
            self.memberships
                .insert((row.user, row.room), (row, position));
        }
        Written {
            first,
            last: Position(self.next),
        }
    }

    fn add_room(&mut self, room: &'a RoomWrite) {
        self.rooms.insert(room.room);
        let members: HashMap<EventNid, UserNid> = room
            .memberships
            .iter()
            .filter_map(|row| Some((row.event?, row.user)))
            .collect();
        let mut places = HashMap::new();
        for row in &room.events {
            let stream_order = match row.placement {
                Placement::Live => {
                    let user = members.get(&row.nid).copied();
                    let position = self.entry(Kind::Event, Some(room.room), user, Some(row.nid));
                    places.insert(row.nid, position);
                    Some(position.0)
                }
                Placement::Backfilled(order) => Some(order),
                Placement::Outlier => None,
            };
            self.events.push(event::Placed { row, stream_order });
            if let (Some((parent, rel_type)), Some(stream_order)) = (&row.relation, stream_order) {
                let event = row.nid;
                let room = room.room;
                self.relations.push(relation::Row {
                    room,
                    parent,
                    rel_type,
                    event,
                    stream_order,
                });
            }
            if let Some(Redacts::Known(target)) = &row.redacts {
                self.redacted.0.push(*target);
                self.redacted.1.push(row.nid);
            }
        }
        if let Some(snapshot) = room.new_state {
            if places.is_empty() {
                self.entry(Kind::State, Some(room.room), None, None);
            }
            self.states.0.push(room.room);
            self.states.1.push(Position(self.next));
            self.states.2.push(snapshot);
        }
        self.snapshots.extend(&room.snapshots);
        self.transactions.extend(transaction(room));
        for row in &room.memberships {
            let place = row.event.and_then(|nid| places.get(&nid).copied());
            let position = place.unwrap_or(Position(self.next));
            self.memberships
                .insert((row.user, row.room), (row, position));
        }
    }

    fn entry(
        &mut self,
        kind: Kind,
        room: Option<RoomNid>,
        user: Option<UserNid>,
        event: Option<EventNid>,
    ) -> Position {
        self.next += 1;
        let position = Position(self.next);
        self.entries.push(Entry {
            position,
            kind,
            room,
            user,
            event,
        });
        position
    }

    /// Writes it all, a statement a table.
    async fn insert(
        &self,
        conn: &mut PgConnection,
        rooms: &HashMap<RoomNid, room::Changing>,
    ) -> sqlx::Result<()> {
        let log: Vec<log::Row> = self.entries.iter().map(log_row).collect();
        log::insert(conn, &log).await?;
        if !self.events.is_empty() {
            event::insert(conn, &self.events).await?;
        }
        if !self.relations.is_empty() {
            relation::insert(conn, &self.relations).await?;
        }
        if !self.redacted.0.is_empty() {
            event::update_redacted_by(conn, &self.redacted.0, &self.redacted.1).await?;
        }
        if !self.snapshots.is_empty() {
            snapshot::insert(conn, &self.snapshots).await?;
        }
        if !self.states.0.is_empty() {
            current_state::insert(conn, &self.states.0, &self.states.1, &self.states.2).await?;
        }
        if !self.transactions.is_empty() {
            sent_event::insert(conn, &self.transactions).await?;
        }
        let changed: Vec<&room::Changing> =
            self.rooms.iter().filter_map(|nid| rooms.get(nid)).collect();
        if !changed.is_empty() {
            room::update(conn, &changed).await?;
        }
        self.insert_of_users(conn).await
    }

    async fn insert_of_users(&self, conn: &mut PgConnection) -> sqlx::Result<()> {
        if !self.memberships.is_empty() {
            let rows: Vec<_> = self.memberships.values().copied().collect();
            membership::upsert(conn, &rows).await?;
        }
        if !self.receipts.is_empty() {
            let rows: Vec<_> = self.receipts.values().copied().collect();
            receipt::upsert(conn, &rows).await?;
        }
        if !self.account_data.is_empty() {
            let rows: Vec<_> = self.account_data.values().copied().collect();
            account_data::upsert(conn, &rows).await?;
        }
        if !self.to_device.is_empty() {
            to_device::insert(conn, &self.to_device).await?;
        }
        if !self.device_lists.0.is_empty() {
            device_list_change::insert(conn, &self.device_lists.0, &self.device_lists.1).await?;
        }
        Ok(())
    }
}

fn log_row(entry: &Entry) -> log::Row {
    log::Row {
        position: entry.position,
        kind: entry.kind as i16,
        room: entry.room,
        user: entry.user,
        event: entry.event,
    }
}
