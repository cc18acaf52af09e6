//! `current_state`: which snapshot was a room's current state from which position on. Journalled.

use hearth_core::{Position, RoomNid, SnapshotNid};
use sqlx::PgConnection;

/// Adds rows.
pub async fn insert(
    conn: &mut PgConnection,
    rooms: &[RoomNid],
    positions: &[Position],
    snapshots: &[SnapshotNid],
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO current_state (room_nid, position, snapshot_nid)
         SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[])",
        rooms as &[RoomNid],
        positions as &[Position],
        snapshots as &[SnapshotNid],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The snapshot that was the room's current state at `position`.
pub async fn find_at(
    conn: &mut PgConnection,
    room: RoomNid,
    position: Position,
) -> sqlx::Result<Option<SnapshotNid>> {
    sqlx::query_scalar!(
        r#"SELECT snapshot_nid AS "nid: SnapshotNid" FROM current_state
           WHERE room_nid = $1 AND position <= $2 ORDER BY position DESC LIMIT 1"#,
        room.0,
        position.0,
    )
    .fetch_optional(conn)
    .await
}

/// Deletes what was current in `rooms` only before `position`; what was current at it stays.
pub async fn delete_before(
    conn: &mut PgConnection,
    rooms: &[RoomNid],
    position: Position,
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM current_state old
         USING (SELECT room_nid, max(position) AS position FROM current_state
                WHERE room_nid = ANY($1) AND position <= $2 GROUP BY room_nid) last
         WHERE old.room_nid = last.room_nid AND old.position < last.position",
        rooms as &[RoomNid],
        position.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A state that was current at a place.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The room.
    pub room: RoomNid,
    /// The place.
    pub position: Position,
    /// The state.
    pub snapshot: SnapshotNid,
}

/// The states that were current at these places; places before everything that is known are left out.
pub async fn list_at(
    conn: &mut PgConnection,
    rooms: &[RoomNid],
    positions: &[Position],
) -> sqlx::Result<Vec<At>> {
    sqlx::query_as!(
        At,
        r#"SELECT w.room AS "room!: RoomNid", w.position AS "position!: Position",
                  c.snapshot_nid AS "snapshot: SnapshotNid"
           FROM UNNEST($1::bigint[], $2::bigint[]) AS w (room, position)
           CROSS JOIN LATERAL (
               SELECT snapshot_nid FROM current_state
               WHERE room_nid = w.room AND position <= w.position ORDER BY position DESC LIMIT 1
           ) c"#,
        rooms as &[RoomNid],
        positions as &[Position],
    )
    .fetch_all(conn)
    .await
}
