//! `snapshot` and `snapshot_sweep`: states that nothing refers to, and how they go.
//!
//! A snapshot is used while an event has it for the state before it, while it is or was a room's current state at a
//! place of the log that is still kept, and while another is stored as the difference to it. What is not used is first
//! marked, and deleted later if it is still not used.

use hearth_core::SnapshotNid;
use sqlx::PgConnection;

/// How far the sweep has come: the last snapshot that it looked at.
pub async fn find_place(conn: &mut PgConnection) -> sqlx::Result<SnapshotNid> {
    sqlx::query_scalar!(r#"SELECT looked_nid AS "nid: SnapshotNid" FROM snapshot_sweep"#)
        .fetch_one(conn)
        .await
}

/// Notes how far the sweep has come.
pub async fn update_place(conn: &mut PgConnection, place: SnapshotNid) -> sqlx::Result<()> {
    sqlx::query!("UPDATE snapshot_sweep SET looked_nid = $1", place.0)
        .execute(conn)
        .await?;
    Ok(())
}

/// Looks at the `limit` snapshots after `after`: marks those that are not used as unused since `now`, unless they are
/// marked, and takes the marks of the others off. Gives the last one that was looked at; `None`: there are no more.
pub async fn update_marks(
    conn: &mut PgConnection,
    after: SnapshotNid,
    limit: i64,
    now: i64,
) -> sqlx::Result<Option<SnapshotNid>> {
    sqlx::query_scalar!(
        r#"WITH looked AS (
               SELECT nid, room_nid, unused_since IS NOT NULL AS marked FROM snapshot
               WHERE nid > $1 ORDER BY nid LIMIT $2
           ), judged AS (
               SELECT nid, marked,
                      EXISTS (SELECT FROM event e WHERE e.snapshot_nid = l.nid)
                      OR EXISTS (SELECT FROM snapshot child WHERE child.parent_nid = l.nid)
                      OR EXISTS (SELECT FROM current_state c WHERE c.snapshot_nid = l.nid)
                      OR EXISTS (SELECT FROM room r WHERE r.nid = l.room_nid AND r.snapshot_nid = l.nid) AS used
               FROM looked l
           ), changed AS (
               UPDATE snapshot s SET unused_since = CASE WHEN j.used THEN NULL ELSE $3::bigint END
               FROM judged j WHERE s.nid = j.nid AND j.used = j.marked
           )
           SELECT max(nid) AS "nid: SnapshotNid" FROM looked"#,
        after.0,
        limit,
        now,
    )
    .fetch_one(conn)
    .await
}

/// Lists snapshots that were marked before `before_ts`, the first `limit`, and locks them until the transaction ends;
/// those that a writer is about to use are left out.
pub async fn lock_marked(
    conn: &mut PgConnection,
    before_ts: i64,
    limit: i64,
) -> sqlx::Result<Vec<SnapshotNid>> {
    sqlx::query_scalar!(
        r#"SELECT nid AS "nid: SnapshotNid" FROM snapshot WHERE unused_since < $1
           ORDER BY unused_since LIMIT $2 FOR UPDATE SKIP LOCKED"#,
        before_ts,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Deletes those of these snapshots that are not used. They must be locked by an earlier statement of the transaction:
/// then this one sees what every writer wrote that came before the lock, and no other writer comes.
pub async fn delete(conn: &mut PgConnection, locked: &[SnapshotNid]) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "DELETE FROM snapshot s WHERE nid = ANY($1)
           AND NOT EXISTS (SELECT FROM event e WHERE e.snapshot_nid = s.nid)
           AND NOT EXISTS (SELECT FROM snapshot child WHERE child.parent_nid = s.nid)
           AND NOT EXISTS (SELECT FROM current_state c WHERE c.snapshot_nid = s.nid)
           AND NOT EXISTS (SELECT FROM room r WHERE r.nid = s.room_nid AND r.snapshot_nid = s.nid)",
        locked as &[SnapshotNid],
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}

/// Takes the marks off those of these snapshots that are left.
pub async fn update_used(conn: &mut PgConnection, nids: &[SnapshotNid]) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE snapshot SET unused_since = NULL WHERE nid = ANY($1)",
        nids as &[SnapshotNid],
    )
    .execute(conn)
    .await?;
    Ok(())
}
