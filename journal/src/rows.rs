//! The rows of a batch: each gets its position, and each table one statement.

use std::collections::{HashMap, HashSet};

use hearth_core::{EventNid, Position, RoomNid, SnapshotNid, UserNid};
use hearth_store::{
    account_data, append, current_state, device_list_change, event, log, membership,
    missing_previous, pending_redaction, receipt, relation, room, sent_event, snapshot, to_device,
    user_word,
    write::{
        AccountDataRow, EventRow, Gap, Placement, ReceiptRow, Redacts, RoomWrite, SnapshotRow,
        Source, ToDeviceRow, Write,
    },
};
use sqlx::PgConnection;

use crate::{
    announcement::{Entry, Kind},
    journal::Written,
};

/// The transaction of a write with the event that it makes.
pub(crate) fn transaction(write: &RoomWrite) -> Option<sent_event::Row<'_>> {
    Some(sent_event::Row {
        transaction: write.transaction.as_ref()?,
        room: write.room,
        event: write.events.first()?.nid,
    })
}

/// How many positions a write takes.
pub(crate) fn count(write: &Write) -> i64 {
    let room = write.room.as_ref().map_or(0, |room| {
        live_events(room).count() + usize::from(has_entry_of_state(room))
    });
    let count = room
        + write.receipts.len()
        + write.account_data.len()
        + write.to_device.len()
        + write.device_lists.len()
        + write.memberships.len()
        + write.pushers.len();
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn live_events(room: &RoomWrite) -> impl Iterator<Item = &EventRow> {
    room.events
        .iter()
        .filter(|event| event.placement == Placement::Live)
}

/// Whether the new state of a write is an entry of its own: when no entry of an event tells of it, or not of all the
/// memberships that changed.
fn has_entry_of_state(room: &RoomWrite) -> bool {
    let told = |nid: EventNid| live_events(room).any(|event| event.nid == nid);
    room.new_state.is_some()
        && (!live_events(room).any(|event| event.state_key.is_some())
            || !room
                .memberships
                .iter()
                .all(|row| row.event.is_some_and(told)))
}

/// The rows of a batch with their positions.
///
/// What is upserted is folded by its key: a key twice in one statement fails the statement.
#[derive(Default)]
pub(crate) struct Rows<'a> {
    /// What the log tells of the batch.
    pub entries: Vec<Entry>,
    last: i64,
    events: Vec<event::Placed<'a>>,
    /// Outliers that get their place.
    placed: Vec<event::Placed<'a>>,
    /// The ids of received events that have their place now.
    arrived: Vec<&'a str>,
    gaps: Vec<(RoomNid, &'a Gap)>,
    relations: Vec<relation::Row<'a>>,
    redacted: (Vec<EventNid>, Vec<EventNid>),
    pending: (Vec<&'a str>, Vec<EventNid>),
    snapshots: Vec<&'a SnapshotRow>,
    states: (Vec<RoomNid>, Vec<Position>, Vec<SnapshotNid>),
    transactions: Vec<sent_event::Row<'a>>,
    memberships: HashMap<(UserNid, RoomNid), membership::Placed<'a>>,
    receipts: HashMap<(RoomNid, UserNid, &'a str, &'a str), (&'a ReceiptRow, Position)>,
    account_data: HashMap<(UserNid, RoomNid, &'a str), (&'a AccountDataRow, Position)>,
    to_device: Vec<(&'a ToDeviceRow, Position)>,
    device_lists: (Vec<UserNid>, Vec<Position>),
    /// Rooms whose row changes.
    rooms: HashSet<RoomNid>,
}

impl<'a> Rows<'a> {
    /// No rows yet; the first one gets the position after `previous`.
    pub(crate) fn after(previous: Position) -> Self {
        Self {
            last: previous.0,
            ..Self::default()
        }
    }

    /// Gives everything in a write its position.
    pub(crate) fn add(&mut self, write: &'a Write) -> Written {
        let first = Position(self.last + 1);
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
            let key = (row.user, row.room);
            let newer = self.memberships.get(&key);
            if !newer.is_some_and(|newer| row.is_overtaken_by(newer.row)) {
                let placed = membership::Placed {
                    row,
                    position,
                    alone: true,
                };
                self.memberships.insert(key, placed);
            }
        }
        for user in &write.pushers {
            self.entry(Kind::Pusher, None, Some(*user), None);
        }
        Written {
            first,
            last: Position(self.last),
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
            self.add_event(row, stream_order);
        }
        if let Some(snapshot) = room.new_state {
            if has_entry_of_state(room) {
                self.entry(Kind::State, Some(room.room), None, None);
            }
            self.states.0.push(room.room);
            self.states.1.push(Position(self.last));
            self.states.2.push(snapshot);
        }
        for (target, redaction) in &room.redacted {
            self.redacted.0.push(*target);
            self.redacted.1.push(*redaction);
        }
        self.gaps
            .extend(room.gaps.iter().map(|gap| (room.room, gap)));
        self.snapshots.extend(&room.snapshots);
        self.transactions.extend(transaction(room));
        for row in &room.memberships {
            let place = row.event.and_then(|nid| places.get(&nid).copied());
            let position = place.unwrap_or(Position(self.last));
            let placed = membership::Placed {
                row,
                position,
                alone: false,
            };
            self.memberships.insert((row.user, row.room), placed);
        }
    }

    fn add_event(&mut self, row: &'a EventRow, stream_order: Option<i64>) {
        let placed = event::Placed { row, stream_order };
        match row.source {
            Source::Made | Source::Received => self.events.push(placed),
            Source::Outlier => self.placed.push(placed),
        }
        if row.source != Source::Made && row.snapshot.is_some() {
            self.arrived.push(&row.event_id);
        }
        if let (Some((parent, rel_type)), Some(stream_order)) = (&row.relation, stream_order) {
            self.relations.push(relation::Row {
                room: row.room,
                parent,
                rel_type,
                event: row.nid,
                stream_order,
            });
        }
        match &row.redacts {
            Some(Redacts::Known(target)) => {
                self.redacted.0.push(*target);
                self.redacted.1.push(row.nid);
            }
            Some(Redacts::Unknown(target)) => {
                self.pending.0.push(target);
                self.pending.1.push(row.nid);
            }
            None => {}
        }
    }

    fn entry(
        &mut self,
        kind: Kind,
        room: Option<RoomNid>,
        user: Option<UserNid>,
        event: Option<EventNid>,
    ) -> Position {
        self.last += 1;
        let position = Position(self.last);
        self.entries.push(Entry {
            position,
            kind,
            room,
            user,
            event,
        });
        position
    }

    /// Writes it all: what every batch of events has at once, then a statement a table.
    pub(crate) async fn insert(
        &self,
        conn: &mut PgConnection,
        rooms: &HashMap<RoomNid, room::Changing>,
    ) -> sqlx::Result<()> {
        let log: Vec<log::Row> = self.entries.iter().map(log_row).collect();
        let changed: Vec<&room::Changing> =
            self.rooms.iter().filter_map(|nid| rooms.get(nid)).collect();
        let rows = append::Rows {
            log: &log,
            events: &self.events,
            transactions: &self.transactions,
            rooms: &changed,
        };
        append::insert(conn, rows).await?;
        // Before what has arrived is struck off: a target may come right after its redaction.
        if !self.pending.0.is_empty() {
            pending_redaction::insert(conn, &self.pending.0, &self.pending.1).await?;
        }
        self.insert_received(conn).await?;
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
        self.insert_of_users(conn).await
    }

    /// What only received events have.
    async fn insert_received(&self, conn: &mut PgConnection) -> sqlx::Result<()> {
        if !self.placed.is_empty() {
            event::update_placed(conn, &self.placed).await?;
        }
        if !self.arrived.is_empty() {
            missing_previous::delete(conn, &self.arrived).await?;
            pending_redaction::delete(conn, &self.arrived).await?;
        }
        if !self.gaps.is_empty() {
            missing_previous::insert(conn, &self.gaps).await?;
        }
        Ok(())
    }

    async fn insert_of_users(&self, conn: &mut PgConnection) -> sqlx::Result<()> {
        if !self.memberships.is_empty() {
            let rows: Vec<_> = self.memberships.values().copied().collect();
            membership::upsert(conn, &rows).await?;
            let words = rows.iter().flat_map(|placed| {
                let words = placed.row.words.iter();
                words.map(|word| (placed.row.user, word.as_str()))
            });
            let (users, words): (Vec<UserNid>, Vec<&str>) = words.unzip();
            if !words.is_empty() {
                user_word::insert(conn, &users, &words).await?;
            }
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
