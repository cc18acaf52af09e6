//! `log_tail`: where the log begins.

use hearth_core::Position;
use sqlx::PgConnection;

/// The tail of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Tokens before it are no good any more.
    pub position: Position,
    /// Up to where rows are gone; never beyond `position`.
    pub pruned: Position,
    /// Up to where clients' transactions are forgotten.
    pub sent: Position,
}

/// What [`update_pruned`] and [`update_sent`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Updated {
    /// The rows are the caller's to delete; the tail's row is locked until the transaction ends.
    Yes,
    /// Another process deletes them, or did.
    ByAnother,
}

/// Reads the tail.
pub async fn find(conn: &mut PgConnection) -> sqlx::Result<Tail> {
    sqlx::query_as!(Tail, "SELECT position, pruned, sent FROM log_tail")
        .fetch_one(conn)
        .await
}

/// Begins a round of pruning unless one began after `since`. Gives the tail as it is before the round.
pub async fn update_round(
    conn: &mut PgConnection,
    now: i64,
    since: i64,
) -> sqlx::Result<Option<Tail>> {
    sqlx::query_as!(
        Tail,
        "UPDATE log_tail SET round_ts = $1 WHERE round_ts <= $2 RETURNING position, pruned, sent",
        now,
        since,
    )
    .fetch_optional(conn)
    .await
}

/// Moves the tail to where the head was at `oldest_ts`, but not beyond the last `keep` positions, and never back.
pub async fn update_position(
    conn: &mut PgConnection,
    oldest_ts: i64,
    keep: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE log_tail tail SET position = LEAST(head.position - $2, mark.position)
         FROM log_head head,
              (SELECT position FROM log_mark WHERE created_ts <= $1 ORDER BY created_ts DESC LIMIT 1) mark
         WHERE tail.position < LEAST(head.position - $2, mark.position)",
        oldest_ts,
        keep,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that the rows of `(from, to]` go with this transaction.
pub async fn update_pruned(
    conn: &mut PgConnection,
    from: Position,
    to: Position,
) -> sqlx::Result<Updated> {
    let result = sqlx::query!(
        "UPDATE log_tail SET pruned = $2 WHERE pruned = $1",
        from.0,
        to.0,
    )
    .execute(conn)
    .await?;
    Ok(match result.rows_affected() {
        0 => Updated::ByAnother,
        _ => Updated::Yes,
    })
}

/// Notes that the transactions of `(from, to]` are forgotten with this transaction.
pub async fn update_sent(
    conn: &mut PgConnection,
    from: Position,
    to: Position,
) -> sqlx::Result<Updated> {
    let result = sqlx::query!(
        "UPDATE log_tail SET sent = $2 WHERE sent = $1",
        from.0,
        to.0,
    )
    .execute(conn)
    .await?;
    Ok(match result.rows_affected() {
        0 => Updated::ByAnother,
        _ => Updated::Yes,
    })
}
