//! `event` in its two orders: the room's history by (depth, stream order), its timeline by stream order.

use hearth_core::{EventNid, RoomNid, UserNid};
use sqlx::PgConnection;

/// A part of a room's history.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The room.
    pub room: RoomNid,
    /// After this (depth, stream order).
    pub low: (i64, i64),
    /// Up to this (depth, stream order).
    pub high: (i64, i64),
    /// After this stream order.
    pub stream_low: i64,
    /// Up to this stream order.
    pub stream_high: i64,
}

impl Span {
    /// All of a room's history.
    #[must_use]
    pub fn all(room: RoomNid) -> Self {
        Self {
            room,
            low: (i64::MIN, i64::MIN),
            high: (i64::MAX, i64::MAX),
            stream_low: i64::MIN,
            stream_high: i64::MAX,
        }
    }
}

/// What is asked of events.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// Patterns of `LIKE`, one of which the type must match.
    pub types: Option<Vec<String>>,
    /// Patterns of `LIKE`, none of which the type may match.
    pub not_types: Vec<String>,
    /// One of these sent it.
    pub senders: Option<Vec<UserNid>>,
    /// None of these sent it.
    pub not_senders: Vec<UserNid>,
    /// None of these sent it, unless it is a state event.
    pub ignored: Vec<UserNid>,
    /// An event with one of these `rel_type`s refers to it.
    pub related_by_types: Option<Vec<String>>,
    /// An event of one of these users refers to it.
    pub related_by_senders: Option<Vec<UserNid>>,
}

/// An event's place, and whether it meets the conditions.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The event.
    pub nid: EventNid,
    /// Its depth.
    pub depth: i64,
    /// Its place in the timeline.
    pub stream_order: i64,
    /// Whether it meets the conditions.
    pub matches: bool,
}

macro_rules! places {
    ($conn:expr, $span:expr, $conditions:expr, $limit:expr, $order:tt) => {{
        let (span, conditions) = ($span, $conditions);
        sqlx::query_as!(
            Place,
            r#"SELECT nid, depth, stream_order AS "stream_order!",
                      ($9::text[] IS NULL OR type LIKE ANY ($9)) AND NOT type LIKE ANY ($10)
                      AND ($11::bigint[] IS NULL OR sender_nid = ANY ($11)) AND NOT sender_nid = ANY ($12)
                      AND (state_key_nid IS NOT NULL OR NOT sender_nid = ANY ($13))
                      AND ($14::text[] IS NULL AND $15::bigint[] IS NULL OR EXISTS (
                          SELECT FROM relation r JOIN event child ON child.nid = r.event_nid
                          WHERE r.room_nid = $1 AND r.parent_event_id = e.event_id AND child.redacted_by IS NULL
                          AND ($14::text[] IS NULL OR r.rel_type = ANY ($14))
                          AND ($15::bigint[] IS NULL OR child.sender_nid = ANY ($15)))) AS "matches!"
               FROM event e
               WHERE room_nid = $1 AND stream_order IS NOT NULL
               AND (depth, stream_order) > ($2, $3) AND (depth, stream_order) <= ($4, $5)
               AND stream_order > $6 AND stream_order <= $7
               ORDER BY "# + $order + " LIMIT $8",
            span.room.0,
            span.low.0,
            span.low.1,
            span.high.0,
            span.high.1,
            span.stream_low,
            span.stream_high,
            $limit,
            conditions.types.as_deref() as Option<&[String]>,
            &conditions.not_types,
            conditions.senders.as_deref() as Option<&[UserNid]>,
            conditions.not_senders.as_slice() as &[UserNid],
            conditions.ignored.as_slice() as &[UserNid],
            conditions.related_by_types.as_deref() as Option<&[String]>,
            conditions.related_by_senders.as_deref() as Option<&[UserNid]>,
        )
        .fetch_all($conn)
        .await
    }};
}

/// Lists the last events of a span, the last one first.
pub async fn list_backwards(
    conn: &mut PgConnection,
    span: &Span,
    conditions: &Conditions,
    limit: i64,
) -> sqlx::Result<Vec<Place>> {
    places!(
        conn,
        span,
        conditions,
        limit,
        "depth DESC, stream_order DESC"
    )
}

/// Lists the first events of a span in order.
pub async fn list_forwards(
    conn: &mut PgConnection,
    span: &Span,
    conditions: &Conditions,
    limit: i64,
) -> sqlx::Result<Vec<Place>> {
    places!(conn, span, conditions, limit, "depth, stream_order")
}

/// Lists the events of a span that came last, the newest first.
pub async fn list_newest(
    conn: &mut PgConnection,
    span: &Span,
    conditions: &Conditions,
    limit: i64,
) -> sqlx::Result<Vec<Place>> {
    places!(conn, span, conditions, limit, "stream_order DESC")
}

/// Which way from a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// To later events.
    Later,
    /// To earlier events.
    Earlier,
}

/// Lists the events of a room's history that are closest to `ts` in one direction, the closest first.
pub async fn list_by_time(
    conn: &mut PgConnection,
    room: RoomNid,
    ts: i64,
    towards: Towards,
    limit: i64,
) -> sqlx::Result<Vec<EventNid>> {
    match towards {
        Towards::Later => {
            sqlx::query_scalar!(
                r#"SELECT nid AS "nid: EventNid" FROM event
                   WHERE room_nid = $1 AND stream_order IS NOT NULL AND origin_server_ts >= $2
                   ORDER BY origin_server_ts, depth, stream_order LIMIT $3"#,
                room.0,
                ts,
                limit,
            )
            .fetch_all(conn)
            .await
        }
        Towards::Earlier => {
            sqlx::query_scalar!(
                r#"SELECT nid AS "nid: EventNid" FROM event
                   WHERE room_nid = $1 AND stream_order IS NOT NULL AND origin_server_ts <= $2
                   ORDER BY origin_server_ts DESC, depth DESC, stream_order DESC LIMIT $3"#,
                room.0,
                ts,
                limit,
            )
            .fetch_all(conn)
            .await
        }
    }
}

/// The first place of a room's timeline that is taken.
pub async fn find_first_order(conn: &mut PgConnection, room: RoomNid) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "SELECT min(stream_order) FROM event WHERE room_nid = $1 AND stream_order IS NOT NULL",
        room.0,
    )
    .fetch_one(conn)
    .await
}

/// Finds the last event of a room's timeline up to a place in the stream.
pub async fn find_last(
    conn: &mut PgConnection,
    room: RoomNid,
    order: i64,
) -> sqlx::Result<Option<EventNid>> {
    sqlx::query_scalar!(
        r#"SELECT nid AS "nid: EventNid" FROM event
           WHERE room_nid = $1 AND stream_order IS NOT NULL AND stream_order <= $2
           ORDER BY stream_order DESC LIMIT 1"#,
        room.0,
        order,
    )
    .fetch_optional(conn)
    .await
}
