//! `outbox_room`, `outbox_message`: what other servers have yet to get.

use std::time::Duration;

use hearth_core::{DestinationNid, EventNid, RoomNid};
use sqlx::PgConnection;

/// An event that a server has to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressed {
    /// Who.
    pub destination: DestinationNid,
    /// The event's room.
    pub room: RoomNid,
    /// The event.
    pub event: EventNid,
}

/// How many events of one room wait.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For a server that gets what is sent.
    pub healthy: i32,
    /// For one that fails.
    pub failing: i32,
}

/// A server that has failed for so long is gone for good, as far as one can tell.
pub const GONE_AFTER: Duration = Duration::from_hours(30 * 24);

/// Notes events down for servers, in their order; the newest ones stay. For a server that is gone for good nothing is noted
/// down, except when it is to be tried again at `now`.
pub async fn append(
    conn: &mut PgConnection,
    events: &[Addressed],
    bounds: Bounds,
    now: i64,
) -> sqlx::Result<()> {
    let destinations: Vec<i64> = events.iter().map(|event| event.destination.0).collect();
    let rooms: Vec<i64> = events.iter().map(|event| event.room.0).collect();
    let nids: Vec<i64> = events.iter().map(|event| event.event.0).collect();
    sqlx::query!(
        "INSERT INTO outbox_room AS o (destination_nid, room_nid, events)
         SELECT w.destination, w.room, array_agg(w.event ORDER BY w.place)
         FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS w (destination, room, event, place)
         JOIN destination d ON d.nid = w.destination
         WHERE NOT (d.failing_since_ts BETWEEN 1 AND $6 AND d.retry_ts > $7)
         GROUP BY w.destination, w.room ORDER BY w.destination, w.room
         ON CONFLICT (destination_nid, room_nid) DO UPDATE SET
             events = (o.events || excluded.events)[
                 GREATEST(1, cardinality(o.events) + cardinality(excluded.events) + 1
                             - CASE WHEN (SELECT failures FROM destination d WHERE d.nid = excluded.destination_nid) > 0
                                    THEN $5::int ELSE $4::int END):]",
        &destinations,
        &rooms,
        &nids,
        bounds.healthy,
        bounds.failing,
        gone_before(now),
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes up to `limit` rooms of which servers have yet to get events that are gone for good at `now`. Gives how many.
pub async fn delete_of_gone(conn: &mut PgConnection, now: i64, limit: i64) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "DELETE FROM outbox_room WHERE ctid = ANY (ARRAY(
             SELECT o.ctid FROM outbox_room o JOIN destination d ON d.nid = o.destination_nid
             WHERE d.failing_since_ts BETWEEN 1 AND $1 LIMIT $2))",
        gone_before(now),
        limit,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}

/// Servers that have failed since then are gone for good.
fn gone_before(now: i64) -> i64 {
    now - i64::try_from(GONE_AFTER.as_millis()).unwrap_or(i64::MAX)
}

/// The events of one room that a server has yet to get.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The room.
    pub room: RoomNid,
    /// The events, oldest first.
    pub events: Vec<EventNid>,
}

/// Lists what a server has yet to get, of the `limit` rooms that have waited longest.
pub async fn list(
    conn: &mut PgConnection,
    destination: DestinationNid,
    limit: i64,
) -> sqlx::Result<Vec<Waiting>> {
    sqlx::query_as!(
        Waiting,
        r#"SELECT room_nid AS room, events AS "events: Vec<EventNid>" FROM outbox_room
           WHERE destination_nid = $1 ORDER BY events[1] LIMIT $2"#,
        destination.0,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Strikes out what a server got; rooms of which nothing is left are for [`delete_empty`].
pub async fn update_delivered(
    conn: &mut PgConnection,
    destination: DestinationNid,
    rooms: &[RoomNid],
    events: &[EventNid],
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE outbox_room SET events = ARRAY(
             SELECT e FROM UNNEST(events) WITH ORDINALITY AS w (e, place) WHERE e <> ALL ($3) ORDER BY place)
         WHERE destination_nid = $1 AND room_nid = ANY($2)",
        destination.0,
        rooms as &[RoomNid],
        events as &[EventNid],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes the rooms of which a server got everything.
pub async fn delete_empty(
    conn: &mut PgConnection,
    destination: DestinationNid,
    rooms: &[RoomNid],
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM outbox_room WHERE destination_nid = $1 AND room_nid = ANY($2) AND events = '{}'",
        destination.0,
        rooms as &[RoomNid],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets all but the newest `kept` events of each room for a server that fails.
pub async fn update_shortened(
    conn: &mut PgConnection,
    destination: DestinationNid,
    kept: i32,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE outbox_room SET events = events[cardinality(events) - $2::int + 1:]
         WHERE destination_nid = $1 AND cardinality(events) > $2::int",
        destination.0,
        kept,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A message to devices that a server has yet to get.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its number.
    pub nid: i64,
    /// The EDU.
    pub edu: String,
    /// When it was sent.
    pub created_ts: i64,
}

/// Adds messages to devices of other servers.
pub async fn insert_messages(
    conn: &mut PgConnection,
    messages: &[(DestinationNid, String)],
    created_ts: i64,
) -> sqlx::Result<()> {
    let destinations: Vec<i64> = messages.iter().map(|(nid, _)| nid.0).collect();
    let edus: Vec<&str> = messages.iter().map(|(_, edu)| edu.as_str()).collect();
    sqlx::query!(
        "INSERT INTO outbox_message (destination_nid, edu, created_ts)
         SELECT w.*, $3 FROM UNNEST($1::bigint[], $2::text[]) AS w",
        &destinations,
        &edus as &[&str],
        created_ts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the messages to devices that a server has yet to get: the first, and of those after it up to `limit` as long as
/// they come to no more than `bytes`.
pub async fn list_messages(
    conn: &mut PgConnection,
    destination: DestinationNid,
    limit: i64,
    bytes: i64,
) -> sqlx::Result<Vec<Message>> {
    sqlx::query_as!(
        Message,
        r#"WITH first AS MATERIALIZED (
               SELECT nid, sum(octet_length(edu)) OVER (ORDER BY nid) AS bytes, row_number() OVER (ORDER BY nid) AS number
               FROM (SELECT nid, edu FROM outbox_message WHERE destination_nid = $1 ORDER BY nid LIMIT $2) AS waiting
           )
           SELECT m.nid, m.edu, m.created_ts FROM first JOIN outbox_message m USING (nid)
           WHERE first.bytes <= $3 OR first.number = 1 ORDER BY m.nid"#,
        destination.0,
        limit,
        bytes,
    )
    .fetch_all(conn)
    .await
}

/// Deletes messages that were delivered.
pub async fn delete_messages(conn: &mut PgConnection, nids: &[i64]) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM outbox_message WHERE nid = ANY($1)", nids)
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletes messages that have waited since before `created_ts`, the oldest `limit` of them. Gives how many.
pub async fn delete_messages_before(
    conn: &mut PgConnection,
    created_ts: i64,
    limit: i64,
) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "DELETE FROM outbox_message WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM outbox_message WHERE created_ts < $1 ORDER BY created_ts LIMIT $2))",
        created_ts,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}
