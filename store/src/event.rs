//! `event`: PDUs, their place in the timeline and what the checks said of them.

use hearth_core::{EventNid, RoomNid, SnapshotNid, StateKeyNid, UserNid};
use sqlx::PgConnection;

use crate::write::EventRow;

/// A stored event as it is read.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its number.
    pub nid: EventNid,
    /// The room.
    pub room: RoomNid,
    /// The room's version.
    pub version: String,
    /// `$…`
    pub event_id: String,
    /// Who sent it.
    pub sender: UserNid,
    /// Present on state events.
    pub state_key: Option<StateKeyNid>,
    /// Its place in the timeline, if it has one.
    pub stream_order: Option<i64>,
    /// The state before it; `None` for outliers.
    pub snapshot: Option<SnapshotNid>,
    /// Its auth events.
    pub auth: Vec<EventNid>,
    /// 0 accepted, 1 soft-failed, 2 rejected.
    pub status: i16,
    /// The redaction that applies to it.
    pub redacted_by: Option<EventNid>,
    /// Whether events right before it are missing here.
    pub after_gap: bool,
    /// The PDU.
    pub json: String,
}

/// Lists the events with these numbers, in no order; unknown numbers are left out.
pub async fn list(conn: &mut PgConnection, nids: &[EventNid]) -> sqlx::Result<Vec<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT e.nid, e.room_nid AS room, r.version, e.event_id, e.sender_nid AS sender,
                  e.state_key_nid AS "state_key: StateKeyNid", e.stream_order,
                  e.snapshot_nid AS "snapshot: SnapshotNid", e.auth AS "auth: Vec<EventNid>", e.status,
                  e.redacted_by AS "redacted_by: EventNid",
                  EXISTS (SELECT FROM missing_previous m WHERE m.child_nid = e.nid) AS "after_gap!", e.json
           FROM event e JOIN room r ON r.nid = e.room_nid
           WHERE e.nid = ANY($1)"#,
        nids as &[EventNid],
    )
    .fetch_all(conn)
    .await
}

/// Lists the ids of the events with these numbers, in no order.
pub async fn list_ids(conn: &mut PgConnection, nids: &[EventNid]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT event_id FROM event WHERE nid = ANY($1)",
        nids as &[EventNid],
    )
    .fetch_all(conn)
    .await
}

/// Lists the numbers of those of `event_ids` that are stored, with their ids.
pub async fn list_nids(
    conn: &mut PgConnection,
    event_ids: &[&str],
) -> sqlx::Result<Vec<(String, EventNid)>> {
    let rows = sqlx::query!(
        r#"SELECT event_id, nid AS "nid: EventNid" FROM event WHERE event_id = ANY($1)"#,
        event_ids as &[&str],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.event_id, row.nid))
        .collect())
}

/// Lists up to `limit` events of the auth chains of `nids`, in no order: their auth events, the auth events of those,
/// and so on. An event of `nids` is listed only where it is in the chain of another one.
pub async fn list_auth_chain(
    conn: &mut PgConnection,
    nids: &[EventNid],
    limit: i64,
) -> sqlx::Result<Vec<EventNid>> {
    sqlx::query_scalar!(
        r#"WITH RECURSIVE chain (nid) AS (
               SELECT UNNEST(auth) FROM event WHERE nid = ANY($1)
               UNION
               SELECT UNNEST(e.auth) FROM chain c JOIN event e ON e.nid = c.nid
           )
           SELECT nid AS "nid!: EventNid" FROM chain LIMIT $2"#,
        nids as &[EventNid],
        limit,
    )
    .fetch_all(conn)
    .await
}

/// An event that is stored.
#[derive(Clone, Debug)]
pub struct Known {
    /// `$…`
    pub event_id: String,
    /// Its number.
    pub nid: EventNid,
    /// The room.
    pub room: RoomNid,
    /// Present on state events.
    pub state_key: Option<StateKeyNid>,
    /// The state before it; `None` for outliers.
    pub snapshot: Option<SnapshotNid>,
    /// 0 accepted, 1 soft-failed, 2 rejected.
    pub status: i16,
}

