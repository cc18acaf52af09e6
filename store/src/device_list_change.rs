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
