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

/// Finds the revision and the number of a room's current state; `None` while there is none.
pub async fn find_state(
    conn: &mut PgConnection,
    nid: RoomNid,
) -> sqlx::Result<Option<(i64, SnapshotNid)>> {
    let row = sqlx::query!(
        r#"SELECT revision, snapshot_nid AS "snapshot!: SnapshotNid" FROM room
           WHERE nid = $1 AND snapshot_nid IS NOT NULL"#,
        nid.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.revision, row.snapshot)))
}

/// Lists the revisions and the numbers of the current states of rooms; those without one are left out.
pub async fn list_states(
    conn: &mut PgConnection,
    nids: &[RoomNid],
) -> sqlx::Result<Vec<(RoomNid, i64, SnapshotNid)>> {
    let rows = sqlx::query!(
        r#"SELECT nid AS "nid: RoomNid", revision, snapshot_nid AS "snapshot!: SnapshotNid" FROM room
           WHERE nid = ANY($1) AND snapshot_nid IS NOT NULL"#,
        nids as &[RoomNid],
    )
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|row| (row.nid, row.revision, row.snapshot))
        .collect())
}

/// Lists the rooms with these numbers.
pub async fn list(conn: &mut PgConnection, nids: &[RoomNid]) -> sqlx::Result<Vec<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT nid, room_id, version, revision, snapshot_nid AS "snapshot: SnapshotNid",
                  extremities AS "extremities: Vec<EventNid>", published
           FROM room WHERE nid = ANY($1)"#,
        nids as &[RoomNid],
    )
    .fetch_all(conn)
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

/// Makes the room's row; `None` when there is one already.
pub async fn insert(
    conn: &mut PgConnection,
    room_id: &str,
    version: &str,
) -> sqlx::Result<Option<RoomNid>> {
    sqlx::query_scalar!(
        r#"INSERT INTO room (room_id, version) VALUES ($1, $2)
           ON CONFLICT (room_id) DO NOTHING
           RETURNING nid AS "nid: RoomNid""#,
        room_id,
        version,
    )
    .fetch_optional(conn)
    .await
}

/// Puts the version right of a room of which nothing is known yet but what an invite told; says whether it is one.
pub async fn update_version(
    conn: &mut PgConnection,
    nid: RoomNid,
    version: &str,
) -> sqlx::Result<bool> {
    let updated = sqlx::query!(
        "UPDATE room SET version = $2 WHERE nid = $1 AND snapshot_nid IS NULL",
        nid.0,
        version,
    )
    .execute(conn)
    .await?;
    Ok(updated.rows_affected() > 0)
}

/// What a batch has to know of a room before it decides, and writes back after.
#[derive(Clone, Debug)]
pub struct Changing {
    /// The room.
    pub nid: RoomNid,
    /// Grows with every change of the current state.
    pub revision: i64,
    /// The current state.
    pub snapshot: Option<SnapshotNid>,
    /// Events without a successor.
    pub extremities: Vec<EventNid>,
}

/// Locks the rows of rooms, in the order of their numbers, until the transaction ends.
pub async fn lock_all(conn: &mut PgConnection, nids: &[RoomNid]) -> sqlx::Result<Vec<Changing>> {
    sqlx::query_as!(
        Changing,
        r#"SELECT nid, revision, snapshot_nid AS "snapshot: SnapshotNid",
                  extremities AS "extremities: Vec<EventNid>"
           FROM room WHERE nid = ANY($1) ORDER BY nid FOR UPDATE"#,
        nids as &[RoomNid],
    )
    .fetch_all(conn)
    .await
}

/// Puts the room into the directory, or takes it out.
pub async fn update_published(
    conn: &mut PgConnection,
    nid: RoomNid,
    published: bool,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE room SET published = $2 WHERE nid = $1",
        nid.0,
        published
    )
    .execute(conn)
    .await?;
    Ok(())
}