/// Lists those of `event_ids` that are stored.
pub async fn list_known(conn: &mut PgConnection, event_ids: &[&str]) -> sqlx::Result<Vec<Known>> {
    sqlx::query_as!(
        Known,
        r#"SELECT event_id, nid, room_nid AS room, state_key_nid AS "state_key: StateKeyNid",
                  snapshot_nid AS "snapshot: SnapshotNid", status
           FROM event WHERE event_id = ANY($1)"#,
        event_ids as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// What authorises an event.
#[derive(Clone, Debug)]
pub struct Edges {
    /// The event.
    pub nid: EventNid,
    /// Present on state events.
    pub state_key: Option<StateKeyNid>,
    /// Its auth events.
    pub auth: Vec<EventNid>,
}

/// Lists what authorises these events.
pub async fn list_edges(conn: &mut PgConnection, nids: &[EventNid]) -> sqlx::Result<Vec<Edges>> {
    sqlx::query_as!(
        Edges,
        r#"SELECT nid, state_key_nid AS "state_key: StateKeyNid", auth AS "auth: Vec<EventNid>"
           FROM event WHERE nid = ANY($1)"#,
        nids as &[EventNid],
    )
    .fetch_all(conn)
    .await
}

/// Lists what authorises these events, and what authorises that, and so on: the events and their auth chains.
pub async fn list_chain_edges(
    conn: &mut PgConnection,
    nids: &[EventNid],
) -> sqlx::Result<Vec<Edges>> {
    sqlx::query_as!(
        Edges,
        r#"WITH RECURSIVE chain AS (
               SELECT UNNEST($1::bigint[]) AS nid
               UNION
               SELECT UNNEST(e.auth) FROM chain c JOIN event e ON e.nid = c.nid
           )
           SELECT e.nid, e.state_key_nid AS "state_key: StateKeyNid", e.auth AS "auth: Vec<EventNid>"
           FROM chain c JOIN event e ON e.nid = c.nid"#,
        nids as &[EventNid],
    )
    .fetch_all(conn)
    .await
}

/// An event with the place that the log gave it.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// The event.
    pub row: &'a EventRow,
    /// Its place in the timeline, if it has one.
    pub stream_order: Option<i64>,
}

