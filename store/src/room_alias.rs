//! `room_alias`: the aliases that this server answers for.

use hearth_core::{RoomNid, UserNid};
use ruma::RoomAliasId;
use sqlx::PgConnection;

/// What [`insert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Inserted {
    /// The row is new.
    Yes,
    /// The alias already pointed somewhere; nothing changed.
    AlreadyBound,
}

/// Points `alias` at `room` unless it points somewhere already.
pub async fn insert(
    conn: &mut PgConnection,
    alias: &RoomAliasId,
    room: RoomNid,
    creator: UserNid,
    created_ts: i64,
) -> sqlx::Result<Inserted> {
    let result = sqlx::query!(
        "INSERT INTO room_alias (alias, room_nid, creator_nid, created_ts) VALUES ($1, $2, $3, $4)
         ON CONFLICT (alias) DO NOTHING",
        alias.as_str(),
        room.0,
        creator.0,
        created_ts,
    )
    .execute(conn)
    .await?;
    Ok(match result.rows_affected() {
        0 => Inserted::AlreadyBound,
        _ => Inserted::Yes,
    })
}

/// A row of `room_alias`.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// What the alias points at.
    pub room: RoomNid,
    /// Who made it.
    pub creator: UserNid,
}

/// Finds what `alias` points at.
pub async fn find(conn: &mut PgConnection, alias: &RoomAliasId) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        "SELECT room_nid AS room, creator_nid AS creator FROM room_alias WHERE alias = $1",
        alias.as_str(),
    )
    .fetch_optional(conn)
    .await
}

/// Lists what those of `aliases` that are bound point at.
pub async fn list(
    conn: &mut PgConnection,
    aliases: &[&str],
) -> sqlx::Result<Vec<(String, RoomNid)>> {
    let rows = sqlx::query!(
        r#"SELECT alias, room_nid AS "room: RoomNid" FROM room_alias WHERE alias = ANY($1)"#,
        aliases as &[&str],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.alias, row.room)).collect())
}

/// Lists up to `limit` aliases of a room, in alphabetical order.
pub async fn list_of_room(
    conn: &mut PgConnection,
    room: RoomNid,
    limit: i64,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT alias FROM room_alias WHERE room_nid = $1 ORDER BY alias LIMIT $2",
        room.0,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// What [`delete`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Deleted {
    /// The alias is gone.
    Yes,
    /// It did not point at the room.
    NotThere,
}

/// Removes `alias` if it points at `room`.
pub async fn delete(
    conn: &mut PgConnection,
    alias: &RoomAliasId,
    room: RoomNid,
) -> sqlx::Result<Deleted> {
    let result = sqlx::query!(
        "DELETE FROM room_alias WHERE alias = $1 AND room_nid = $2",
        alias.as_str(),
        room.0,
    )
    .execute(conn)
    .await?;
    Ok(match result.rows_affected() {
        0 => Deleted::NotThere,
        _ => Deleted::Yes,
    })
}

/// Makes all aliases of one room point at another.
pub async fn update_room(conn: &mut PgConnection, from: RoomNid, to: RoomNid) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE room_alias SET room_nid = $2 WHERE room_nid = $1",
        from.0,
        to.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}
