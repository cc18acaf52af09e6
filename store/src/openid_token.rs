//! `openid_token`: tokens with which users prove to third parties who they are.

use hearth_core::UserNid;
use ruma::{OwnedUserId, UserId};
use sqlx::PgConnection;

/// Adds a token that works until `expires_ts`, and takes some out that expired before `now`.
pub async fn insert(
    conn: &mut PgConnection,
    hash: &[u8],
    user: UserNid,
    expires_ts: i64,
    now: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "WITH expired AS (
             DELETE FROM openid_token WHERE hash IN (
                 SELECT hash FROM openid_token WHERE expires_ts < $4
                 ORDER BY expires_ts LIMIT 20 FOR UPDATE SKIP LOCKED
             )
         )
         INSERT INTO openid_token (hash, user_nid, expires_ts) VALUES ($1, $2, $3)",
        hash,
        user.0,
        expires_ts,
        now,
    )
    .execute(conn)
    .await?;

    Ok(())
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
