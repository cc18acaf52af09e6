//! `user_word`: the words by which the user directory finds users.

use hearth_core::UserNid;
use sqlx::PgConnection;

/// How many words a user has at the most.
const MAX_WORDS: i64 = 64;

/// Adds words of users; those that are there already stay. Sorted, so that two who do it at once cannot block each other.
///
/// A user who has as many as anybody may have gets no more.
pub async fn insert(
    conn: &mut PgConnection,
    users: &[UserNid],
    words: &[&str],
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO user_word (user_nid, word)
         SELECT DISTINCT w.user_nid, w.word FROM UNNEST($1::bigint[], $2::text[]) AS w (user_nid, word)
         WHERE (SELECT count(*) FROM user_word k WHERE k.user_nid = w.user_nid) < $3
         ORDER BY w.user_nid, w.word
         ON CONFLICT DO NOTHING",
        users as &[UserNid],
        words as &[&str],
        MAX_WORDS,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Takes all words from a user but these.
pub async fn delete_others(
    conn: &mut PgConnection,
    user: UserNid,
    words: &[String],
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM user_word WHERE user_nid = $1 AND word <> ALL($2)",
        user.0,
        words,
    )
    .execute(conn)
    .await
    .map(drop)
}
