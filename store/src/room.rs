//! `room`: one row a room that we know.

use hearth_core::{EventNid, RoomNid, SnapshotNid};
use sqlx::PgConnection;

/// A room's row.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its number.
    pub nid: RoomNid,
    /// `!…`
    pub room_id: String,
    /// The room version.
    pub version: String,
    /// Grows with every change of the current state.
    pub revision: i64,
    /// The current state; `None` until the room is joined.
    pub snapshot: Option<SnapshotNid>,
    /// Events without a successor.
    pub extremities: Vec<EventNid>,
    /// In the room directory.
    pub published: bool,
}

/// Finds the room with this id.
pub async fn find_by_id(conn: &mut PgConnection, room_id: &str) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT nid, room_id, version, revision, snapshot_nid AS "snapshot: SnapshotNid",
                  extremities AS "extremities: Vec<EventNid>", published
           FROM room WHERE room_id = $1"#,
        room_id,
    )
    .fetch_optional(conn)
    .await
}

/// Finds the room with this number.
pub async fn find(conn: &mut PgConnection, nid: RoomNid) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT nid, room_id, version, revision, snapshot_nid AS "snapshot: SnapshotNid",
                  extremities AS "extremities: Vec<EventNid>", published
           FROM room WHERE nid = $1"#,
        nid.0,
    )
    .fetch_optional(conn)
    .await
}

/// Finds the room with this number and locks its row until the transaction ends.
pub async fn lock(conn: &mut PgConnection, nid: RoomNid) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT nid, room_id, version, revision, snapshot_nid AS "snapshot: SnapshotNid",
                  extremities AS "extremities: Vec<EventNid>", published
           FROM room WHERE nid = $1 FOR UPDATE"#,
        nid.0,
    )
    .fetch_optional(conn)
    .await
}

/// Makes the room's row, or finds it when it is there already.
pub async fn insert(
    conn: &mut PgConnection,
    room_id: &str,
    version: &str,
) -> sqlx::Result<RoomNid> {
    sqlx::query_scalar!(
        r#"INSERT INTO room (room_id, version) VALUES ($1, $2)
           ON CONFLICT (room_id) DO UPDATE SET version = room.version
           RETURNING nid AS "nid: RoomNid""#,
        room_id,
        version,
    )
    .fetch_one(conn)
    .await
}
