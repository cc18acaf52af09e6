//! `event`: PDUs, their place in the timeline and what the checks said of them.

use hearth_core::{EventNid, RoomNid, SnapshotNid, StateKeyNid, UserNid};
use sqlx::PgConnection;

/// A stored event as it is read.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its number.
    pub nid: EventNid,
    /// The room.
    pub room: RoomNid,
    /// The room's version.
    pub version: String,
    /// `$…`
    pub event_id: String,
    /// Who sent it.
    pub sender: UserNid,
    /// Present on state events.
    pub state_key: Option<StateKeyNid>,
    /// Its place in the timeline, if it has one.
    pub stream_order: Option<i64>,
    /// The state before it; `None` for outliers.
    pub snapshot: Option<SnapshotNid>,
    /// Its auth events.
    pub auth: Vec<EventNid>,
    /// 0 accepted, 1 soft-failed, 2 rejected.
    pub status: i16,
    /// The redaction that applies to it.
    pub redacted_by: Option<EventNid>,
    /// The PDU.
    pub json: String,
}

/// Lists the events with these numbers, in no order; unknown numbers are left out.
pub async fn list(conn: &mut PgConnection, nids: &[EventNid]) -> sqlx::Result<Vec<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT e.nid, e.room_nid AS room, r.version, e.event_id, e.sender_nid AS sender,
                  e.state_key_nid AS "state_key: StateKeyNid", e.stream_order,
                  e.snapshot_nid AS "snapshot: SnapshotNid", e.auth AS "auth: Vec<EventNid>", e.status,
                  e.redacted_by AS "redacted_by: EventNid", e.json
           FROM event e JOIN room r ON r.nid = e.room_nid
           WHERE e.nid = ANY($1)"#,
        nids as &[EventNid],
    )
    .fetch_all(conn)
    .await
}

/// Lists the numbers of those of `event_ids` that are stored, with their ids.
pub async fn list_nids(
    conn: &mut PgConnection,
    event_ids: &[&str],
) -> sqlx::Result<Vec<(String, EventNid)>> {
    let rows = sqlx::query!(
        r#"SELECT event_id, nid AS "nid: EventNid" FROM event WHERE event_id = ANY($1)"#,
        event_ids as &[&str],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.event_id, row.nid))
        .collect())
}
