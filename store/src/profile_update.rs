//! `profile_update`: users whose member events do not all show their profile yet.

use hearth_core::UserNid;
use sqlx::PgConnection;

/// Notes that a user's member events are out of date; a worker that is at it starts over.
pub async fn upsert(conn: &mut PgConnection, user: UserNid, now: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO profile_update (user_nid, revision, due_ts) VALUES ($1, 1, $2)
         ON CONFLICT (user_nid) DO UPDATE SET revision = profile_update.revision + 1",
        user.0,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a user's work until `until`, if there is any that nobody has taken; returns its revision.
pub async fn claim(
    conn: &mut PgConnection,
    user: UserNid,
    now: i64,
    until: i64,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "UPDATE profile_update SET due_ts = $3 WHERE user_nid = $1 AND due_ts <= $2 RETURNING revision",
        user.0,
        now,
        until,
    )
    .fetch_optional(conn)
    .await
}

/// Keeps work that was taken until `until`; returns its revision now.
pub async fn extend(
    conn: &mut PgConnection,
    user: UserNid,
    until: i64,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "UPDATE profile_update SET due_ts = $2 WHERE user_nid = $1 RETURNING revision",
        user.0,
        until,
    )
    .fetch_optional(conn)
    .await
}

/// Lists up to `limit` users with work that nobody has taken, the longest waiting first.
pub async fn list_due(conn: &mut PgConnection, now: i64, limit: i64) -> sqlx::Result<Vec<UserNid>> {
    sqlx::query_scalar!(
        r#"SELECT user_nid AS "user: UserNid" FROM profile_update WHERE due_ts <= $1
           ORDER BY due_ts LIMIT $2"#,
        now,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// What [`delete`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Finished {
    /// The work was done.
    Yes,
    /// The profile changed again meanwhile.
    ChangedAgain,
}

/// Strikes work off that is done, unless there is a new revision of it.
pub async fn delete(
    conn: &mut PgConnection,
    user: UserNid,
    revision: i64,
) -> sqlx::Result<Finished> {
    let result = sqlx::query!(
        "DELETE FROM profile_update WHERE user_nid = $1 AND revision = $2",
        user.0,
        revision,
    )
    .execute(conn)
    .await?;
    Ok(match result.rows_affected() {
        0 => Finished::ChangedAgain,
        _ => Finished::Yes,
    })
}
