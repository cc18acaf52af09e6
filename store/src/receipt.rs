//! `receipt`: what users have read. Journalled.

use hearth_core::Position;
use sqlx::PgConnection;

use crate::write::ReceiptRow;

/// Writes receipts; one a room, user, kind and thread at the most.
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
             position = excluded.position",
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
