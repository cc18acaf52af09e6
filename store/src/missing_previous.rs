//! `missing_previous`: where a room's history has gaps. Journalled.

use hearth_core::RoomNid;
use sqlx::PgConnection;

use crate::write::Gap;

/// Adds gaps.
pub async fn insert(conn: &mut PgConnection, rows: &[(RoomNid, &Gap)]) -> sqlx::Result<()> {
    let rooms: Vec<i64> = rows.iter().map(|(room, _)| room.0).collect();
    let ids: Vec<&str> = rows.iter().map(|(_, gap)| &*gap.previous).collect();
    let children: Vec<i64> = rows.iter().map(|(_, gap)| gap.event.0).collect();
    sqlx::query!(
        "INSERT INTO missing_previous (event_id, child_nid, room_nid)
         SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::bigint[])
         ON CONFLICT DO NOTHING",
        &ids as &[&str],
        &children,
        &rooms,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists up to `limit` events that are missing before accepted events of the timeline with these depths, those before the
/// deepest first.
pub async fn list(
    conn: &mut PgConnection,
    room: RoomNid,
    (low, high): (i64, i64),
    limit: i64,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT m.event_id FROM missing_previous m JOIN event e ON e.nid = m.child_nid
         WHERE m.room_nid = $1 AND e.stream_order IS NOT NULL AND e.depth BETWEEN $2 AND $3
         ORDER BY e.depth DESC LIMIT $4",
        room.0,
        low,
        high,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Deletes the gaps that these events fill.
pub async fn delete(conn: &mut PgConnection, event_ids: &[&str]) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM missing_previous WHERE event_id = ANY($1)",
        event_ids as &[&str],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists those of `event_ids` after which an accepted event comes.
pub async fn list_with_child(
    conn: &mut PgConnection,
    room: RoomNid,
    event_ids: &[&str],
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT DISTINCT m.event_id FROM missing_previous m JOIN event e ON e.nid = m.child_nid
         WHERE m.event_id = ANY($1) AND m.room_nid = $2 AND e.status = 0",
        event_ids as &[&str],
        room.0,
    )
    .fetch_all(conn)
    .await
}

/// What is known to come after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// Nothing.
    None,
    /// At least one accepted event.
    Known,
}
