//! `filter`: filters that clients of a user made. At most [`MAX_PER_USER`] a user; the oldest goes first.

use hearth_core::UserNid;
use sqlx::PgConnection;

/// How many filters a user may keep.
pub const MAX_PER_USER: i64 = 1_000;

/// Finds a filter, JSON.
pub async fn find(
    conn: &mut PgConnection,
    user: UserNid,
    filter_id: i64,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "SELECT body FROM filter WHERE user_nid = $1 AND filter_id = $2",
        user.0,
        filter_id,
    )
    .fetch_optional(conn)
    .await
}

/// Finds the id of the filter with this body.
pub async fn find_id(
    conn: &mut PgConnection,
    user: UserNid,
    body: &str,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "SELECT filter_id FROM filter WHERE user_nid = $1 AND body = $2 LIMIT 1",
        user.0,
        body,
    )
    .fetch_optional(conn)
    .await
}

/// Adds a filter under the user's next number, and takes out what is too much. The user's account must be locked.
pub async fn insert(conn: &mut PgConnection, user: UserNid, body: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        "WITH next AS (SELECT COALESCE(max(filter_id) + 1, 0) AS id FROM filter WHERE user_nid = $1),
              gone AS (DELETE FROM filter WHERE user_nid = $1 AND filter_id <= (SELECT id FROM next) - $3)
         INSERT INTO filter (user_nid, filter_id, body) SELECT $1, id, $2 FROM next
         RETURNING filter_id",
        user.0,
        body,
        MAX_PER_USER,
    )
    .fetch_one(conn)
    .await
}
