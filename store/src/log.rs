//! `log` and `log_head`: the order of everything.

use hearth_core::{EventNid, Position, RoomNid, SnapshotNid, UserNid};
use sqlx::PgConnection;

use crate::room;

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

/// The head with the `PostgreSQL` that its epoch belongs to.
#[derive(Clone, Debug)]
pub struct Located {
    /// The head.
    pub head: Head,
    /// Where its epoch began.
    pub cluster: Cluster,
}

/// Begins a transaction of the log, with the limits of [`limit`], in one round trip.
pub const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '15s'; SET LOCAL statement_timeout = '20s'; \
                         SET LOCAL idle_in_transaction_session_timeout = '5s'";

/// Limits the rest of the transaction, so that a process that freezes in it does not stop the others: it is idle for
/// less time than they wait.
pub async fn limit(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query_scalar!(
        "SELECT concat(set_config('lock_timeout', '15s', true), set_config('statement_timeout', '20s', true),
                       set_config('idle_in_transaction_session_timeout', '5s', true))",
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// Takes `count` positions of `epoch`: locks the head until the transaction ends. `None`: the epoch is over, or this is
/// not the `PostgreSQL` that it belongs to.
///
/// This is the log's lock. Row locks on other tables come before it, those on journalled tables after it. It is the
/// lock of the head's row and not an advisory one: an `UPDATE` that waited for it sees the row as its holder left it,
/// so locking, reading and moving the head are one round trip. A holder's rows are visible before its lock is free.
pub async fn advance(
    conn: &mut PgConnection,
    epoch: i64,
    count: i64,
) -> sqlx::Result<Option<Advanced>> {
    sqlx::query_as!(
        Advanced,
        r#"UPDATE log_head SET position = position + $2
           WHERE epoch = $1
             AND timeline = ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int
             AND system_identifier = (SELECT s.system_identifier::text FROM pg_control_system() s)
           RETURNING position, pg_current_xact_id()::text AS "transaction!""#,
        epoch,
        count,
    )
    .fetch_optional(conn)
    .await
}

/// Locks the rows of rooms as [`room::lock_all`] does, and then takes `count` positions as [`advance`] does, in one round
/// trip. `None`: the epoch is over, this is not the `PostgreSQL` that it belongs to, or there is none of the rooms.
pub async fn lock_and_advance(
    conn: &mut PgConnection,
    epoch: i64,
    count: i64,
    rooms: &[RoomNid],
) -> sqlx::Result<Option<(Advanced, Vec<room::Changing>)>> {
    // That the head's row asks for the number of rooms has these locked first.
    let rows = sqlx::query!(
        r#"WITH locked AS (
               SELECT nid, revision, snapshot_nid, extremities FROM room WHERE nid = ANY($3) ORDER BY nid FOR UPDATE
           ), advanced AS (
               UPDATE log_head SET position = position + $2
               WHERE epoch = $1
                 AND timeline = ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int
                 AND system_identifier = (SELECT s.system_identifier::text FROM pg_control_system() s)
                 AND (SELECT count(*) FROM locked) > 0
               RETURNING position, pg_current_xact_id()::text AS transaction
           )
           SELECT a.position AS "position: Position", a.transaction AS "transaction!", l.nid AS "nid: RoomNid",
                  l.revision, l.snapshot_nid AS "snapshot: SnapshotNid", l.extremities AS "extremities: Vec<EventNid>"
           FROM advanced a, locked l"#,
        epoch,
        count,
        rooms as &[RoomNid],
    )
    .fetch_all(conn)
    .await?;
    let advanced = rows.first().map(|row| Advanced {
        position: row.position,
        transaction: row.transaction.clone(),
    });
    let rooms = rows.into_iter().map(|row| room::Changing {
        nid: row.nid,
        revision: row.revision,
        snapshot: row.snapshot,
        extremities: row.extremities,
    });
    Ok(advanced.map(|advanced| (advanced, rooms.collect())))
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
pub async fn find_head(conn: &mut PgConnection) -> sqlx::Result<Option<Located>> {
    let row = sqlx::query!(
        r#"SELECT epoch, position AS "position: Position", system_identifier, timeline FROM log_head"#,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Located {
        head: Head {
            epoch: row.epoch,
            position: row.position,
        },
        cluster: Cluster {
            system_identifier: row.system_identifier,
            timeline: row.timeline,
        },
    }))
}

/// Reads which `PostgreSQL` this is; fails on a standby.
pub async fn find_cluster(conn: &mut PgConnection) -> sqlx::Result<Cluster> {
    sqlx::query_as!(
        Cluster,
        r#"SELECT s.system_identifier::text AS "system_identifier!",
                  ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int AS "timeline!"
           FROM pg_control_system() s"#,
    )
    .fetch_one(conn)
    .await
}

/// Reads a name for the log that no other database has, on its server or elsewhere.
pub async fn find_name(conn: &mut PgConnection) -> sqlx::Result<String> {
    sqlx::query_scalar!(
        r#"SELECT s.system_identifier::text || ':' || d.oid::text AS "name!"
           FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()"#,
    )
    .fetch_one(conn)
    .await
}

/// Reads the head and locks it until the transaction ends.
pub async fn lock_head(conn: &mut PgConnection) -> sqlx::Result<Option<Located>> {
    let row = sqlx::query!(
        r#"SELECT epoch, position AS "position: Position", system_identifier, timeline
           FROM log_head FOR UPDATE"#,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Located {
        head: Head {
            epoch: row.epoch,
            position: row.position,
        },
        cluster: Cluster {
            system_identifier: row.system_identifier,
            timeline: row.timeline,
        },
    }))
}

/// Makes the head's row, unless it is there.
pub async fn insert_head(conn: &mut PgConnection, cluster: &Cluster) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO log_head (epoch, position, system_identifier, timeline) VALUES (1, 0, $1, $2)
         ON CONFLICT (one) DO NOTHING",
        cluster.system_identifier,
        cluster.timeline,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Puts another epoch in place of the one that is over.
pub async fn update_epoch(
    conn: &mut PgConnection,
    head: Head,
    cluster: &Cluster,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE log_head SET epoch = $1, position = $2, system_identifier = $3, timeline = $4",
        head.epoch,
        head.position.0,
        cluster.system_identifier,
        cluster.timeline,
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

/// What deleted rows told of.
#[derive(Clone, Copy, Debug)]
pub struct Gone {
    /// What they told.
    pub kind: i16,
    /// The room, if they have one.
    pub room: Option<RoomNid>,
    /// The user, if they have one.
    pub user: Option<UserNid>,
}

/// Deletes the rows of `(from, to]`. Gives what they told of, each once.
pub async fn delete(
    conn: &mut PgConnection,
    from: Position,
    to: Position,
) -> sqlx::Result<Vec<Gone>> {
    sqlx::query_as!(
        Gone,
        r#"WITH gone AS (DELETE FROM log WHERE position > $1 AND position <= $2 RETURNING kind, room_nid, user_nid)
           SELECT DISTINCT kind AS "kind!", room_nid AS "room: RoomNid", user_nid AS "user: UserNid" FROM gone"#,
        from.0,
        to.0,
    )
    .fetch_all(conn)
    .await
}
