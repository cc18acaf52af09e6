//! `registration_token`: tokens whose holders may register.

use sqlx::PgConnection;

/// Whether a token lets its holder register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Validity {
    /// It does.
    Valid,
    /// It is unknown, expired or used up.
    Invalid,
}

/// Whether `token` can be used at `now`, sessions in which it is about to be used counted as uses.
pub async fn find(conn: &mut PgConnection, token: &str, now: i64) -> sqlx::Result<Validity> {
    let valid = sqlx::query_scalar!(
        r#"SELECT (uses_allowed IS NULL OR uses_allowed > completed + (
                      SELECT count(*) FROM uia_session
                      WHERE registration_token = $1 AND expires_ts > $2
                  )) AS "valid!"
           FROM registration_token
           WHERE token = $1 AND (expires_ts IS NULL OR expires_ts > $2)"#,
        token,
        now,
    )
    .fetch_optional(conn)
    .await?;

    Ok(match valid {
        Some(true) => Validity::Valid,
        Some(false) | None => Validity::Invalid,
    })
}

/// Uses `token` up by one, unless none is left at `now`.
pub async fn update_completed(
    conn: &mut PgConnection,
    token: &str,
    now: i64,
) -> sqlx::Result<Validity> {
    let result = sqlx::query!(
        "UPDATE registration_token SET completed = completed + 1
         WHERE token = $1 AND (expires_ts IS NULL OR expires_ts > $2)
           AND (uses_allowed IS NULL OR completed < uses_allowed)",
        token,
        now,
    )
    .execute(conn)
    .await?;

    Ok(match result.rows_affected() {
        0 => Validity::Invalid,
        _ => Validity::Valid,
    })
}

/// Whether there is a token that is not expired at `now`.
pub async fn find_any(conn: &mut PgConnection, now: i64) -> sqlx::Result<Validity> {
    let any = sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM registration_token WHERE expires_ts IS NULL OR expires_ts > $1
           ) AS "any!""#,
        now,
    )
    .fetch_one(conn)
    .await?;

    Ok(if any {
        Validity::Valid
    } else {
        Validity::Invalid
    })
}
