//! `log` and `membership`, seen as the live events in a user's rooms.

use hearth_core::{EventNid, Position, RoomNid, UserNid};
use sqlx::PgConnection;

/// A live event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place.
    pub position: Position,
    /// The room.
    pub room: RoomNid,
    /// The event.
    pub event: EventNid,
}

/// Lists the newest live events in `(from, to]` in rooms that the user is joined to, the newest first.
pub async fn list(
    conn: &mut PgConnection,
    user: UserNid,
    (from, to): (Position, Position),
    limit: i64,
) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"SELECT l.position, l.room_nid AS "room!: RoomNid", l.event_nid AS "event!: EventNid"
           FROM log l JOIN membership m ON m.room_nid = l.room_nid AND m.user_nid = $1 AND m.membership = 'join'
           WHERE l.position > $2 AND l.position <= $3 AND l.event_nid IS NOT NULL
           ORDER BY l.position DESC LIMIT $4"#,
        user.0,
        from.0,
        to.0,
        limit,
    )
    .fetch_all(conn)
    .await
}
