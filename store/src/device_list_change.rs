//! `device_list_change`: whose devices changed when. Journalled.

use hearth_core::{Position, UserNid};
use sqlx::PgConnection;

/// Adds changes.
pub async fn insert(
    conn: &mut PgConnection,
    users: &[UserNid],
    positions: &[Position],
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO device_list_change (position, user_nid)
         SELECT * FROM UNNEST($1::bigint[], $2::bigint[])",
        positions as &[Position],
        users as &[UserNid],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes the changes up to `position`.
pub async fn delete(conn: &mut PgConnection, position: Position) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM device_list_change WHERE position <= $1",
        position.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}
