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

/// Lists the users whose devices changed in `(from, to]` and who share a room with `user`, himself included.
pub async fn list_shared(
    conn: &mut PgConnection,
    user: UserNid,
    from: Position,
    to: Position,
) -> sqlx::Result<Vec<UserNid>> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT d.user_nid AS "user: UserNid" FROM device_list_change d
           WHERE d.position > $2 AND d.position <= $3
             AND (d.user_nid = $1 OR EXISTS (
                 SELECT FROM membership a
                 JOIN membership b ON b.room_nid = a.room_nid AND b.user_nid = d.user_nid AND b.membership = 'join'
                 WHERE a.user_nid = $1 AND a.membership = 'join'))"#,
        user.0,
        from.0,
        to.0,
    )
    .fetch_all(conn)
    .await
}
