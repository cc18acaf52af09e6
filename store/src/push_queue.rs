//! `push_queue`, `push_cursor`: what pushers have yet to tell, and how far the log is noted down for them.

use hearth_core::{Position, PusherNid, UserNid};
use sqlx::PgConnection;

use crate::lease::Held;

/// How many events wait for one pusher.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// When its gateway takes them.
    pub healthy: i32,
    /// When it fails.
    pub failing: i32,
}

/// A user who is to be told of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The user.
    pub user: UserNid,
    /// The number of an event; a negative one is that of a room to which the user is invited from outside.
    pub event: i64,
}

/// Notes events down for all pushers of these users, in their order; the newest stay. Gives the pushers.
pub async fn append(
    conn: &mut PgConnection,
    told: &[Told],
    bounds: Bounds,
    now: i64,
) -> sqlx::Result<Vec<PusherNid>> {
    let users: Vec<i64> = told.iter().map(|told| told.user.0).collect();
    let events: Vec<i64> = told.iter().map(|told| told.event).collect();
    sqlx::query_scalar!(
        r#"WITH p AS (
               -- Locked, so that none is deleted before its row here is written.
               SELECT nid, user_nid, failures FROM pusher WHERE user_nid = ANY($1) ORDER BY nid FOR KEY SHARE
           )
           INSERT INTO push_queue AS q (pusher_nid, events, queued)
           SELECT p.nid, array_agg(w.event ORDER BY w.place), array_agg($5::bigint ORDER BY w.place)
           FROM UNNEST($1::bigint[], $2::bigint[]) WITH ORDINALITY AS w (user_nid, event, place)
           JOIN p ON p.user_nid = w.user_nid
           GROUP BY p.nid ORDER BY p.nid
           ON CONFLICT (pusher_nid) DO UPDATE SET
               events = (q.events || excluded.events)[
                   GREATEST(1, cardinality(q.events) + cardinality(excluded.events) + 1
                               - CASE WHEN (SELECT failures FROM p WHERE p.nid = excluded.pusher_nid) > 0
                                      THEN $4::int ELSE $3::int END):],
               queued = (q.queued || excluded.queued)[
                   GREATEST(1, cardinality(q.events) + cardinality(excluded.events) + 1
                               - CASE WHEN (SELECT failures FROM p WHERE p.nid = excluded.pusher_nid) > 0
                                      THEN $4::int ELSE $3::int END):]
           RETURNING pusher_nid AS "nid: PusherNid""#,
        &users,
        &events,
        bounds.healthy,
        bounds.failing,
        now,
    )
    .fetch_all(conn)
    .await
}

/// Notes down that users read something at `position`, for those of their pushers that know of something unread, or are
/// about to tell of it. Gives the pushers.
pub async fn append_read(
    conn: &mut PgConnection,
    users: &[UserNid],
    position: Position,
) -> sqlx::Result<Vec<PusherNid>> {
    sqlx::query_scalar!(
        r#"WITH p AS (
               SELECT nid FROM pusher
               WHERE user_nid = ANY($1)
                 AND (unread > 0 OR missed_calls > 0 OR EXISTS (SELECT FROM push_queue q WHERE q.pusher_nid = nid))
               ORDER BY nid FOR KEY SHARE
           )
           INSERT INTO push_queue (pusher_nid, read_position)
           SELECT nid, $2 FROM p
           ON CONFLICT (pusher_nid) DO UPDATE SET read_position = excluded.read_position
           RETURNING pusher_nid AS "nid: PusherNid""#,
        users as &[UserNid],
        position.0,
    )
    .fetch_all(conn)
    .await
}

/// A pusher with what it has yet to tell.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The pusher.
    pub nid: PusherNid,
    /// Its user.
    pub user: UserNid,
    /// `@…`
    pub user_id: String,
    /// What it is called among those of its application.
    pub pushkey: String,
    /// The application.
    pub app_id: String,
    /// What the pusher needs, JSON.
    pub data: String,
    /// When it was last set.
    pub set_ts: i64,
    /// What the gateway was last told of unread messages.
    pub unread: i64,
    /// What the gateway was last told of missed calls.
    pub missed_calls: i64,
    /// How often sending failed in a row.
    pub failures: i32,
    /// When it is tried again.
    pub retry_ts: i64,
    /// What to tell, see [`Told::event`].
    pub events: Vec<i64>,
    /// When each came.
    pub queued: Vec<i64>,
    /// Where its user last read something; zero when the counts need not be told.
    pub read_position: Position,
}

