//! `sent_event`: the events that clients' transactions made. Journalled.

use hearth_core::{EventNid, Position, RoomNid, UserNid};
use sqlx::PgConnection;

use crate::write::TransactionRow;

/// A transaction with its room and its event.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The transaction.
    pub transaction: &'a TransactionRow,
    /// The room that it sends to.
    pub room: RoomNid,
    /// The event that it makes.
    pub event: EventNid,
}

/// Lists which of the transactions made an event already: the index into `rows`, and the event.
pub async fn list_known(
    conn: &mut PgConnection,
    rows: &[Row<'_>],
) -> sqlx::Result<Vec<(usize, EventNid)>> {
    let columns = Columns::of(rows);
    let known = sqlx::query!(
        r#"SELECT w.index AS "index!", s.event_nid AS "event: EventNid"
           FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[])
                WITH ORDINALITY AS w (user_nid, device_id, room_nid, action, txn_id, index)
           JOIN sent_event s USING (user_nid, device_id, room_nid, action, txn_id)"#,
        &columns.users,
        &columns.devices as &[&str],
        &columns.rooms,
        &columns.actions as &[&str],
        &columns.ids as &[&str],
    )
    .fetch_all(conn)
    .await?;
    let known = known.into_iter().filter_map(|row| {
        let index = usize::try_from(row.index).ok()?.checked_sub(1)?;
        Some((index, row.event))
    });
    Ok(known.collect())
}

/// Lists the transaction ids of those of `events` that this device sent.
pub async fn list_of_events(
    conn: &mut PgConnection,
    user: UserNid,
    device_id: &str,
    events: &[EventNid],
) -> sqlx::Result<Vec<(EventNid, String)>> {
    let rows = sqlx::query!(
        r#"SELECT event_nid AS "event: EventNid", txn_id FROM sent_event
           WHERE event_nid = ANY($3) AND user_nid = $1 AND device_id = $2"#,
        user.0,
        device_id,
        events as &[EventNid],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.event, row.txn_id))
        .collect())
}

/// Deletes the transactions whose events came in `(from, to]` of the log.
pub async fn delete(conn: &mut PgConnection, from: Position, to: Position) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM sent_event WHERE event_nid IN (
             SELECT event_nid FROM log WHERE position > $1 AND position <= $2 AND event_nid IS NOT NULL)",
        from.0,
        to.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Transactions as `UNNEST` takes them.
pub(crate) struct Columns<'a> {
    pub users: Vec<i64>,
    pub devices: Vec<&'a str>,
    pub rooms: Vec<i64>,
    pub actions: Vec<&'a str>,
    pub ids: Vec<&'a str>,
    pub events: Vec<i64>,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(rows: &[Row<'a>]) -> Self {
        let text = |value: fn(&'a TransactionRow) -> &'a str| -> Vec<&'a str> {
            rows.iter().map(|row| value(row.transaction)).collect()
        };
        Self {
            users: rows.iter().map(|row| row.transaction.user.0).collect(),
            devices: text(|row| &row.device_id),
            rooms: rows.iter().map(|row| row.room.0).collect(),
            actions: text(|row| &row.action),
            ids: text(|row| &row.txn_id),
            events: rows.iter().map(|row| row.event.0).collect(),
        }
    }
}
