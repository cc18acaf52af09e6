//! `membership`: each user's membership of each room. Journalled.

use hearth_core::{EventNid, Position, RoomNid, UserNid};
use sqlx::PgConnection;

use crate::write::MembershipRow;

/// A row with its place in the log.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// The row.
    pub row: &'a MembershipRow,
    /// When it changed.
    pub position: Position,
    /// Whether it comes by itself, and not with the state of its room.
    pub alone: bool,
}

/// Writes memberships; one row a user and room at the most. What is stored stays when it has overtaken a row that comes by
/// itself ([`MembershipRow::is_overtaken_by`]): nobody else writes to this table meanwhile.
pub async fn upsert(conn: &mut PgConnection, placed: &[Placed<'_>]) -> sqlx::Result<()> {
    let rows = || placed.iter().map(|placed| placed.row);
    let users: Vec<i64> = rows().map(|row| row.user.0).collect();
    let rooms: Vec<i64> = rows().map(|row| row.room.0).collect();
    let memberships: Vec<&str> = rows().map(|row| &*row.membership).collect();
    let events: Vec<Option<i64>> = rows().map(|row| row.event.map(|nid| nid.0)).collect();
    let senders: Vec<i64> = rows().map(|row| row.sender.0).collect();
    let positions: Vec<i64> = placed.iter().map(|placed| placed.position.0).collect();
    let stripped: Vec<Option<&str>> = rows().map(|row| row.stripped.as_deref()).collect();
    let forgotten: Vec<bool> = rows().map(|row| row.forgotten).collect();
    let names: Vec<Option<&str>> = rows().map(|row| row.display_name.as_deref()).collect();
    let avatars: Vec<Option<&str>> = rows().map(|row| row.avatar_url.as_deref()).collect();
    let alone: Vec<bool> = placed.iter().map(|placed| placed.alone).collect();
    sqlx::query!(
        "INSERT INTO membership (user_nid, room_nid, membership, event_nid, sender_nid, position, stripped, forgotten,
                                 display_name, avatar_url)
         SELECT w.user_nid, w.room_nid, w.membership, w.event_nid, w.sender_nid, w.position, w.stripped, w.forgotten,
                w.display_name, w.avatar_url
         FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],
                     $7::text[], $8::boolean[], $9::text[], $10::text[], $11::boolean[])
              AS w (user_nid, room_nid, membership, event_nid, sender_nid, position, stripped, forgotten,
                    display_name, avatar_url, alone)
         LEFT JOIN membership old USING (user_nid, room_nid)
         WHERE NOT w.alone OR old.user_nid IS NULL
            OR CASE WHEN w.forgotten
                    THEN old.event_nid IS NOT DISTINCT FROM w.event_nid AND old.membership = w.membership
                    ELSE w.event_nid IS NOT NULL OR old.membership <> 'join' END
         ON CONFLICT (user_nid, room_nid) DO UPDATE SET
             membership = excluded.membership, event_nid = excluded.event_nid, sender_nid = excluded.sender_nid,
             position = excluded.position, stripped = excluded.stripped, forgotten = excluded.forgotten,
             display_name = excluded.display_name, avatar_url = excluded.avatar_url",
        &users,
        &rooms,
        &memberships as &[&str],
        &events as &[Option<i64>],
        &senders,
        &positions,
        &stripped as &[Option<&str>],
        &forgotten,
        &names as &[Option<&str>],
        &avatars as &[Option<&str>],
        &alone,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A user's membership of a room.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where.
    pub room: RoomNid,
    /// `join`, `invite`, `knock`, `leave` or `ban`.
    pub membership: String,
    /// The member event, if it is stored here.
    pub event: Option<EventNid>,
    /// Who sent it.
    pub sender: UserNid,
    /// When it changed last.
    pub position: Position,
    /// Stripped state for invites and knocks, or the member event that ended one in a room that this server is not in.
    pub stripped: Option<String>,
    /// Whether the user forgot the room.
    pub forgotten: bool,
}

/// Lists a user's memberships, forgotten rooms included.
pub async fn list_of_user(conn: &mut PgConnection, user: UserNid) -> sqlx::Result<Vec<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT room_nid AS room, membership, event_nid AS "event: EventNid", sender_nid AS sender, position,
                  stripped, forgotten
           FROM membership WHERE user_nid = $1"#,
        user.0,
    )
    .fetch_all(conn)
    .await
}

/// Lists the rooms that a user is in, invited to or knocks on.
pub async fn list_to_leave(conn: &mut PgConnection, user: UserNid) -> sqlx::Result<Vec<RoomNid>> {
    let rooms = sqlx::query_scalar!(
        "SELECT room_nid FROM membership
         WHERE user_nid = $1 AND membership IN ('join', 'invite', 'knock')",
        user.0,
    )
    .fetch_all(conn)
    .await?;

    Ok(rooms.into_iter().map(RoomNid).collect())
}

/// A user's membership of one room.
pub async fn find(
    conn: &mut PgConnection,
    user: UserNid,
    room: RoomNid,
) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT room_nid AS room, membership, event_nid AS "event: EventNid", sender_nid AS sender, position,
                  stripped, forgotten
           FROM membership WHERE user_nid = $1 AND room_nid = $2"#,
        user.0,
        room.0,
    )
    .fetch_optional(conn)
    .await
}

/// Lists those of `room_ids` that the user is joined to, if this server is in them.
///
/// What is stored of a room without a member of ours may be out of date.
pub async fn list_joined_of(
    conn: &mut PgConnection,
    user: UserNid,
    room_ids: &[&str],
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT room_id FROM room JOIN membership m ON m.room_nid = room.nid
         WHERE room_id = ANY($2) AND m.user_nid = $1 AND m.membership = 'join'
           AND joined_local > 0",
        user.0,
        room_ids as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// Lists the numbers of the rooms that a user is joined to.
pub async fn list_joined_nids(
    conn: &mut PgConnection,
    user: UserNid,
) -> sqlx::Result<Vec<RoomNid>> {
    sqlx::query_scalar!(
        r#"SELECT room_nid AS "room: RoomNid" FROM membership WHERE user_nid = $1 AND membership = 'join'"#,
        user.0,
    )
    .fetch_all(conn)
    .await
}

/// Lists the ids of the rooms that a user is joined to.
pub async fn list_joined(conn: &mut PgConnection, user: UserNid) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT room_id FROM membership m JOIN room r ON r.nid = m.room_nid
         WHERE user_nid = $1 AND membership = 'join'",
        user.0,
    )
    .fetch_all(conn)
    .await
}

/// Lists a user's memberships of these rooms.
pub async fn list_of_user_in(
    conn: &mut PgConnection,
    user: UserNid,
    rooms: &[RoomNid],
) -> sqlx::Result<Vec<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT room_nid AS room, membership, event_nid AS "event: EventNid", sender_nid AS sender, position,
                  stripped, forgotten
           FROM membership WHERE user_nid = $1 AND room_nid = ANY($2)"#,
        user.0,
        rooms as &[RoomNid],
    )
    .fetch_all(conn)
    .await
}
