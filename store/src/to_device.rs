//! `to_device`: messages that wait for a device. Journalled.

use hearth_core::Position;
use sqlx::PgConnection;

use crate::write::ToDeviceRow;

/// Adds messages.
pub async fn insert(
    conn: &mut PgConnection,
    rows: &[(&ToDeviceRow, Position)],
) -> sqlx::Result<()> {
    let users: Vec<i64> = rows.iter().map(|(row, _)| row.user.0).collect();
    let devices: Vec<&str> = rows.iter().map(|(row, _)| row.device_id.as_str()).collect();
    let positions: Vec<i64> = rows.iter().map(|(_, position)| position.0).collect();
    let messages: Vec<&str> = rows.iter().map(|(row, _)| row.message.as_str()).collect();
    sqlx::query!(
        "INSERT INTO to_device (user_nid, device_id, position, message)
         SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::text[])",
        &users,
        &devices as &[&str],
        &positions,
        &messages as &[&str],
    )
    .execute(conn)
    .await?;
    Ok(())
}
