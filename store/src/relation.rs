//! `relation`: which events refer to which. Journalled.

use hearth_core::{EventNid, RoomNid, UserNid};
use sqlx::PgConnection;

/// A relation of an event in the timeline.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The room.
    pub room: RoomNid,
    /// What is referred to.
    pub parent: &'a str,
    /// How.
    pub rel_type: &'a str,
    /// What refers.
    pub event: EventNid,
    /// Its place in the timeline.
    pub stream_order: i64,
}

/// Adds relations.
pub async fn insert(conn: &mut PgConnection, rows: &[Row<'_>]) -> sqlx::Result<()> {
    let rooms: Vec<i64> = rows.iter().map(|row| row.room.0).collect();
    let parents: Vec<&str> = rows.iter().map(|row| row.parent).collect();
    let types: Vec<&str> = rows.iter().map(|row| row.rel_type).collect();
    let events: Vec<i64> = rows.iter().map(|row| row.event.0).collect();
    let orders: Vec<i64> = rows.iter().map(|row| row.stream_order).collect();
    sqlx::query!(
        "INSERT INTO relation (room_nid, parent_event_id, rel_type, event_nid, stream_order)
         SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])",
        &rooms,
        &parents as &[&str],
        &types as &[&str],
        &events,
        &orders,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What refers to one event in one way.
#[derive(Clone, Debug)]
pub struct Group {
    /// What is referred to.
    pub parent: String,
    /// How.
    pub rel_type: String,
    /// How many refer to it.
    pub count: i64,
    /// Whether the asking user sent one of them.
    pub participated: bool,
    /// Edits that may be valid, the latest by their own time first: a few of them.
    pub edits: Vec<EventNid>,
    /// Those that stand last in the history, the last one first: a few of them.
    pub latest: Vec<EventNid>,
    /// The ids of references, in order: a bounded number of them.
    pub references: Vec<String>,
}

/// How many candidates a [`Group`] lists for the latest event.
const CANDIDATES: i32 = 8;

/// How many references a [`Group`] lists.
const REFERENCES: i32 = 200;

/// Lists what refers to `parents`, except for annotations, redacted events and those of `ignored` users.
///
/// Edits count as such when sender and type are those of the parent and neither is a state event.
pub async fn list_groups(
    conn: &mut PgConnection,
    room: RoomNid,
    parents: &[&str],
    user: UserNid,
    ignored: &[UserNid],
) -> sqlx::Result<Vec<Group>> {
    sqlx::query_as!(
        Group,
        r#"SELECT r.parent_event_id AS parent, r.rel_type, count(*) AS "count!",
                  bool_or(e.sender_nid = $3) AS "participated!",
                  COALESCE((array_agg(r.event_nid ORDER BY e.origin_server_ts DESC, e.event_id COLLATE "C" DESC)
                      FILTER (WHERE r.rel_type = 'm.replace' AND e.sender_nid = p.sender_nid AND e.type = p.type
                              AND e.state_key_nid IS NULL AND p.state_key_nid IS NULL))[1:$5], '{}')
                      AS "edits!: Vec<EventNid>",
                  COALESCE((array_agg(r.event_nid ORDER BY e.depth DESC, e.stream_order DESC)
                      FILTER (WHERE r.rel_type = 'm.thread'))[1:$5], '{}') AS "latest!: Vec<EventNid>",
                  COALESCE((array_agg(e.event_id ORDER BY e.depth, e.stream_order)
                      FILTER (WHERE r.rel_type = 'm.reference'))[1:$6], '{}') AS "references!: Vec<String>"
           FROM relation r
           JOIN event e ON e.nid = r.event_nid
           JOIN event p ON p.event_id = r.parent_event_id AND p.room_nid = r.room_nid
           WHERE r.room_nid = $1 AND r.parent_event_id = ANY ($2)
           AND r.rel_type IN ('m.replace', 'm.thread', 'm.reference')
           AND e.redacted_by IS NULL AND NOT e.sender_nid = ANY ($4)
           GROUP BY r.parent_event_id, r.rel_type"#,
        room.0,
        parents as &[&str],
        user.0,
        ignored as &[UserNid],
        CANDIDATES,
        REFERENCES,
    )
    .fetch_all(conn)
    .await
}
