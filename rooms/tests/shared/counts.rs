//! What must be true of the database after every test, whichever it was.

use sqlx::PgPool;

/// Whether every room's row counts its members right.
pub(crate) async fn check_counts(pool: &PgPool) {
    let wrong: Vec<i64> = sqlx::query_scalar(
        "SELECT nid FROM room, LATERAL (
             SELECT count(*) AS members, count(a.user_nid) AS locals
             FROM membership m LEFT JOIN account a ON a.user_nid = m.user_nid
             WHERE m.room_nid = room.nid AND m.membership = 'join') AS counted
         WHERE (joined, joined_local) <> (members, locals)",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(
        wrong.is_empty(),
        "these rooms count their members wrongly: {wrong:?}"
    );
}
