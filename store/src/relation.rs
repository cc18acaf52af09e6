//! `relation`: which events refer to which. Journalled.

use hearth_core::{EventNid, RoomNid};
use sqlx::PgConnection;

/// A relation of an event in the timeline.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The room.
    pub room: RoomNid,
    /// What is referred to.
    pub parent: &'a str,
    /// How.
    pub rel_type: &'a str,
    /// What refers.
    pub event: EventNid,
    /// Its place in the timeline.
    pub stream_order: i64,
}

/// Adds relations.
pub async fn insert(conn: &mut PgConnection, rows: &[Row<'_>]) -> sqlx::Result<()> {
    let rooms: Vec<i64> = rows.iter().map(|row| row.room.0).collect();
    let parents: Vec<&str> = rows.iter().map(|row| row.parent).collect();
    let types: Vec<&str> = rows.iter().map(|row| row.rel_type).collect();
    let events: Vec<i64> = rows.iter().map(|row| row.event.0).collect();
    let orders: Vec<i64> = rows.iter().map(|row| row.stream_order).collect();
    sqlx::query!(
        "INSERT INTO relation (room_nid, parent_event_id, rel_type, event_nid, stream_order)
         SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])",
        &rooms,
        &parents as &[&str],
        &types as &[&str],
        &events,
        &orders,
    )
    .execute(conn)
    .await?;
    Ok(())
}
