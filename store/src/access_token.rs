//! `access_token`: what clients prove with who they are.

use hearth_core::UserNid;
use sqlx::PgConnection;

/// A row of `access_token`.
#[derive(Clone, Copy, Debug)]
pub struct AccessTokenRow<'a> {
    /// SHA-256 of the token.
    pub hash: &'a [u8],
    /// Whose.
    pub user: UserNid,
    /// Whose device.
    pub device_id: &'a str,
    /// When it was made, in milliseconds since the epoch.
    pub created_ts: i64,
    /// When it expires, in milliseconds since the epoch.
    pub expires_ts: Option<i64>,
}

/// What an access token stands for.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns")]
pub struct SessionRow {
    /// Whose.
    pub user: UserNid,
    /// Whose, as on the wire.
    pub user_id: String,
    /// Whose device.
    pub device_id: Option<String>,
    /// When the token expires, in milliseconds since the epoch.
    pub expires_ts: Option<i64>,
    /// Whether the user administers the server.
    pub admin: bool,
    /// Whether the user is a guest.
    pub guest: bool,
    /// Whether the account is locked.
    pub locked: bool,
    /// Whether the account is suspended.
    pub suspended: bool,
    /// Whether a refresh token that this token replaces is still usable.
    pub replaces: bool,
}

/// Adds a token.
pub async fn insert(conn: &mut PgConnection, row: &AccessTokenRow<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO access_token (hash, user_nid, device_id, created_ts, expires_ts)
         VALUES ($1, $2, $3, $4, $5)",
        row.hash,
        row.user.0,
        row.device_id,
        row.created_ts,
        row.expires_ts,
    )
    .execute(conn)
    .await?;

    Ok(())
}

/// Returns what the token stands for, expired or not; tokens of closed accounts stand for nothing.
pub async fn find(conn: &mut PgConnection, hash: &[u8]) -> sqlx::Result<Option<SessionRow>> {
    sqlx::query_as!(
        SessionRow,
        r#"SELECT t.user_nid AS user, u.user_id, t.device_id, t.expires_ts,
                  a.admin, a.guest, a.locked, a.suspended,
                  EXISTS (
                      SELECT FROM refresh_token AS new
                      JOIN refresh_token AS old
                        ON old.user_nid = new.user_nid AND old.device_id = new.device_id
                       AND old.next_hash = new.hash
                      WHERE new.user_nid = t.user_nid AND new.device_id = t.device_id
                        AND new.access_hash = t.hash
                  ) AS "replaces!"
           FROM access_token AS t
           JOIN account AS a ON a.user_nid = t.user_nid
           JOIN user_id AS u ON u.nid = t.user_nid
           WHERE t.hash = $1 AND NOT a.deactivated"#,
        hash,
    )
    .fetch_optional(conn)
    .await
}

/// Returns the hashes of the user's tokens.
pub async fn list(conn: &mut PgConnection, user: UserNid) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar!("SELECT hash FROM access_token WHERE user_nid = $1", user.0)
        .fetch_all(conn)
        .await
}

/// Removes tokens.
pub async fn delete(conn: &mut PgConnection, hashes: &[Vec<u8>]) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM access_token WHERE hash = ANY($1)", hashes)
        .execute(conn)
        .await?;

    Ok(())
}

/// Removes the tokens of devices and returns their hashes.
pub async fn delete_of_devices(
    conn: &mut PgConnection,
    user: UserNid,
    device_ids: &[String],
) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar!(
        "DELETE FROM access_token WHERE user_nid = $1 AND device_id = ANY($2) RETURNING hash",
        user.0,
        device_ids,
    )
    .fetch_all(conn)
    .await
}

/// Removes the tokens without a device except one, and returns their hashes.
pub async fn delete_without_device(
    conn: &mut PgConnection,
    user: UserNid,
    except: Option<&[u8]>,
) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar!(
        "DELETE FROM access_token
         WHERE user_nid = $1 AND device_id IS NULL AND hash IS DISTINCT FROM $2
         RETURNING hash",
        user.0,
        except,
    )
    .fetch_all(conn)
    .await
}
