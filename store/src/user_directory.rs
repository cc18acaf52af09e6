//! The user directory: `user_word`, and what `account`, `profile` and `membership` say about who may be seen.

use hearth_core::{RoomNid, UserNid};
use sqlx::PgConnection;

/// A user who may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The user.
    pub user: UserNid,
    /// `@…`
    pub user_id: String,
    /// The name: of local users their profile's, JSON; of others the one in a room that the searcher sees, plain.
    pub display_name: Option<String>,
    /// The avatar, likewise.
    pub avatar_url: Option<String>,
    /// Whether the user has an account here.
    pub local: bool,
}

/// How many words [`list_matching`] looks at.
///
/// The statement has the number, too, and no end of the range within: if `PostgreSQL` did not know that few of many are
/// wanted, it would read and sort all words with the beginning.
pub const LOOKED_AT: usize = 2_000;

/// Lists other users who have a word with each of these beginnings, in the order of the words that the first one
/// begins, a user perhaps more than once.
///
/// No more than [`LOOKED_AT`] words are looked at.
pub async fn list_matching(
    conn: &mut PgConnection,
    searcher: UserNid,
    beginnings: &[String],
) -> sqlx::Result<Vec<UserNid>> {
    sqlx::query_scalar!(
        r#"SELECT c.user_nid AS "user: UserNid"
           FROM (SELECT user_nid, word FROM user_word
                 WHERE word >= ($2::text[])[1] ORDER BY word, user_nid LIMIT 2000) AS c
           WHERE starts_with(c.word, ($2::text[])[1]) AND c.user_nid <> $1 AND NOT EXISTS (
               SELECT FROM UNNEST(($2::text[])[2:]) AS b (beginning) WHERE NOT EXISTS (
                   SELECT FROM user_word w
                   WHERE w.user_nid = c.user_nid AND w.word >= b.beginning AND w.word < b.beginning || chr(1114111)))
           ORDER BY c.word, c.user_nid"#,
        searcher.0,
        beginnings,
    )
    .fetch_all(conn)
    .await
}

/// Lists other users who have a word with each of these beginnings and share a room with the searcher, one of the
/// smallest.
///
/// The rooms have no more than `bound` members in all.
pub async fn list_near(
    conn: &mut PgConnection,
    searcher: UserNid,
    beginnings: &[String],
    bound: i64,
) -> sqlx::Result<Vec<UserNid>> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT m.user_nid AS "user: UserNid"
           FROM membership m
           WHERE m.membership = 'join' AND m.user_nid <> $1 AND m.room_nid = ANY (ARRAY(
               SELECT near.room_nid
               FROM (SELECT room_nid, sum(joined) OVER (ORDER BY joined, room_nid) AS members
                     FROM membership own JOIN room ON room.nid = own.room_nid
                     WHERE own.user_nid = $1 AND own.membership = 'join') AS near
               WHERE near.members <= $3::bigint)) AND NOT EXISTS (
               SELECT FROM UNNEST($2::text[]) AS b (beginning) WHERE NOT EXISTS (
                   SELECT FROM user_word w
                   WHERE w.user_nid = m.user_nid AND w.word >= b.beginning AND w.word < b.beginning || chr(1114111)))"#,
        searcher.0,
        beginnings,
        bound,
    )
    .fetch_all(conn)
    .await
}

/// Lists up to `limit` of `users` whom the searcher may see: they share a room, or are in a published one or in one of
/// `public_rooms`.
pub async fn list_shown(
    conn: &mut PgConnection,
    searcher: UserNid,
    users: &[UserNid],
    public_rooms: &[RoomNid],
    limit: i64,
) -> sqlx::Result<Vec<Found>> {
    sqlx::query_as!(
        Found,
        r#"SELECT c.user_nid AS "user!: UserNid", u.user_id, a.user_nid IS NOT NULL AS "local!",
                  CASE WHEN a.user_nid IS NULL THEN v.display_name ELSE n.value END AS display_name,
                  CASE WHEN a.user_nid IS NULL THEN v.avatar_url ELSE p.value END AS avatar_url
           FROM UNNEST($2::bigint[]) AS c (user_nid)
           CROSS JOIN LATERAL (
               SELECT m.display_name, m.avatar_url FROM membership m
               WHERE m.user_nid = c.user_nid AND m.membership = 'join'
                 AND (EXISTS (SELECT FROM membership own
                              WHERE own.user_nid = $1 AND own.room_nid = m.room_nid AND own.membership = 'join')
                      OR EXISTS (SELECT FROM room WHERE room.nid = m.room_nid AND published)
                      OR m.room_nid = ANY($3))
               ORDER BY m.position DESC LIMIT 1
           ) AS v
           JOIN user_id u ON u.nid = c.user_nid
           LEFT JOIN account a ON a.user_nid = c.user_nid
           LEFT JOIN profile n ON n.user_nid = a.user_nid AND n.key = 'displayname'
           LEFT JOIN profile p ON p.user_nid = a.user_nid AND p.key = 'avatar_url'
           WHERE NOT COALESCE(a.deactivated, false)
           LIMIT $4"#,
        searcher.0,
        users as &[UserNid],
        public_rooms as &[RoomNid],
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Lists up to `limit` rooms in which any of `users` is joined.
pub async fn list_rooms(
    conn: &mut PgConnection,
    users: &[UserNid],
    limit: i64,
) -> sqlx::Result<Vec<RoomNid>> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT room_nid AS "room: RoomNid" FROM membership
           WHERE user_nid = ANY($1) AND membership = 'join' LIMIT $2"#,
        users as &[UserNid],
        limit,
    )
    .fetch_all(conn)
    .await
}
