//! `log` and `log_head`: the order of everything.

use hearth_core::{EventNid, Position, RoomNid, UserNid};
use sqlx::PgConnection;

/// The head of the log.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Grows when positions may have been handed out twice.
    pub epoch: i64,
    /// The last position.
    pub position: Position,
}

/// A row of `log`.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its place.
    pub position: Position,
    /// What it tells of.
    pub kind: i16,
    /// The room, if it has one.
    pub room: Option<RoomNid>,
    /// The user, if it has one.
    pub user: Option<UserNid>,
    /// The event, if it is one.
    pub event: Option<EventNid>,
}

/// What [`advance`] gave.
#[derive(Clone, Debug)]
pub struct Advanced {
    /// The last of the new positions.
    pub position: Position,
    /// The transaction's id, to ask later what became of it.
    pub transaction: String,
}

/// The `PostgreSQL` that a connection leads to: its system identifier and its WAL timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The same for a primary and its standbys.
    pub system_identifier: String,
    /// Another one after each fail-over.
    pub timeline: i32,
}

/// Takes `count` positions of `epoch`: locks the head until the transaction ends. `None`: the epoch is over.
///
/// This is the log's lock. Row locks on other tables come before it, those on journalled tables after it.
pub async fn advance(
    conn: &mut PgConnection,
    epoch: i64,
    count: i64,
) -> sqlx::Result<Option<Advanced>> {
    sqlx::query_as!(
        Advanced,
        r#"UPDATE log_head SET position = position + $2 WHERE epoch = $1
           RETURNING position, pg_current_xact_id()::text AS "transaction!""#,
        epoch,
        count,
    )
    .fetch_optional(conn)
    .await
}

/// Whether the transaction with this id committed; `None` while it runs, or when it is too old to tell.
pub async fn find_outcome(
    conn: &mut PgConnection,
    transaction: &str,
) -> sqlx::Result<Option<bool>> {
    let status = sqlx::query_scalar!("SELECT pg_xact_status(($1::text)::xid8)", transaction)
        .fetch_one(conn)
        .await?;
    Ok(match status.as_deref() {
        Some("committed") => Some(true),
        Some("aborted") => Some(false),
        _ => None,
    })
}

/// Reads the head.
pub async fn find_head(conn: &mut PgConnection) -> sqlx::Result<Option<Head>> {
    sqlx::query_as!(Head, "SELECT epoch, position FROM log_head")
        .fetch_optional(conn)
        .await
}

/// Reads which `PostgreSQL` this is.
pub async fn find_cluster(conn: &mut PgConnection) -> sqlx::Result<Cluster> {
    sqlx::query_as!(
        Cluster,
        r#"SELECT s.system_identifier::text AS "system_identifier!", c.timeline_id AS "timeline!"
           FROM pg_control_system() s, pg_control_checkpoint() c"#,
    )
    .fetch_one(conn)
    .await
}

/// Makes the head's row on a new database; begins a new epoch when the database is another one than before. Gives the head.
pub async fn upsert_head(conn: &mut PgConnection, cluster: &Cluster) -> sqlx::Result<Head> {
    sqlx::query_as!(
        Head,
        r#"INSERT INTO log_head (epoch, position, system_identifier, timeline) VALUES (1, 0, $1, $2)
           ON CONFLICT (one) DO UPDATE SET
               epoch = log_head.epoch
                   + (log_head.system_identifier <> $1 OR log_head.timeline <> $2)::int,
               system_identifier = $1,
               timeline = $2
           RETURNING epoch, position"#,
        cluster.system_identifier,
        cluster.timeline,
    )
    .fetch_one(conn)
    .await
}

/// Adds rows.
pub async fn insert(conn: &mut PgConnection, rows: &[Row]) -> sqlx::Result<()> {
    let positions: Vec<i64> = rows.iter().map(|row| row.position.0).collect();
    let kinds: Vec<i16> = rows.iter().map(|row| row.kind).collect();
    let rooms: Vec<Option<i64>> = rows.iter().map(|row| row.room.map(|nid| nid.0)).collect();
    let users: Vec<Option<i64>> = rows.iter().map(|row| row.user.map(|nid| nid.0)).collect();
    let events: Vec<Option<i64>> = rows.iter().map(|row| row.event.map(|nid| nid.0)).collect();
    sqlx::query!(
        "INSERT INTO log (position, kind, room_nid, user_nid, event_nid)
         SELECT * FROM UNNEST($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[])",
        &positions,
        &kinds,
        &rooms as &[Option<i64>],
        &users as &[Option<i64>],
        &events as &[Option<i64>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the rows of `(from, to]`, the first `limit` of them.
pub async fn list(
    conn: &mut PgConnection,
    from: Position,
    to: Position,
    limit: i64,
) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"SELECT position, kind, room_nid AS "room: RoomNid", user_nid AS "user: UserNid",
                  event_nid AS "event: EventNid"
           FROM log WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3"#,
        from.0,
        to.0,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Deletes the rows of `(from, to]`. Gives the rooms that they told of.
pub async fn delete(
    conn: &mut PgConnection,
    from: Position,
    to: Position,
) -> sqlx::Result<Vec<RoomNid>> {
    sqlx::query_scalar!(
        r#"WITH gone AS (DELETE FROM log WHERE position > $1 AND position <= $2 RETURNING room_nid)
           SELECT DISTINCT room_nid AS "room!: RoomNid" FROM gone WHERE room_nid IS NOT NULL"#,
        from.0,
        to.0,
    )
    .fetch_all(conn)
    .await
}
