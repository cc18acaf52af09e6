//! `inbound_transaction`, `inbound_message`: what other servers sent already.

use ruma::{ServerName, TransactionId, UserId};
use sqlx::PgConnection;

/// What a transaction was answered, if it was worked through.
pub async fn find_answer(
    conn: &mut PgConnection,
    origin: &ServerName,
    txn_id: &TransactionId,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "SELECT answer FROM inbound_transaction WHERE origin = $1 AND txn_id = $2",
        origin.as_str(),
        txn_id.as_str(),
    )
    .fetch_optional(conn)
    .await
}

/// Notes what a transaction was answered.
pub async fn insert_answer(
    conn: &mut PgConnection,
    origin: &ServerName,
    txn_id: &TransactionId,
    answer: &str,
    received_ts: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO inbound_transaction (origin, txn_id, answer, received_ts) VALUES ($1, $2, $3, $4)
         ON CONFLICT (origin, txn_id) DO NOTHING",
        origin.as_str(),
        txn_id.as_str(),
        answer,
        received_ts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes the answers to transactions that came before `received_ts`, the oldest `limit` of them. Gives how many.
pub async fn delete_answers_before(
    conn: &mut PgConnection,
    received_ts: i64,
    limit: i64,
) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "DELETE FROM inbound_transaction WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM inbound_transaction WHERE received_ts < $1 ORDER BY received_ts LIMIT $2))",
        received_ts,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}

/// Whether a message is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// It is.
    New,
    /// It came before.
    Repeated,
}

/// Notes that a message to devices came.
pub async fn insert_message(
    conn: &mut PgConnection,
    sender: &UserId,
    message_id: &TransactionId,
    received_ts: i64,
) -> sqlx::Result<Message> {
    let result = sqlx::query!(
        "INSERT INTO inbound_message (sender, message_id, received_ts) VALUES ($1, $2, $3)
         ON CONFLICT (sender, message_id) DO NOTHING",
        sender.as_str(),
        message_id.as_str(),
        received_ts,
    )
    .execute(conn)
    .await?;
    Ok(match result.rows_affected() {
        0 => Message::Repeated,
        _ => Message::New,
    })
}

/// Deletes notes about messages that came before `received_ts`, the oldest `limit` of them. Gives how many.
pub async fn delete_messages_before(
    conn: &mut PgConnection,
    received_ts: i64,
    limit: i64,
) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "DELETE FROM inbound_message WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM inbound_message WHERE received_ts < $1 ORDER BY received_ts LIMIT $2))",
        received_ts,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}
