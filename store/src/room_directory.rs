//! `room`, as the directory looks at it: published rooms that this server is in, by the number of their members.

use hearth_core::{RoomNid, SnapshotNid, UserNid};
use sqlx::PgConnection;

/// A room as the directory lists it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its number.
    pub nid: RoomNid,
    /// `!…`
    pub room_id: String,
    /// The room version.
    pub version: String,
    /// The current state.
    pub snapshot: SnapshotNid,
    /// How many users are joined.
    pub joined: i64,
}

/// A place in the directory, which lists large rooms first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How many users are joined.
    pub joined: i64,
    /// The room.
    pub nid: RoomNid,
}

impl Place {
    /// Before all rooms.
    pub const START: Self = Self {
        joined: i64::MAX,
        nid: RoomNid(0),
    };
}

/// Lists up to `limit` published rooms that stand after a place, in the order of the directory.
pub async fn list_after(
    conn: &mut PgConnection,
    place: Place,
    limit: i64,
) -> sqlx::Result<Vec<Listed>> {
    sqlx::query_as!(
        Listed,
        r#"SELECT nid, room_id, version, snapshot_nid AS "snapshot!: SnapshotNid", joined FROM room
           WHERE published AND joined_local > 0 AND snapshot_nid IS NOT NULL
             AND (joined, -nid) < ($1::bigint, -$2::bigint)
           ORDER BY joined DESC, -nid DESC LIMIT $3"#,
        place.joined,
        place.nid.0,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Lists up to `limit` published rooms that stand before a place, the nearest first.
pub async fn list_before(
    conn: &mut PgConnection,
    place: Place,
    limit: i64,
) -> sqlx::Result<Vec<Listed>> {
    sqlx::query_as!(
        Listed,
        r#"SELECT nid, room_id, version, snapshot_nid AS "snapshot!: SnapshotNid", joined FROM room
           WHERE published AND joined_local > 0 AND snapshot_nid IS NOT NULL
             AND (joined, -nid) > ($1::bigint, -$2::bigint)
           ORDER BY joined, -nid LIMIT $3"#,
        place.joined,
        place.nid.0,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Lists those of `room_ids` that are published.
pub async fn list_published_of(
    conn: &mut PgConnection,
    room_ids: &[&str],
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT room_id FROM room WHERE room_id = ANY($1) AND published",
        room_ids as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// Counts the rooms of the directory.
pub async fn count(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM room
           WHERE published AND joined_local > 0 AND snapshot_nid IS NOT NULL"#,
    )
    .fetch_one(conn)
    .await
}

/// A room as somebody in particular finds it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its number.
    pub nid: RoomNid,
    /// `!…`
    pub room_id: String,
    /// The room version.
    pub version: String,
    /// The current state.
    pub snapshot: SnapshotNid,
    /// How many users are joined.
    pub joined: i64,
    /// Whether one of them is ours; without, what is stored may be out of date.
    pub resident: bool,
    /// The membership of the one who asks.
    pub membership: Option<String>,
}

/// Lists those of `room_ids` whose state is stored, as `user` finds them.
pub async fn list_found(
    conn: &mut PgConnection,
    room_ids: &[&str],
    user: Option<UserNid>,
) -> sqlx::Result<Vec<Found>> {
    sqlx::query_as!(
        Found,
        r#"SELECT nid, room_id, version, snapshot_nid AS "snapshot!: SnapshotNid",
                  joined, joined_local > 0 AS "resident!",
                  (SELECT m.membership FROM membership m
                   WHERE m.room_nid = room.nid AND m.user_nid = $2) AS membership
           FROM room WHERE room_id = ANY($1) AND snapshot_nid IS NOT NULL"#,
        room_ids as &[&str],
        user.map(|user| user.0),
    )
    .fetch_all(conn)
    .await
}
