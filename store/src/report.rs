//! `report`: what users report to the administrators.

use hearth_core::{RoomNid, UserNid};
use sqlx::PgConnection;

/// What is reported: an event of a room, a room, or a user.
#[derive(Clone, Copy, Debug)]
pub struct NewReport<'a> {
    /// Who reports.
    pub reporter: UserNid,
    /// The room, for rooms and events.
    pub room: Option<RoomNid>,
    /// The event.
    pub event_id: Option<&'a str>,
    /// The user.
    pub user: Option<UserNid>,
    /// Why.
    pub reason: &'a str,
    /// When, in milliseconds since the epoch.
    pub created_ts: i64,
}

/// Adds a report.
pub async fn insert(conn: &mut PgConnection, report: NewReport<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO report (reporter_nid, room_nid, event_id, user_nid, reason, created_ts)
         VALUES ($1, $2, $3, $4, $5, $6)",
        report.reporter.0,
        report.room as Option<RoomNid>,
        report.event_id,
        report.user as Option<UserNid>,
        report.reason,
        report.created_ts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes those of the first `limit` reports that are from before `oldest_ts`. Gives how many.
pub async fn delete_before(
    conn: &mut PgConnection,
    oldest_ts: i64,
    limit: i64,
) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "DELETE FROM report WHERE nid IN (
             SELECT nid FROM (SELECT nid, created_ts FROM report ORDER BY nid LIMIT $2) first
             WHERE created_ts < $1)",
        oldest_ts,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}
