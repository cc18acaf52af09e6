//! What every batch of events writes: `log`, `event`, `sent_event` and `room`, in one statement.
//!
//! It runs while its transaction holds the log's lock, and nobody else's can commit: each round trip counts.

use hearth_core::EventNid;
use sqlx::PgConnection;

use crate::{event, log, room, sent_event, write::EventRow};

/// The rows of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rows<'a> {
    /// What goes into the log.
    pub log: &'a [log::Row],
    /// The events.
    pub events: &'a [event::Placed<'a>],
    /// The clients' transactions that made them.
    pub transactions: &'a [sent_event::Row<'a>],
    /// Rooms that [`room::lock_all`] locked, as they are from now on.
    pub rooms: &'a [&'a room::Changing],
}

/// Adds what is new and writes the rooms back.
pub async fn insert(conn: &mut PgConnection, rows: Rows<'_>) -> sqlx::Result<()> {
    let log = Log::of(rows.log);
    let events = Events::of(rows.events);
    let sent = sent_event::Columns::of(rows.transactions);
    let rooms = Rooms::of(rows.rooms);
    sqlx::query!(
        "WITH entries AS (INSERT INTO log (position, kind, room_nid, user_nid, event_nid)
             SELECT * FROM UNNEST($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[])
         ), events AS (INSERT INTO event
                 (nid, room_nid, event_id, sender_nid, type, state_key_nid, depth, origin_server_ts,
                  stream_order, snapshot_nid, auth, status, json)
             SELECT nid, room_nid, event_id, sender_nid, type, state_key_nid, depth, origin_server_ts,
                    stream_order, snapshot_nid, auth::bigint[], status, json
             FROM UNNEST($6::bigint[], $7::bigint[], $8::text[], $9::bigint[], $10::text[], $11::bigint[],
                         $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::text[], $17::smallint[],
                         $18::text[])
                  AS w (nid, room_nid, event_id, sender_nid, type, state_key_nid, depth, origin_server_ts,
                        stream_order, snapshot_nid, auth, status, json)
         ), sent AS (INSERT INTO sent_event (user_nid, device_id, room_nid, action, txn_id, event_nid)
             SELECT * FROM UNNEST($19::bigint[], $20::text[], $21::bigint[], $22::text[], $23::text[], $24::bigint[])
         )
         UPDATE room SET revision = w.revision, snapshot_nid = w.snapshot, extremities = w.extremities::bigint[]
         FROM UNNEST($25::bigint[], $26::bigint[], $27::bigint[], $28::text[])
              AS w (nid, revision, snapshot, extremities)
         WHERE room.nid = w.nid",
        &log.positions,
        &log.kinds,
        &log.rooms as &[Option<i64>],
        &log.users as &[Option<i64>],
        &log.events as &[Option<i64>],
        &events.nids,
        &events.rooms,
        &events.ids as &[&str],
        &events.senders,
        &events.kinds as &[&str],
        &events.state_keys as &[Option<i64>],
        &events.depths,
        &events.times,
        &events.orders as &[Option<i64>],
        &events.snapshots as &[Option<i64>],
        &events.auth,
        &events.status,
        &events.json as &[&str],
        &sent.users,
        &sent.devices as &[&str],
        &sent.rooms,
        &sent.actions as &[&str],
        &sent.ids as &[&str],
        &sent.events,
        &rooms.nids,
        &rooms.revisions,
        &rooms.snapshots as &[Option<i64>],
        &rooms.extremities,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Numbers as `PostgreSQL` writes an array: `UNNEST` would flatten an array of arrays.
pub(crate) fn array(nids: &[EventNid]) -> String {
    let numbers: Vec<String> = nids.iter().map(ToString::to_string).collect();
    format!("{{{}}}", numbers.join(","))
}

fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

struct Log {
    positions: Vec<i64>,
    kinds: Vec<i16>,
    rooms: Vec<Option<i64>>,
    users: Vec<Option<i64>>,
    events: Vec<Option<i64>>,
}

impl Log {
    fn of(rows: &[log::Row]) -> Self {
        Self {
            positions: column(rows, |row| row.position.0),
            kinds: column(rows, |row| row.kind),
            rooms: column(rows, |row| row.room.map(|nid| nid.0)),
            users: column(rows, |row| row.user.map(|nid| nid.0)),
            events: column(rows, |row| row.event.map(|nid| nid.0)),
        }
    }
}

struct Events<'a> {
    nids: Vec<i64>,
    rooms: Vec<i64>,
    ids: Vec<&'a str>,
    senders: Vec<i64>,
    kinds: Vec<&'a str>,
    state_keys: Vec<Option<i64>>,
    depths: Vec<i64>,
    times: Vec<i64>,
    orders: Vec<Option<i64>>,
    snapshots: Vec<Option<i64>>,
    auth: Vec<String>,
    status: Vec<i16>,
    json: Vec<&'a str>,
}

impl<'a> Events<'a> {
    fn of(placed: &[event::Placed<'a>]) -> Self {
        let rows: Vec<&'a EventRow> = column(placed, |event| event.row);
        Self {
            nids: column(&rows, |row| row.nid.0),
            rooms: column(&rows, |row| row.room.0),
            ids: column(&rows, |row| &*row.event_id),
            senders: column(&rows, |row| row.sender.0),
            kinds: column(&rows, |row| &*row.kind),
            state_keys: column(&rows, |row| row.state_key.map(|nid| nid.0)),
            depths: column(&rows, |row| row.depth),
            times: column(&rows, |row| row.origin_server_ts),
            orders: column(placed, |event| event.stream_order),
            snapshots: column(&rows, |row| row.snapshot.map(|nid| nid.0)),
            auth: column(&rows, |row| array(&row.auth)),
            status: column(&rows, |row| row.status as i16),
            json: column(&rows, |row| &*row.json),
        }
    }
}

struct Rooms {
    nids: Vec<i64>,
    revisions: Vec<i64>,
    snapshots: Vec<Option<i64>>,
    extremities: Vec<String>,
}

impl Rooms {
    fn of(rows: &[&room::Changing]) -> Self {
        Self {
            nids: column(rows, |row| row.nid.0),
            revisions: column(rows, |row| row.revision),
            snapshots: column(rows, |row| row.snapshot.map(|nid| nid.0)),
            extremities: column(rows, |row| array(&row.extremities)),
        }
    }
}
