//! `to_device`: messages that wait for a device. Journalled.

use hearth_core::{Position, UserNid};
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

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place.
    pub position: Position,
    /// The event, JSON.
    pub message: String,
}

/// Lists the messages of a device in `(from, to]`, the first `limit`.
pub async fn list(
    conn: &mut PgConnection,
    user: UserNid,
    device_id: &str,
    (from, to): (Position, Position),
    limit: i64,
) -> sqlx::Result<Vec<Stored>> {
    sqlx::query_as!(
        Stored,
        "SELECT position, message FROM to_device
         WHERE user_nid = $1 AND device_id = $2 AND position > $3 AND position <= $4
         ORDER BY position LIMIT $5",
        user.0,
        device_id,
        from.0,
        to.0,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Removes the messages of a device up to `to`: they arrived.
pub async fn delete(
    conn: &mut PgConnection,
    user: UserNid,
    device_id: &str,
    to: Position,
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM to_device WHERE user_nid = $1 AND device_id = $2 AND position <= $3",
        user.0,
        device_id,
        to.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes what waits for devices that are gone.
pub async fn delete_of_devices(
    conn: &mut PgConnection,
    user: UserNid,
    device_ids: &[&str],
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM to_device WHERE user_nid = $1 AND device_id = ANY($2)",
        user.0,
        device_ids as &[&str],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes what waits for devices of `users` that are gone, or were not seen since `since_ts`: at most `limit` messages.
///
/// A device may go while a message to it is under way.
pub async fn delete_unwanted(
    conn: &mut PgConnection,
    users: &[UserNid],
    since_ts: i64,
    limit: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM to_device WHERE ctid = ANY (ARRAY(
             SELECT m.ctid FROM to_device m
             WHERE m.user_nid = ANY($1) AND NOT EXISTS (
                 SELECT FROM device d WHERE d.user_nid = m.user_nid AND d.device_id = m.device_id
                   AND COALESCE(d.last_seen_ts, d.created_ts) >= $2)
             LIMIT $3))",
        users as &[UserNid],
        since_ts,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(())
}
