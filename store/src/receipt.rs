//! `receipt`: what users have read. Journalled.

use hearth_core::{Position, RoomNid, UserNid};
use sqlx::PgConnection;

use crate::write::ReceiptRow;

/// Writes receipts; one a room, user, kind and thread at the most. None moves backwards.
pub async fn upsert(conn: &mut PgConnection, rows: &[(&ReceiptRow, Position)]) -> sqlx::Result<()> {
    let rooms: Vec<i64> = rows.iter().map(|(row, _)| row.room.0).collect();
    let users: Vec<i64> = rows.iter().map(|(row, _)| row.user.0).collect();
    let kinds: Vec<&str> = rows.iter().map(|(row, _)| row.kind.as_str()).collect();
    let threads: Vec<&str> = rows.iter().map(|(row, _)| row.thread.as_str()).collect();
    let events: Vec<&str> = rows.iter().map(|(row, _)| row.event_id.as_str()).collect();
    let orders: Vec<Option<i64>> = rows.iter().map(|(row, _)| row.stream_order).collect();
    let times: Vec<i64> = rows.iter().map(|(row, _)| row.ts).collect();
    let positions: Vec<i64> = rows.iter().map(|(_, position)| position.0).collect();
    sqlx::query!(
        "INSERT INTO receipt (room_nid, user_nid, kind, thread, event_id, stream_order, ts, position)
         SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[],
                              $7::bigint[], $8::bigint[])
         ON CONFLICT (room_nid, user_nid, kind, thread) DO UPDATE SET
             event_id = excluded.event_id, stream_order = excluded.stream_order, ts = excluded.ts,
             position = excluded.position
         WHERE receipt.stream_order IS NULL OR excluded.stream_order IS NULL
            OR excluded.stream_order > receipt.stream_order",
        &rooms,
        &users,
        &kinds as &[&str],
        &threads as &[&str],
        &events as &[&str],
        &orders as &[Option<i64>],
        &times,
        &positions,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A receipt as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where.
    pub room: RoomNid,
    /// Whose.
    pub user: UserNid,
    /// `m.read` or `m.read.private`.
    pub kind: String,
    /// Empty (unthreaded), `main`, or the thread root's event id.
    pub thread: String,
    /// What was read.
    pub event_id: String,
    /// The event's stream order, if it is known here.
    pub stream_order: Option<i64>,
    /// When, in milliseconds since the epoch.
    pub ts: i64,
    /// When it was written.
    pub position: Position,
}

/// Lists a user's receipts in rooms.
pub async fn list_of_user(
    conn: &mut PgConnection,
    rooms: &[RoomNid],
    user: UserNid,
) -> sqlx::Result<Vec<Stored>> {
    sqlx::query_as!(
        Stored,
        "SELECT room_nid AS room, user_nid AS user, kind, thread, event_id, stream_order, ts, position
         FROM receipt WHERE room_nid = ANY($1) AND user_nid = $2",
        rooms as &[RoomNid],
        user.0,
    )
    .fetch_all(conn)
    .await
}

/// Lists the receipts of rooms that `user` may see (its own private ones, everybody's public ones) and that changed in
/// `(from, to]`: the newest `limit`, in the order of the log.
pub async fn list(
    conn: &mut PgConnection,
    rooms: &[RoomNid],
    user: UserNid,
    from: Position,
    to: Position,
    limit: i64,
) -> sqlx::Result<Vec<Stored>> {
    let mut receipts = sqlx::query_as!(
        Stored,
        "SELECT room_nid AS room, user_nid AS user, kind, thread, event_id, stream_order, ts, position
         FROM receipt
         WHERE room_nid = ANY($1) AND position > $3 AND position <= $4 AND (kind = 'm.read' OR user_nid = $2)
         ORDER BY position DESC LIMIT $5",
        rooms as &[RoomNid],
        user.0,
        from.0,
        to.0,
        limit,
    )
    .fetch_all(conn)
    .await?;
    receipts.reverse();
    Ok(receipts)
}

/// Deletes the receipts of threads that say less than a receipt for the whole room: those of the i-th user in the i-th
/// room.
///
/// Rows that somebody else writes at the moment are left alone, so that nobody waits for anybody.
pub async fn delete_overtaken(
    conn: &mut PgConnection,
    rooms: &[RoomNid],
    users: &[UserNid],
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM receipt WHERE ctid = ANY (ARRAY(
             SELECT of_thread.ctid
             FROM UNNEST($1::bigint[], $2::bigint[]) AS w (room_nid, user_nid)
             JOIN receipt of_room USING (room_nid, user_nid)
             JOIN receipt of_thread USING (room_nid, user_nid, kind)
             WHERE of_room.thread = '' AND of_thread.thread <> '' AND of_thread.stream_order <= of_room.stream_order
             FOR UPDATE OF of_thread SKIP LOCKED))",
        rooms as &[RoomNid],
        users as &[UserNid],
    )
    .execute(conn)
    .await?;
    Ok(())
}
