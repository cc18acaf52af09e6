//! `login_token`: tokens that log a new device in, once.

use hearth_core::UserNid;
use sqlx::PgConnection;

/// Adds a token that works until `expires_ts`.
pub async fn insert(
    conn: &mut PgConnection,
    hash: &[u8],
    user: UserNid,
    expires_ts: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO login_token (hash, user_nid, expires_ts) VALUES ($1, $2, $3)",
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
        "DELETE FROM login_token WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM login_token WHERE expires_ts < $1 ORDER BY expires_ts LIMIT $2))",
        now,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}

/// Takes a token out, and returns whose it is unless it expired before `now`.
pub async fn delete(
    conn: &mut PgConnection,
    hash: &[u8],
    now: i64,
) -> sqlx::Result<Option<UserNid>> {
    let row = sqlx::query!(
        "DELETE FROM login_token WHERE hash = $1 RETURNING user_nid, expires_ts",
        hash,
    )
    .fetch_optional(conn)
    .await?;

    Ok(row
        .filter(|row| row.expires_ts > now)
        .map(|row| UserNid(row.user_nid)))
}

/// Removes all tokens of a user.
pub async fn delete_of_user(conn: &mut PgConnection, user: UserNid) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM login_token WHERE user_nid = $1", user.0)
        .execute(conn)
        .await?;

    Ok(())
}