/// Finds what a pusher has yet to tell; nothing for users who are locked out.
pub async fn find(conn: &mut PgConnection, nid: PusherNid) -> sqlx::Result<Option<Waiting>> {
    sqlx::query_as!(
        Waiting,
        r#"SELECT p.nid AS "nid: PusherNid", p.user_nid AS "user: UserNid", u.user_id, p.pushkey, p.app_id, p.data,
                  p.set_ts, p.unread, p.missed_calls, p.failures, p.retry_ts, q.events, q.queued,
                  q.read_position AS "read_position: Position"
           FROM pusher p
           JOIN push_queue q ON q.pusher_nid = p.nid
           JOIN user_id u ON u.nid = p.user_nid
           JOIN account a ON a.user_nid = p.user_nid
           WHERE p.nid = $1 AND NOT a.locked AND NOT a.deactivated"#,
        nid.0,
    )
    .fetch_optional(conn)
    .await
}

/// Strikes out what was told: these events, and the counts if they were read at or after the place where the user last read.
pub async fn update_told(
    conn: &mut PgConnection,
    nid: PusherNid,
    events: &[i64],
    counted_to: Position,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE push_queue SET
             events = ARRAY(SELECT e FROM UNNEST(events) WITH ORDINALITY AS w (e, place) WHERE e <> ALL ($2) ORDER BY place),
             queued = ARRAY(SELECT t FROM UNNEST(events, queued) WITH ORDINALITY AS w (e, t, place)
                            WHERE e <> ALL ($2) ORDER BY place),
             read_position = CASE WHEN read_position <= $3 THEN 0 ELSE read_position END
         WHERE pusher_nid = $1",
        nid.0,
        events,
        counted_to.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes the row of a pusher that has nothing to tell.
pub async fn delete_empty(conn: &mut PgConnection, nid: PusherNid) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM push_queue WHERE pusher_nid = $1 AND events = '{}' AND read_position = 0",
        nid.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets all but the newest `kept` events of a pusher whose gateway fails.
pub async fn update_shortened(
    conn: &mut PgConnection,
    nid: PusherNid,
    kept: i32,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE push_queue SET events = events[cardinality(events) - $2::int + 1:],
                               queued = queued[cardinality(queued) - $2::int + 1:]
         WHERE pusher_nid = $1 AND cardinality(events) > $2::int",
        nid.0,
        kept,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists pushers after `after` that have something to tell and did not fail, the first `limit`.
pub async fn list_waiting(
    conn: &mut PgConnection,
    after: PusherNid,
    limit: i64,
) -> sqlx::Result<Vec<PusherNid>> {
    sqlx::query_scalar!(
        r#"SELECT pusher_nid AS "nid: PusherNid" FROM push_queue
           WHERE pusher_nid > $1 AND EXISTS (SELECT FROM pusher p WHERE p.nid = pusher_nid AND p.failures = 0)
           ORDER BY pusher_nid LIMIT $2"#,
        after.0,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Lists pushers that failed, have something to tell and are to be tried again, the first `limit`.
pub async fn list_due(
    conn: &mut PgConnection,
    now: i64,
    limit: i64,
) -> sqlx::Result<Vec<PusherNid>> {
    sqlx::query_scalar!(
        r#"SELECT nid AS "nid: PusherNid" FROM pusher p
           WHERE failures > 0 AND retry_ts <= $1 AND EXISTS (SELECT FROM push_queue q WHERE q.pusher_nid = p.nid)
           ORDER BY retry_ts LIMIT $2"#,
        now,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Up to where events are noted down; begins at `head` when nothing was ever noted.
pub async fn find_cursor(conn: &mut PgConnection, head: Position) -> sqlx::Result<Position> {
    sqlx::query_scalar!(
        r#"INSERT INTO push_cursor AS c (position) VALUES ($1)
           ON CONFLICT (one) DO UPDATE SET position = c.position
           RETURNING position AS "position: Position""#,
        head.0,
    )
    .fetch_one(conn)
    .await
}

/// Moves the cursor, if `holder` still has the lease `lease`, which it keeps until the transaction ends.
pub async fn update_cursor(
    conn: &mut PgConnection,
    position: Position,
    lease: &str,
    holder: i64,
) -> sqlx::Result<Held> {
    let result = sqlx::query!(
        "UPDATE push_cursor SET position = $1
         WHERE EXISTS (SELECT FROM lease WHERE name = $2 AND holder = $3 FOR SHARE)",
        position.0,
        lease,
        holder,
    )
    .execute(conn)
    .await?;
    Ok(match result.rows_affected() {
        0 => Held::No,
        _ => Held::Yes,
    })
}
