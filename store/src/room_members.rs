//! `membership`, seen as the members of rooms.

use hearth_core::{EventNid, Position, RoomNid, UserNid};
use sqlx::PgConnection;

use crate::membership::Stored;

/// Lists those of `room_ids` that a user of ours is joined to.
pub async fn list_resident_of(
    conn: &mut PgConnection,
    room_ids: &[&str],
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT room_id FROM room
         WHERE room_id = ANY($1) AND joined_local > 0",
        room_ids as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// Lists those of `room_ids` that a user of `server` is joined to, if this server is in them.
pub async fn list_joined_of_server(
    conn: &mut PgConnection,
    server: &str,
    room_ids: &[&str],
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT room_id FROM room
         WHERE room_id = ANY($2)
           AND EXISTS (SELECT FROM membership m JOIN user_id ON user_id.nid = m.user_nid
                       WHERE m.room_nid = room.nid AND m.membership = 'join'
                         AND substr(user_id, strpos(user_id, ':') + 1) = $1)
           AND joined_local > 0",
        server,
        room_ids as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// Lists the memberships of these users of a room; users without one are left out.
pub async fn list_in_room(
    conn: &mut PgConnection,
    room: RoomNid,
    users: &[UserNid],
) -> sqlx::Result<Vec<(UserNid, String)>> {
    let rows = sqlx::query!(
        r#"SELECT user_nid AS "user: UserNid", membership FROM membership WHERE room_nid = $1 AND user_nid = ANY($2)"#,
        room.0,
        users as &[UserNid],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.user, row.membership))
        .collect())
}

/// Lists up to `limit` of our users that are joined to the room, the longest-serving first.
pub async fn list_local_joined(
    conn: &mut PgConnection,
    room: RoomNid,
    limit: i64,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT user_id FROM membership m JOIN account ON account.user_nid = m.user_nid
                                          JOIN user_id ON user_id.nid = m.user_nid
         WHERE m.room_nid = $1 AND m.membership = 'join'
         ORDER BY m.position LIMIT $2",
        room.0,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Lists up to `limit` servers with a user joined to the room, those with the most users first.
pub async fn list_servers(
    conn: &mut PgConnection,
    room: RoomNid,
    limit: i64,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"SELECT substr(user_id, strpos(user_id, ':') + 1) AS "server!"
           FROM membership m JOIN user_id ON user_id.nid = m.user_nid
           WHERE m.room_nid = $1 AND m.membership = 'join'
           GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT $2"#,
        room.0,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// How many users are joined to a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// All of them.
    pub all: i64,
    /// Those with accounts here; without any, what is stored of the room may be out of date.
    pub ours: i64,
}

/// How many users are joined to the room.
pub async fn find_joined(conn: &mut PgConnection, room: RoomNid) -> sqlx::Result<Joined> {
    let found = sqlx::query_as!(
        Joined,
        r#"SELECT joined AS "all", joined_local AS ours FROM room WHERE nid = $1"#,
        room.0,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.unwrap_or_default())
}

/// How many users are joined to each of these rooms.
pub async fn list_joined_counts(
    conn: &mut PgConnection,
    rooms: &[RoomNid],
) -> sqlx::Result<Vec<(RoomNid, i64)>> {
    let rows = sqlx::query!(
        r#"SELECT nid AS "room: RoomNid", joined FROM room WHERE nid = ANY($1)"#,
        rooms as &[RoomNid],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.room, row.joined)).collect())
}

/// Lists guests of this server with the rooms that they are joined to, of one room or of all, in order, after a pair.
pub async fn list_guests(
    conn: &mut PgConnection,
    room: Option<RoomNid>,
    after: (RoomNid, UserNid),
    limit: i64,
) -> sqlx::Result<Vec<(RoomNid, UserNid)>> {
    let rows = sqlx::query!(
        r#"SELECT m.room_nid AS "room: RoomNid", m.user_nid AS "user: UserNid"
           FROM account a JOIN membership m ON m.user_nid = a.user_nid
           WHERE a.guest AND m.membership = 'join' AND ($1::bigint IS NULL OR m.room_nid = $1)
             AND (m.room_nid, m.user_nid) > ($2, $3)
           ORDER BY m.room_nid, m.user_nid LIMIT $4"#,
        room.map(|room| room.0),
        after.0.0,
        after.1.0,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.room, row.user)).collect())
}

/// Lists the memberships of a room that changed at `position` or later.
pub async fn list_changed(
    conn: &mut PgConnection,
    room: RoomNid,
    position: Position,
) -> sqlx::Result<Vec<(UserNid, Stored)>> {
    let rows = sqlx::query!(
        r#"SELECT user_nid AS "user: UserNid", membership, event_nid AS "event: EventNid",
                  sender_nid AS "sender: UserNid", position AS "position: Position", stripped, forgotten
           FROM membership WHERE room_nid = $1 AND position >= $2"#,
        room.0,
        position.0,
    )
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter().map(|row| {
        let stored = Stored {
            room,
            membership: row.membership,
            event: row.event,
            sender: row.sender,
            position: row.position,
            stripped: row.stripped,
            forgotten: row.forgotten,
        };
        (row.user, stored)
    });
    Ok(rows.collect())
}

/// How many users are in a room.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// The room.
    pub room: RoomNid,
    /// Joined.
    pub joined: i64,
    /// Invited.
    pub invited: i64,
}

/// Counts the members of rooms; a room without any is left out.
pub async fn list_counts(conn: &mut PgConnection, rooms: &[RoomNid]) -> sqlx::Result<Vec<Counts>> {
    sqlx::query_as!(
        Counts,
        r#"SELECT nid AS "room: RoomNid", joined,
                  (SELECT count(*) FROM membership m
                   WHERE m.room_nid = room.nid AND m.membership = 'invite') AS "invited!"
           FROM room WHERE nid = ANY($1)"#,
        rooms as &[RoomNid],
    )
    .fetch_all(conn)
    .await
}

/// A user who stands for a room.
#[derive(Clone, Copy, Debug)]
pub struct Hero {
    /// The room.
    pub room: RoomNid,
    /// The user.
    pub user: UserNid,
    /// Whether the user is joined or invited, not gone.
    pub here: bool,
}

/// Lists the first `limit` members of each room, without `user`; those who are gone come last.
pub async fn list_heroes(
    conn: &mut PgConnection,
    rooms: &[RoomNid],
    user: UserNid,
    limit: i64,
) -> sqlx::Result<Vec<Hero>> {
    sqlx::query_as!(
        Hero,
        r#"SELECT w.room AS "room!: RoomNid", m.user_nid AS "user: UserNid", m.here AS "here!"
           FROM UNNEST($1::bigint[]) AS w (room)
           CROSS JOIN LATERAL (
               SELECT user_nid, membership IN ('join', 'invite') AS here, position FROM membership
               WHERE room_nid = w.room AND user_nid <> $2 AND membership IN ('join', 'invite', 'leave', 'ban')
               ORDER BY here DESC, position LIMIT $3
           ) m
           ORDER BY w.room, m.here DESC, m.position"#,
        rooms as &[RoomNid],
        user.0,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Lists the users that are joined to these rooms.
pub async fn list_members(
    conn: &mut PgConnection,
    rooms: &[RoomNid],
) -> sqlx::Result<Vec<UserNid>> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT user_nid AS "user: UserNid" FROM membership
           WHERE room_nid = ANY($1) AND membership = 'join'"#,
        rooms as &[RoomNid],
    )
    .fetch_all(conn)
    .await
}
