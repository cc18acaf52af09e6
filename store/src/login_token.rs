//! `login_token`: tokens that log a new device in, once.

use hearth_core::UserNid;
use sqlx::PgConnection;

use crate::token_table::token_table;

token_table!("login_token");

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
