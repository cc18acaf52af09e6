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

/// Lists servers of users with whom a user shares a room, the first `limit`.
pub async fn list_servers(
    conn: &mut PgConnection,
    user: UserNid,
    limit: i64,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT substr(u.user_id, strpos(u.user_id, ':') + 1) AS "server!"
           FROM membership m JOIN user_id u ON u.nid = m.user_nid
           WHERE m.membership = 'join'
             AND m.room_nid IN (SELECT room_nid FROM membership WHERE user_nid = $1 AND membership = 'join')
           LIMIT $2"#,
        user.0,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Keeps those of `users` that are joined to any room.
pub async fn list_joined(conn: &mut PgConnection, users: &[UserNid]) -> sqlx::Result<Vec<UserNid>> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT user_nid AS "user: UserNid" FROM membership
           WHERE user_nid = ANY($1) AND membership = 'join'"#,
        users as &[UserNid],
    )
    .fetch_all(conn)
    .await
}

/// Keeps those pairs of a room and a user of which the user is joined to the room.
pub async fn list_joined_pairs(
    conn: &mut PgConnection,
    rooms: &[RoomNid],
    users: &[UserNid],
) -> sqlx::Result<Vec<(RoomNid, UserNid)>> {
    let rows = sqlx::query!(
        r#"SELECT m.room_nid AS "room: RoomNid", m.user_nid AS "user: UserNid"
           FROM UNNEST($1::bigint[], $2::bigint[]) AS w (room, member)
           JOIN membership m ON m.room_nid = w.room AND m.user_nid = w.member AND m.membership = 'join'"#,
        rooms as &[RoomNid],
        users as &[UserNid],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.room, row.user)).collect())
}
