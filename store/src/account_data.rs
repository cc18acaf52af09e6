//! `account_data`: what users keep on the server. Journalled.

use hearth_core::Position;
use sqlx::PgConnection;

use crate::write::AccountDataRow;

/// Writes account data; one row a user, room and type at the most.
pub async fn upsert(
    conn: &mut PgConnection,
    rows: &[(&AccountDataRow, Position)],
) -> sqlx::Result<()> {
    let users: Vec<i64> = rows.iter().map(|(row, _)| row.user.0).collect();
    let rooms: Vec<i64> = rows.iter().map(|(row, _)| row.room.0).collect();
    let kinds: Vec<&str> = rows.iter().map(|(row, _)| row.kind.as_str()).collect();
    let contents: Vec<&str> = rows.iter().map(|(row, _)| row.content.as_str()).collect();
    let positions: Vec<i64> = rows.iter().map(|(_, position)| position.0).collect();
    sqlx::query!(
        "INSERT INTO account_data (user_nid, room_nid, type, content, position)
         SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[])
         ON CONFLICT (user_nid, room_nid, type) DO UPDATE SET
             content = excluded.content, position = excluded.position",
        &users,
        &rooms,
        &kinds as &[&str],
        &contents as &[&str],
        &positions,
    )
    .execute(conn)
    .await?;
    Ok(())
}
