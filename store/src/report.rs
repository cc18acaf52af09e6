//! `report`: what users report to the administrators. Each report takes rows out that are older than a year.

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

/// Adds a report, and takes some out that are older than `oldest_ts`.
pub async fn insert(
    conn: &mut PgConnection,
    report: NewReport<'_>,
    oldest_ts: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "WITH old AS (
             DELETE FROM report WHERE nid IN (
                 SELECT nid FROM report WHERE created_ts < $7 ORDER BY nid LIMIT 20 FOR UPDATE SKIP LOCKED
             )
         )
         INSERT INTO report (reporter_nid, room_nid, event_id, user_nid, reason, created_ts)
         VALUES ($1, $2, $3, $4, $5, $6)",
        report.reporter.0,
        report.room as Option<RoomNid>,
        report.event_id,
        report.user as Option<UserNid>,
        report.reason,
        report.created_ts,
        oldest_ts,
    )
    .execute(conn)
    .await?;
    Ok(())
}
