//! The user directory: a view of `user_id`, `account`, `profile` and `membership`.

use hearth_core::{RoomNid, UserNid};
use sqlx::PgConnection;

/// A user that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `@…`
    pub user_id: String,
    /// The name: of local users their profile's, JSON; of others the one in a room that the searcher sees, plain.
    pub display_name: Option<String>,
    /// The avatar, likewise.
    pub avatar_url: Option<String>,
    /// Whether the user has an account here.
    pub local: bool,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Who looks; not found itself.
    pub searcher: UserNid,
    /// Rooms whose members everybody may see, beside published ones.
    pub public_rooms: &'a [RoomNid],
    /// Patterns for `LIKE`, lower case, all of which the user id or the name must match.
    pub patterns: &'a [String],
    /// A pattern for `LIKE`, lower case: those whose localpart or name matches come first.
    pub first: &'a str,
    /// How many are wanted.
    pub limit: i64,
}

/// Lists users who match and whom the searcher may see: they share a room or are in a public one.
pub async fn list(conn: &mut PgConnection, search: Search<'_>) -> sqlx::Result<Vec<Found>> {
    sqlx::query_as!(
        Found,
        r#"WITH rooms AS (
               SELECT room_nid FROM membership WHERE user_nid = $1 AND membership = 'join'
               UNION SELECT nid FROM room WHERE published
               UNION SELECT UNNEST($5::bigint[])
           ), visible AS (
               SELECT DISTINCT ON (m.user_nid) m.user_nid, m.display_name, m.avatar_url
               FROM membership m JOIN rooms ON rooms.room_nid = m.room_nid
               WHERE m.membership = 'join' AND m.user_nid <> $1
               ORDER BY m.user_nid, m.position DESC
           ), named AS (
               SELECT u.user_id, a.user_nid IS NOT NULL AS local,
                      CASE WHEN a.user_nid IS NULL THEN v.display_name ELSE n.value END AS display_name,
                      CASE WHEN a.user_nid IS NULL THEN v.avatar_url ELSE p.value END AS avatar_url
               FROM visible v
               JOIN user_id u ON u.nid = v.user_nid
               LEFT JOIN account a ON a.user_nid = v.user_nid
               LEFT JOIN profile n ON n.user_nid = a.user_nid AND n.key = 'displayname'
               LEFT JOIN profile p ON p.user_nid = a.user_nid AND p.key = 'avatar_url'
               WHERE NOT COALESCE(a.deactivated, false)
           )
           SELECT user_id, display_name, avatar_url, local AS "local!" FROM named
           WHERE (SELECT bool_and(
                      lower(CASE WHEN pattern LIKE '@%' THEN user_id ELSE split_part(user_id, ':', 1) END) LIKE pattern
                      OR lower(COALESCE(display_name, '')) LIKE pattern)
                  FROM UNNEST($2::text[]) AS pattern)
           ORDER BY NOT (lower(user_id) LIKE '@' || $3 OR lower(COALESCE(display_name, '')) LIKE $3
                         OR lower(COALESCE(display_name, '')) LIKE '"' || $3),
                    display_name IS NULL, user_id
           LIMIT $4"#,
        search.searcher.0,
        search.patterns,
        search.first,
        search.limit,
        search.public_rooms as &[RoomNid],
    )
    .fetch_all(conn)
    .await
}

/// Lists rooms of users who match and whom the searcher does not see so far: if one of the rooms is public, it does.
pub async fn list_rooms(conn: &mut PgConnection, search: Search<'_>) -> sqlx::Result<Vec<RoomNid>> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT m.room_nid AS "room: RoomNid" FROM membership m
           WHERE m.membership = 'join'
             AND m.user_nid IN (
                 SELECT u.nid FROM user_id u
                 LEFT JOIN profile n ON n.user_nid = u.nid AND n.key = 'displayname'
                 WHERE u.nid <> $1 AND (SELECT bool_and(
                           lower(CASE WHEN pattern LIKE '@%' THEN user_id ELSE split_part(user_id, ':', 1) END)
                               LIKE pattern
                           OR lower(COALESCE(n.value, '')) LIKE pattern)
                       FROM UNNEST($2::text[]) AS pattern)
                   AND NOT EXISTS (
                       SELECT FROM membership b
                       WHERE b.user_nid = u.nid AND b.membership = 'join'
                         AND (b.room_nid IN (SELECT room_nid FROM membership
                                             WHERE user_nid = $1 AND membership = 'join')
                              OR b.room_nid IN (SELECT nid FROM room WHERE published)))
                 LIMIT $3)
           LIMIT $3"#,
        search.searcher.0,
        search.patterns,
        search.limit,
    )
    .fetch_all(conn)
    .await
}