/// Notes which redactions apply to which events.
pub async fn update_redacted_by(
    conn: &mut PgConnection,
    targets: &[EventNid],
    redactions: &[EventNid],
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE event SET redacted_by = w.redaction
         FROM (SELECT DISTINCT ON (target) target, redaction
               FROM UNNEST($1::bigint[], $2::bigint[]) AS w (target, redaction) ORDER BY target, redaction) w
         WHERE event.nid = w.target AND event.redacted_by IS NULL",
        targets as &[EventNid],
        redactions as &[EventNid],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives outliers their place, state and status.
pub async fn update_placed(conn: &mut PgConnection, events: &[Placed<'_>]) -> sqlx::Result<()> {
    let nids: Vec<i64> = events.iter().map(|event| event.row.nid.0).collect();
    let orders: Vec<Option<i64>> = events.iter().map(|event| event.stream_order).collect();
    let snapshots: Vec<Option<i64>> = events
        .iter()
        .map(|event| event.row.snapshot.map(|nid| nid.0))
        .collect();
    let status: Vec<i16> = events.iter().map(|event| event.row.status as i16).collect();
    sqlx::query!(
        "UPDATE event SET stream_order = w.stream_order, snapshot_nid = w.snapshot_nid, status = w.status
         FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[])
              AS w (nid, stream_order, snapshot_nid, status)
         WHERE event.nid = w.nid",
        &nids,
        &orders as &[Option<i64>],
        &snapshots as &[Option<i64>],
        &status,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Adds outliers; those that are stored already are left as they are. Gives the numbers of those that are new.
///
/// The room's row must be locked, so that no two processes add one event.
pub async fn insert_outliers(
    conn: &mut PgConnection,
    rows: &[&EventRow],
) -> sqlx::Result<Vec<EventNid>> {
    let column =
        |value: fn(&EventRow) -> i64| -> Vec<i64> { rows.iter().map(|row| value(row)).collect() };
    let ids: Vec<&str> = rows.iter().map(|row| &*row.event_id).collect();
    let kinds: Vec<&str> = rows.iter().map(|row| &*row.kind).collect();
    let keys: Vec<Option<i64>> = rows
        .iter()
        .map(|row| row.state_key.map(|nid| nid.0))
        .collect();
    let auth: Vec<String> = rows
        .iter()
        .map(|row| crate::append::array(&row.auth))
        .collect();
    let status: Vec<i16> = rows.iter().map(|row| row.status as i16).collect();
    let json: Vec<&str> = rows.iter().map(|row| &*row.json).collect();
    sqlx::query_scalar!(
        r#"INSERT INTO event (nid, room_nid, event_id, sender_nid, type, state_key_nid, depth, origin_server_ts, auth,
                              status, json)
           SELECT nid, room_nid, event_id, sender_nid, type, state_key_nid, depth, origin_server_ts, auth::bigint[],
                  status, json
           FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[],
                       $8::bigint[], $9::text[], $10::smallint[], $11::text[])
                AS w (nid, room_nid, event_id, sender_nid, type, state_key_nid, depth, origin_server_ts, auth, status,
                      json)
           ON CONFLICT (event_id) DO NOTHING
           RETURNING nid AS "nid: EventNid""#,
        &column(|row| row.nid.0),
        &column(|row| row.room.0),
        &ids as &[&str],
        &column(|row| row.sender.0),
        &kinds as &[&str],
        &keys as &[Option<i64>],
        &column(|row| row.depth),
        &column(|row| row.origin_server_ts),
        &auth,
        &status,
        &json as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// Where an event is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `$…`
    pub event_id: String,
    /// The room.
    pub room: RoomNid,
    /// Its place in the timeline, if it has one.
    pub stream_order: Option<i64>,
}

/// Lists where those of `event_ids` are that are stored.
pub async fn list_places(conn: &mut PgConnection, event_ids: &[&str]) -> sqlx::Result<Vec<Place>> {
    sqlx::query_as!(
        Place,
        "SELECT event_id, room_nid AS room, stream_order FROM event WHERE event_id = ANY($1)",
        event_ids as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// A part of a room's timeline.
#[derive(Clone, Copy, Debug)]
pub struct Newest {
    /// The room.
    pub room: RoomNid,
    /// After this stream order.
    pub low: i64,
    /// Up to this stream order.
    pub high: i64,
    /// How many events, the newest ones.
    pub limit: i64,
}

/// Lists the newest events of many rooms' timelines, in no order.
pub async fn list_newest(
    conn: &mut PgConnection,
    parts: &[Newest],
) -> sqlx::Result<Vec<(RoomNid, EventNid)>> {
    let column = |value: fn(&Newest) -> i64| -> Vec<i64> { parts.iter().map(value).collect() };
    let rows = sqlx::query!(
        r#"SELECT w.room AS "room!: RoomNid", e.nid AS "nid: EventNid"
           FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS w (room, low, high, wanted)
           CROSS JOIN LATERAL (
               SELECT nid FROM event
               WHERE room_nid = w.room AND stream_order > w.low AND stream_order <= w.high
               ORDER BY stream_order DESC LIMIT w.wanted
           ) e"#,
        &column(|part| part.room.0),
        &column(|part| part.low),
        &column(|part| part.high),
        &column(|part| part.limit),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.room, row.nid)).collect())
}

/// What is asked of the top of a room's history.
#[derive(Clone, Copy, Debug)]
pub struct Deepest {
    /// The room.
    pub room: RoomNid,
    /// Up to this (depth, stream order).
    pub high: (i64, i64),
    /// Up to this stream order.
    pub until: i64,
    /// How many events, the deepest ones.
    pub limit: i64,
}

/// Lists the deepest events of many rooms' timelines, in no order.
pub async fn list_deepest(
    conn: &mut PgConnection,
    parts: &[Deepest],
) -> sqlx::Result<Vec<(RoomNid, EventNid)>> {
    let column = |value: fn(&Deepest) -> i64| -> Vec<i64> { parts.iter().map(value).collect() };
    let rows = sqlx::query!(
        r#"SELECT w.room AS "room!: RoomNid", e.nid AS "nid: EventNid"
           FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
                AS w (room, depth, stream_order, until, wanted)
           CROSS JOIN LATERAL (
               SELECT nid FROM event
               WHERE room_nid = w.room AND stream_order IS NOT NULL
               AND (depth, stream_order) <= (w.depth, w.stream_order) AND stream_order <= w.until
               ORDER BY depth DESC, stream_order DESC LIMIT w.wanted
           ) e"#,
        &column(|part| part.room.0),
        &column(|part| part.high.0),
        &column(|part| part.high.1),
        &column(|part| part.until),
        &column(|part| part.limit),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.room, row.nid)).collect())
}
