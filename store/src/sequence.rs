//! The sequences of event and snapshot numbers, taken a block at a time.

use sqlx::PgConnection;

/// How many event numbers a block has: the increment of `event_nid`.
pub const EVENTS: i64 = 1_000;

/// How many snapshot numbers a block has: the increment of `snapshot_nid`.
pub const SNAPSHOTS: i64 = 100;

/// The first event number of a new block.
pub async fn next_events(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"SELECT nextval('event_nid') AS "first!""#)
        .fetch_one(conn)
        .await
}

/// The first snapshot number of a new block.
pub async fn next_snapshots(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"SELECT nextval('snapshot_nid') AS "first!""#)
        .fetch_one(conn)
        .await
}

/// Moves all sequences of numbers that are kept in memory ahead by `distance`.
pub async fn skip(conn: &mut PgConnection, distance: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT setval(name::regclass, nextval(name::regclass) + $1)
         FROM UNNEST(ARRAY['event_nid', 'snapshot_nid', pg_get_serial_sequence('user_id', 'nid'),
                           pg_get_serial_sequence('state_key', 'nid'), pg_get_serial_sequence('room', 'nid')]) AS name",
        distance,
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}
