//! `log_mark`: where the head of the log was when.

use hearth_core::Position;
use sqlx::PgConnection;

/// Notes where the head is now.
pub async fn insert(conn: &mut PgConnection, now: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO log_mark (created_ts, position) SELECT $1, position FROM log_head ON CONFLICT DO NOTHING",
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Where the head was at `ts`, or a little earlier; `None` when that is longer ago than is known.
pub async fn find_position(conn: &mut PgConnection, ts: i64) -> sqlx::Result<Option<Position>> {
    sqlx::query_scalar!(
        r#"SELECT position AS "position: Position" FROM log_mark
           WHERE created_ts <= $1 ORDER BY created_ts DESC LIMIT 1"#,
        ts,
    )
    .fetch_optional(conn)
    .await
}

/// Deletes the marks from before the last one that is as old as `oldest_ts`.
pub async fn delete_before(conn: &mut PgConnection, oldest_ts: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM log_mark
         WHERE created_ts < (SELECT max(created_ts) FROM log_mark WHERE created_ts <= $1)",
        oldest_ts,
    )
    .execute(conn)
    .await?;
    Ok(())
}
