//! `openid_token`: tokens with which users prove to third parties who they are.

use hearth_core::UserNid;
use ruma::{OwnedUserId, UserId};
use sqlx::PgConnection;

/// Adds a token that works until `expires_ts`.
pub async fn insert(
    conn: &mut PgConnection,
    hash: &[u8],
    user: UserNid,
    expires_ts: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO openid_token (hash, user_nid, expires_ts) VALUES ($1, $2, $3)",
        hash,
        user.0,
        expires_ts,
    )
    .execute(conn)
    .await?;

    Ok(())
}

/// Deletes tokens that expired before `now`, the oldest `limit` of them. Gives how many.
pub async fn delete_expired(conn: &mut PgConnection, now: i64, limit: i64) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "DELETE FROM openid_token WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM openid_token WHERE expires_ts < $1 ORDER BY expires_ts LIMIT $2))",
        now,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}

/// Returns whose token it is, unless it expired before `now` or the account is closed.
pub async fn find(
    conn: &mut PgConnection,
    hash: &[u8],
    now: i64,
) -> sqlx::Result<Option<OwnedUserId>> {
    let user_id = sqlx::query_scalar!(
        "SELECT u.user_id FROM openid_token AS t
         JOIN account AS a ON a.user_nid = t.user_nid
         JOIN user_id AS u ON u.nid = t.user_nid
         WHERE t.hash = $1 AND t.expires_ts > $2 AND NOT a.deactivated",
        hash,
        now,
    )
    .fetch_optional(conn)
    .await?;

    user_id
        .map(|id| UserId::parse(&id).map_err(|e| sqlx::Error::Decode(e.into())))
        .transpose()
}
