//! `refresh_token`: what clients renew their access tokens with.

use hearth_core::UserNid;
use sqlx::PgConnection;

/// A row of `refresh_token`.
#[derive(Clone, Debug)]
pub struct RefreshTokenRow {
    /// SHA-256 of the token.
    pub hash: Vec<u8>,
    /// Whose.
    pub user: UserNid,
    /// Whose device.
    pub device_id: String,
    /// The access token that was issued with it.
    pub access_hash: Vec<u8>,
    /// The token that replaced this one.
    pub next_hash: Option<Vec<u8>>,
    /// When it expires, in milliseconds since the epoch.
    pub expires_ts: Option<i64>,
}

/// Adds a token.
pub async fn insert(conn: &mut PgConnection, row: &RefreshTokenRow) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO refresh_token (hash, user_nid, device_id, access_hash, next_hash, expires_ts)
         VALUES ($1, $2, $3, $4, $5, $6)",
        row.hash,
        row.user.0,
        row.device_id,
        row.access_hash,
        row.next_hash,
        row.expires_ts,
    )
    .execute(conn)
    .await?;

    Ok(())
}

/// Returns the token.
pub async fn find(conn: &mut PgConnection, hash: &[u8]) -> sqlx::Result<Option<RefreshTokenRow>> {
    sqlx::query_as!(
        RefreshTokenRow,
        "SELECT hash, user_nid AS user, device_id, access_hash, next_hash, expires_ts
         FROM refresh_token WHERE hash = $1",
        hash,
    )
    .fetch_optional(conn)
    .await
}

/// Notes which token replaced this one.
pub async fn update_next(conn: &mut PgConnection, hash: &[u8], next: &[u8]) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE refresh_token SET next_hash = $2 WHERE hash = $1",
        hash,
        next,
    )
    .execute(conn)
    .await?;

    Ok(())
}

/// Removes one token and returns the access token that was issued with it.
pub async fn delete(conn: &mut PgConnection, hash: &[u8]) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_scalar!(
        "DELETE FROM refresh_token WHERE hash = $1 RETURNING access_hash",
        hash,
    )
    .fetch_optional(conn)
    .await
}

/// Removes the tokens that `next` replaced, and returns the access tokens that were issued with them.
pub async fn delete_replaced(
    conn: &mut PgConnection,
    user: UserNid,
    device_id: &str,
    next: &[u8],
) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar!(
        "DELETE FROM refresh_token
         WHERE user_nid = $1 AND device_id = $2 AND next_hash = $3
         RETURNING access_hash",
        user.0,
        device_id,
        next,
    )
    .fetch_all(conn)
    .await
}

/// Removes the tokens that the one issued with `access` replaced, and returns the access tokens that were issued
/// with them.
pub async fn delete_replaced_by_access(
    conn: &mut PgConnection,
    user: UserNid,
    device_id: &str,
    access: &[u8],
) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar!(
        "DELETE FROM refresh_token AS old
         USING refresh_token AS new
         WHERE new.user_nid = $1 AND new.device_id = $2 AND new.access_hash = $3
           AND old.user_nid = $1 AND old.device_id = $2 AND old.next_hash = new.hash
         RETURNING old.access_hash",
        user.0,
        device_id,
        access,
    )
    .fetch_all(conn)
    .await
}

/// Removes the tokens of devices.
pub async fn delete_of_devices(
    conn: &mut PgConnection,
    user: UserNid,
    device_ids: &[String],
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM refresh_token WHERE user_nid = $1 AND device_id = ANY($2)",
        user.0,
        device_ids,
    )
    .execute(conn)
    .await?;

    Ok(())
}
