//! `account_data`: what users keep on the server. Journalled.

use hearth_core::{Position, RoomNid, UserNid};
use sqlx::PgConnection;

use crate::write::AccountDataRow;

/// Writes account data; one row a user, room and type at the most.
pub async fn upsert(
    conn: &mut PgConnection,
    rows: &[(&AccountDataRow, Position)],
) -> sqlx::Result<()> {
    let users: Vec<i64> = rows.iter().map(|(row, _)| row.user.0).collect();
    let rooms: Vec<i64> = rows.iter().map(|(row, _)| row.room.0).collect();
    let kinds: Vec<&str> = rows.iter().map(|(row, _)| row.kind.as_str()).collect();
    let contents: Vec<&str> = rows.iter().map(|(row, _)| row.content.as_str()).collect();
    let positions: Vec<i64> = rows.iter().map(|(_, position)| position.0).collect();
    sqlx::query!(
        "INSERT INTO account_data (user_nid, room_nid, type, content, position)
         SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[])
         ON CONFLICT (user_nid, room_nid, type) DO UPDATE SET
             content = excluded.content, position = excluded.position",
        &users,
        &rooms,
        &kinds as &[&str],
        &contents as &[&str],
        &positions,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Account data as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The room; zero for the user's own.
    pub room: RoomNid,
    /// The event type.
    pub kind: String,
    /// The content, JSON.
    pub content: String,
    /// When it changed last.
    pub position: Position,
}

/// Finds the content of one type, JSON; room zero for the user's own.
pub async fn find(
    conn: &mut PgConnection,
    user: UserNid,
    room: RoomNid,
    kind: &str,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "SELECT content FROM account_data WHERE user_nid = $1 AND room_nid = $2 AND type = $3",
        user.0,
        room.0,
        kind,
    )
    .fetch_optional(conn)
    .await
}

/// Lists the contents of one type, JSON, that these users keep for themselves.
pub async fn list_of_users(
    conn: &mut PgConnection,
    users: &[UserNid],
    kind: &str,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT content FROM account_data WHERE user_nid = ANY($1) AND room_nid = 0 AND type = $2",
        users as &[UserNid],
        kind,
    )
    .fetch_all(conn)
    .await
}

/// Lists the data of these types that users keep for themselves: user, type and content.
pub async fn list_of_kinds(
    conn: &mut PgConnection,
    users: &[UserNid],
    kinds: &[&str],
) -> sqlx::Result<Vec<(UserNid, String, String)>> {
    let rows = sqlx::query!(
        r#"SELECT user_nid AS "user: UserNid", type AS kind, content FROM account_data
           WHERE user_nid = ANY($1) AND room_nid = 0 AND type = ANY($2)"#,
        users as &[UserNid],
        kinds as &[&str],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.user, row.kind, row.content))
        .collect())
}

/// Lists a user's data of one room: type and content.
pub async fn list_of_room(
    conn: &mut PgConnection,
    user: UserNid,
    room: RoomNid,
) -> sqlx::Result<Vec<(String, String)>> {
    let rows = sqlx::query!(
        "SELECT type AS kind, content FROM account_data WHERE user_nid = $1 AND room_nid = $2 ORDER BY type",
        user.0,
        room.0,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.kind, row.content))
        .collect())
}

/// Lists what changed of a user's data in `(from, to]`, in the order of the log.
pub async fn list(
    conn: &mut PgConnection,
    user: UserNid,
    from: Position,
    to: Position,
) -> sqlx::Result<Vec<Stored>> {
    sqlx::query_as!(
        Stored,
        "SELECT room_nid AS room, type AS kind, content, position FROM account_data
         WHERE user_nid = $1 AND position > $2 AND position <= $3 ORDER BY position",
        user.0,
        from.0,
        to.0,
    )
    .fetch_all(conn)
    .await
}
