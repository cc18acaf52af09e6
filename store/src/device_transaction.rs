//! `device_transaction`: transactions of devices that made no event.

use hearth_core::UserNid;
use sqlx::PgConnection;

/// A row of `device_transaction`.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Who sent.
    pub user: UserNid,
    /// From which device; empty for a token without one.
    pub device_id: &'a str,
    /// What was sent.
    pub action: &'a str,
    /// The client's transaction id.
    pub txn_id: &'a str,
    /// When, in milliseconds since the epoch.
    pub created_ts: i64,
}

/// What [`insert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Inserted {
    /// The transaction is new.
    Yes,
    /// It was made already; nothing changed.
    Repeated,
}

/// Adds a transaction unless it is known.
pub async fn insert(conn: &mut PgConnection, row: Row<'_>) -> sqlx::Result<Inserted> {
    let result = sqlx::query!(
        "INSERT INTO device_transaction (user_nid, device_id, action, txn_id, created_ts)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
        row.user.0,
        row.device_id,
        row.action,
        row.txn_id,
        row.created_ts,
    )
    .execute(conn)
    .await?;

    Ok(match result.rows_affected() {
        0 => Inserted::Repeated,
        _ => Inserted::Yes,
    })
}

/// Deletes transactions from before `oldest_ts`, the oldest `limit` of them. Gives how many.
pub async fn delete_before(
    conn: &mut PgConnection,
    oldest_ts: i64,
    limit: i64,
) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "DELETE FROM device_transaction WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM device_transaction WHERE created_ts < $1 ORDER BY created_ts LIMIT $2))",
        oldest_ts,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}
