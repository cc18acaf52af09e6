//! `relation`: which events refer to which. Journalled.

use hearth_core::{EventNid, RoomNid, UserNid};
use sqlx::PgConnection;

use crate::timeline::{Place, Span};

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

/// How many annotations of one event are looked at.
const ANNOTATIONS: i64 = 500;

/// Lists annotations of an event that a user sent as events of one type, redacted ones left out.
pub async fn list_annotations(
    conn: &mut PgConnection,
    room: RoomNid,
    parent: &str,
    (sender, kind): (UserNid, &str),
) -> sqlx::Result<Vec<EventNid>> {
    sqlx::query_scalar!(
        r#"SELECT e.nid AS "nid: EventNid" FROM relation r JOIN event e ON e.nid = r.event_nid
           WHERE r.room_nid = $1 AND r.parent_event_id = $2 AND r.rel_type = 'm.annotation'
             AND e.sender_nid = $3 AND e.type = $4 AND e.redacted_by IS NULL LIMIT $5"#,
        room.0,
        parent,
        sender.0,
        kind,
        ANNOTATIONS,
    )
    .fetch_all(conn)
    .await
}

/// Which relations are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The event at the root.
    pub parent: &'a str,
    /// How far down: 1 for its children only.
    pub levels: i32,
    /// How the event refers, if that matters.
    pub rel_type: Option<&'a str>,
    /// The event's type, if that matters.
    pub kind: Option<&'a str>,
    /// Whose events are left out.
    pub ignored: &'a [UserNid],
}

macro_rules! related {
    ($conn:expr, $span:expr, $asked:expr, $limit:expr, $order:tt) => {{
        let (span, asked) = ($span, $asked);
        sqlx::query_as!(
            Place,
            r#"WITH RECURSIVE child AS (
                   SELECT event_nid, rel_type, 1 AS level FROM relation WHERE room_nid = $1 AND parent_event_id = $2
                   UNION
                   SELECT r.event_nid, r.rel_type, c.level + 1
                   FROM child c JOIN event e ON e.nid = c.event_nid
                   JOIN relation r ON r.room_nid = $1 AND r.parent_event_id = e.event_id
                   WHERE c.level < $3
               )
               SELECT DISTINCT e.nid, e.depth, e.stream_order AS "stream_order!", true AS "matches!"
               FROM child c JOIN event e ON e.nid = c.event_nid
               WHERE ($4::text IS NULL OR c.rel_type = $4) AND ($5::text IS NULL OR e.type = $5)
               AND NOT e.sender_nid = ANY ($6) AND e.redacted_by IS NULL AND e.stream_order IS NOT NULL
               AND (e.depth, e.stream_order) > ($7, $8) AND (e.depth, e.stream_order) <= ($9, $10)
               AND e.stream_order > $11 AND e.stream_order <= $12
               ORDER BY "# + $order + " LIMIT $13",
            span.room.0,
            asked.parent,
            asked.levels,
            asked.rel_type,
            asked.kind,
            asked.ignored as &[UserNid],
            span.low.0,
            span.low.1,
            span.high.0,
            span.high.1,
            span.stream_low,
            span.stream_high,
            $limit,
        )
        .fetch_all($conn)
        .await
    }};
}

/// Lists the last events of a span that refer to an event, the last one first.
pub async fn list_backwards(
    conn: &mut PgConnection,
    span: &Span,
    asked: Asked<'_>,
    limit: i64,
) -> sqlx::Result<Vec<Place>> {
    related!(
        conn,
        span,
        asked,
        limit,
        "e.depth DESC, e.stream_order DESC"
    )
}

/// Lists the first events of a span that refer to an event, in order.
pub async fn list_forwards(
    conn: &mut PgConnection,
    span: &Span,
    asked: Asked<'_>,
    limit: i64,
) -> sqlx::Result<Vec<Place>> {
    related!(conn, span, asked, limit, "e.depth, e.stream_order")
}

/// A thread.
#[derive(Clone, Copy, Debug)]
pub struct ThreadRow {
    /// The event that it began with.
    pub root: EventNid,
    /// The place in the timeline of its newest event.
    pub newest: i64,
}

/// Lists the threads of a room whose newest event stands before a place, the newest first.
///
/// With `participant` only those in which that user wrote. Redacted events and those of `ignored` users do not count.
pub async fn list_threads(
    conn: &mut PgConnection,
    room: RoomNid,
    before: i64,
    participant: Option<UserNid>,
    ignored: &[UserNid],
    limit: i64,
) -> sqlx::Result<Vec<ThreadRow>> {
    sqlx::query_as!(
        ThreadRow,
        r#"SELECT p.nid AS "root: EventNid", r.stream_order AS newest
           FROM relation r
           JOIN event e ON e.nid = r.event_nid
           JOIN event p ON p.event_id = r.parent_event_id AND p.room_nid = r.room_nid
           WHERE r.room_nid = $1 AND r.rel_type = 'm.thread' AND r.stream_order < $2
           AND e.redacted_by IS NULL AND NOT e.sender_nid = ANY ($4)
           AND NOT EXISTS (
               SELECT FROM relation l JOIN event le ON le.nid = l.event_nid
               WHERE l.room_nid = $1 AND l.parent_event_id = r.parent_event_id AND l.stream_order > r.stream_order
               AND l.rel_type = 'm.thread' AND le.redacted_by IS NULL AND NOT le.sender_nid = ANY ($4))
           AND ($3::bigint IS NULL OR p.sender_nid = $3 OR EXISTS (
               SELECT FROM relation m JOIN event me ON me.nid = m.event_nid
               WHERE m.room_nid = $1 AND m.parent_event_id = r.parent_event_id AND m.rel_type = 'm.thread'
               AND me.sender_nid = $3 AND me.redacted_by IS NULL))
           ORDER BY r.stream_order DESC LIMIT $5"#,
        room.0,
        before,
        participant.map(|user| user.0),
        ignored as &[UserNid],
        limit,
    )
    .fetch_all(conn)
    .await
}
