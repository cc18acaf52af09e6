//! `destination`, `outbox_cursor`: the servers that we send to, and how far events are noted down for them.

use hearth_core::{DestinationNid, Position};
use ruma::{OwnedServerName, ServerName};
use sqlx::PgConnection;

use crate::lease::Held;

/// A server that we send to.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its number.
    pub nid: DestinationNid,
    /// Its name.
    pub server_name: String,
    /// How often it failed in a row.
    pub failures: i32,
    /// When it is tried again, if it failed.
    pub retry_ts: i64,
}

/// A server's number with its name.
type Named = (DestinationNid, OwnedServerName);

/// Finds the numbers of servers; those that have none get one.
pub async fn upsert(conn: &mut PgConnection, servers: &[&ServerName]) -> sqlx::Result<Vec<Stored>> {
    let names: Vec<&str> = servers.iter().map(|server| server.as_str()).collect();
    sqlx::query_as!(
        Stored,
        r#"WITH new AS (
               INSERT INTO destination (server_name)
               SELECT name FROM UNNEST($1::text[]) AS w (name)
               WHERE NOT EXISTS (SELECT FROM destination WHERE server_name = name)
               ORDER BY name
               ON CONFLICT (server_name) DO UPDATE SET failures = destination.failures
               RETURNING nid, server_name, failures, retry_ts
           )
           SELECT nid AS "nid!: DestinationNid", server_name AS "server_name!", failures AS "failures!",
                  retry_ts AS "retry_ts!"
           FROM (SELECT * FROM new
                 UNION
                 SELECT nid, server_name, failures, retry_ts FROM destination WHERE server_name = ANY($1)) d"#,
        &names as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// Finds a server by its number.
pub async fn find(conn: &mut PgConnection, nid: DestinationNid) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT nid AS "nid: DestinationNid", server_name, failures, retry_ts FROM destination WHERE nid = $1"#,
        nid.0,
    )
    .fetch_optional(conn)
    .await
}

/// Lists servers after `after` that have something to get and did not fail, the first `limit`.
pub async fn list_waiting(
    conn: &mut PgConnection,
    after: DestinationNid,
    limit: i64,
) -> sqlx::Result<Vec<Named>> {
    let rows = sqlx::query!(
        r#"SELECT nid AS "nid: DestinationNid", server_name FROM destination d
           WHERE nid > $1 AND failures = 0
             AND (EXISTS (SELECT FROM outbox_room r WHERE r.destination_nid = d.nid)
                  OR EXISTS (SELECT FROM outbox_message m WHERE m.destination_nid = d.nid))
           ORDER BY nid LIMIT $2"#,
        after.0,
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| Ok((row.nid, parse(&row.server_name)?)))
        .collect()
}

/// Lists servers that failed, have something to get and are to be tried again, the first `limit`.
pub async fn list_due(conn: &mut PgConnection, now: i64, limit: i64) -> sqlx::Result<Vec<Named>> {
    let rows = sqlx::query!(
        r#"SELECT nid AS "nid: DestinationNid", server_name FROM destination d
           WHERE failures > 0 AND retry_ts <= $1
             AND (EXISTS (SELECT FROM outbox_room r WHERE r.destination_nid = d.nid)
                  OR EXISTS (SELECT FROM outbox_message m WHERE m.destination_nid = d.nid))
           ORDER BY retry_ts LIMIT $2"#,
        now,
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| Ok((row.nid, parse(&row.server_name)?)))
        .collect()
}

/// When the next server after `now` may be tried again.
///
/// It need not have anything to get yet: what it gets until then is sent at that time.
pub async fn find_next_retry(conn: &mut PgConnection, now: i64) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "SELECT retry_ts FROM destination WHERE failures > 0 AND retry_ts > $1 ORDER BY retry_ts LIMIT 1",
        now,
    )
    .fetch_optional(conn)
    .await
}

/// Notes that a server failed once more at `now`, and when it is tried again.
pub async fn update_failed(
    conn: &mut PgConnection,
    nid: DestinationNid,
    now: i64,
    retry_ts: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE destination SET failures = failures + 1, retry_ts = $3,
             failing_since_ts = CASE WHEN failures = 0 OR failing_since_ts = 0 THEN $2 ELSE failing_since_ts END
         WHERE nid = $1",
        nid.0,
        now,
        retry_ts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that a server got what was sent to it.
pub async fn update_reached(conn: &mut PgConnection, nid: DestinationNid) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE destination SET failures = 0, retry_ts = 0, failing_since_ts = 0 WHERE nid = $1 AND failures > 0",
        nid.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that a server that failed was heard from: it is tried again at once, and is not gone for good. Gives its number if
/// it had failed.
pub async fn update_heard(
    conn: &mut PgConnection,
    server: &ServerName,
    now: i64,
) -> sqlx::Result<Option<DestinationNid>> {
    sqlx::query_scalar!(
        r#"UPDATE destination SET retry_ts = $2, failing_since_ts = $2
           WHERE server_name = $1 AND failures > 0 AND retry_ts > $2
           RETURNING nid AS "nid: DestinationNid""#,
        server.as_str(),
        now,
    )
    .fetch_optional(conn)
    .await
}

/// Up to where events are noted down; begins at `head` when nothing was ever noted.
pub async fn find_cursor(conn: &mut PgConnection, head: Position) -> sqlx::Result<Position> {
    sqlx::query_scalar!(
        r#"INSERT INTO outbox_cursor AS c (position) VALUES ($1)
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
        "UPDATE outbox_cursor SET position = $1
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

fn parse(name: &str) -> sqlx::Result<OwnedServerName> {
    ServerName::parse(name).map_err(|error| sqlx::Error::Decode(error.into()))
}
