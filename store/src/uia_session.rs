//! `uia_session`: user-interactive authentications under way.

use hearth_core::UserNid;
use sqlx::PgConnection;

/// A row of `uia_session`.
#[derive(Clone, Debug)]
pub struct UiaSessionRow {
    /// The session's id.
    pub session_id: String,
    /// What is being done.
    pub action: String,
    /// By whom; `None` for registrations.
    pub user: Option<UserNid>,
    /// The stages that were completed.
    pub completed: Vec<String>,
    /// The first request's body.
    pub body: String,
    /// The registration token that was given.
    pub registration_token: Option<String>,
    /// When the session expires, in milliseconds since the epoch.
    pub expires_ts: i64,
}

/// Adds a session.
pub async fn insert(conn: &mut PgConnection, row: &UiaSessionRow) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO uia_session (session_id, action, user_nid, completed, body, registration_token, expires_ts)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        row.session_id,
        row.action,
        row.user.map(|user| user.0),
        &row.completed,
        row.body,
        row.registration_token,
        row.expires_ts,
    )
    .execute(conn)
    .await?;

    Ok(())
}

/// Deletes sessions that expired before `now`, the oldest `limit` of them. Gives how many.
pub async fn delete_expired(conn: &mut PgConnection, now: i64, limit: i64) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "DELETE FROM uia_session WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM uia_session WHERE expires_ts < $1 ORDER BY expires_ts LIMIT $2))",
        now,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}

/// Returns a session unless it expired before `now`.
pub async fn find(
    conn: &mut PgConnection,
    session_id: &str,
    now: i64,
) -> sqlx::Result<Option<UiaSessionRow>> {
    let row = sqlx::query!(
        "SELECT action, user_nid, completed, body, registration_token, expires_ts
         FROM uia_session WHERE session_id = $1 AND expires_ts > $2",
        session_id,
        now,
    )
    .fetch_optional(conn)
    .await?;

    Ok(row.map(|row| UiaSessionRow {
        session_id: session_id.to_owned(),
        action: row.action,
        user: row.user_nid.map(UserNid),
        completed: row.completed,
        body: row.body,
        registration_token: row.registration_token,
        expires_ts: row.expires_ts,
    }))
}

/// Notes that `stage` is completed, with the registration token if it is that stage, and returns all completed ones.
pub async fn update_completed(
    conn: &mut PgConnection,
    session_id: &str,
    stage: &str,
    registration_token: Option<&str>,
) -> sqlx::Result<Option<Vec<String>>> {
    sqlx::query_scalar!(
        "UPDATE uia_session
         SET completed = CASE WHEN $2 = ANY(completed) THEN completed ELSE array_append(completed, $2) END,
             registration_token = COALESCE($3, registration_token)
         WHERE session_id = $1
         RETURNING completed",
        session_id,
        stage,
        registration_token,
    )
    .fetch_optional(conn)
    .await
}

/// What [`delete`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    /// The session was there and is gone.
    Yes,
    /// Somebody else took it.
    Gone,
}

/// Takes a session out, so that it serves one request only.
pub async fn delete(conn: &mut PgConnection, session_id: &str) -> sqlx::Result<Taken> {
    let result = sqlx::query!("DELETE FROM uia_session WHERE session_id = $1", session_id)
        .execute(conn)
        .await?;

    Ok(match result.rows_affected() {
        0 => Taken::Gone,
        _ => Taken::Yes,
    })
}
