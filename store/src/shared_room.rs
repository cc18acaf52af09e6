//! `membership`, seen as the rooms that users share.

use hearth_core::{RoomNid, UserNid};
use sqlx::PgConnection;

/// A room in which both users are joined, if there is one.
pub async fn find(
    conn: &mut PgConnection,
    one: UserNid,
    other: UserNid,
) -> sqlx::Result<Option<RoomNid>> {
    sqlx::query_scalar!(
        r#"SELECT a.room_nid AS "room: RoomNid" FROM membership a
           JOIN membership b ON b.room_nid = a.room_nid AND b.user_nid = $2 AND b.membership = 'join'
           WHERE a.user_nid = $1 AND a.membership = 'join' LIMIT 1"#,
        one.0,
        other.0,
    )
    .fetch_optional(conn)
    .await
}

/// Keeps those of `others` that are joined to a room in which `user` is joined.
pub async fn list_sharing(
    conn: &mut PgConnection,
    user: UserNid,
    others: &[UserNid],
) -> sqlx::Result<Vec<UserNid>> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT b.user_nid AS "user: UserNid" FROM membership b
           WHERE b.user_nid = ANY($2) AND b.membership = 'join'
             AND b.room_nid IN (SELECT room_nid FROM membership WHERE user_nid = $1 AND membership = 'join')"#,
        user.0,
        others as &[UserNid],
    )
    .fetch_all(conn)
    .await
}

/// A page of the rooms that two users share.
#[derive(Clone, Debug)]
pub struct Row {
    /// The room's number.
    pub room: RoomNid,
    /// `!…`
    pub room_id: String,
}

/// Lists the rooms after `after` in which both users are joined, by number, the first `limit`.
pub async fn list(
    conn: &mut PgConnection,
    (one, other): (UserNid, UserNid),
    after: RoomNid,
    limit: i64,
) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"SELECT a.room_nid AS room, r.room_id FROM membership a
           JOIN membership b ON b.room_nid = a.room_nid AND b.user_nid = $2 AND b.membership = 'join'
           JOIN room r ON r.nid = a.room_nid
           WHERE a.user_nid = $1 AND a.membership = 'join' AND a.room_nid > $3
           ORDER BY a.room_nid LIMIT $4"#,
        one.0,
        other.0,
        after.0,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// In how many rooms both users are joined.
pub async fn find_count(
    conn: &mut PgConnection,
    one: UserNid,
    other: UserNid,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM membership a
           JOIN membership b ON b.room_nid = a.room_nid AND b.user_nid = $2 AND b.membership = 'join'
           WHERE a.user_nid = $1 AND a.membership = 'join'"#,
        one.0,
        other.0,
    )
    .fetch_one(conn)
    .await
}
