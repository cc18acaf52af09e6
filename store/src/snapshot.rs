//! `snapshot`: states of rooms, each as changes to its parent.

use hearth_core::SnapshotNid;
use sqlx::PgConnection;

use crate::write::SnapshotRow;

/// A snapshot as it is stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its number.
    pub nid: SnapshotNid,
    /// What the delta applies to.
    pub parent: Option<SnapshotNid>,
    /// The packed changes.
    pub delta: Vec<u8>,
    /// How many parents there are.
    pub depth: i32,
}

/// Lists the snapshot `nid` and all its parents, itself first.
pub async fn list_chain(conn: &mut PgConnection, nid: SnapshotNid) -> sqlx::Result<Vec<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"WITH RECURSIVE chain AS (
               SELECT nid, parent_nid, delta, depth FROM snapshot WHERE nid = $1
               UNION ALL
               SELECT s.nid, s.parent_nid, s.delta, s.depth FROM chain c JOIN snapshot s ON s.nid = c.parent_nid
           )
           SELECT nid AS "nid!", parent_nid AS "parent: SnapshotNid", delta AS "delta!", depth AS "depth!"
           FROM chain ORDER BY depth DESC"#,
        nid.0,
    )
    .fetch_all(conn)
    .await
}

/// Lists snapshots and all their parents, each once, in no order.
pub async fn list_chains(
    conn: &mut PgConnection,
    nids: &[SnapshotNid],
) -> sqlx::Result<Vec<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"WITH RECURSIVE chain AS (
               SELECT nid, parent_nid, delta, depth FROM snapshot WHERE nid = ANY ($1)
               UNION
               SELECT s.nid, s.parent_nid, s.delta, s.depth FROM chain c JOIN snapshot s ON s.nid = c.parent_nid
           )
           SELECT nid AS "nid!", parent_nid AS "parent: SnapshotNid", delta AS "delta!", depth AS "depth!" FROM chain"#,
        nids as &[SnapshotNid],
    )
    .fetch_all(conn)
    .await
}

/// Adds snapshots.
pub async fn insert(conn: &mut PgConnection, rows: &[&SnapshotRow]) -> sqlx::Result<()> {
    let nids: Vec<i64> = rows.iter().map(|row| row.nid.0).collect();
    let rooms: Vec<i64> = rows.iter().map(|row| row.room.0).collect();
    let parents: Vec<Option<i64>> = rows.iter().map(|row| row.parent.map(|nid| nid.0)).collect();
    let depths: Vec<i32> = rows.iter().map(|row| row.depth).collect();
    let deltas: Vec<&[u8]> = rows.iter().map(|row| row.delta.as_slice()).collect();
    sqlx::query!(
        "INSERT INTO snapshot (nid, room_nid, parent_nid, depth, delta)
         SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::bytea[])",
        &nids,
        &rooms,
        &parents as &[Option<i64>],
        &depths,
        &deltas as &[&[u8]],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists which of these snapshots exist, and keeps them from being deleted until the transaction ends.
pub async fn lock_all(
    conn: &mut PgConnection,
    nids: &[SnapshotNid],
) -> sqlx::Result<Vec<SnapshotNid>> {
    sqlx::query_scalar!(
        r#"SELECT nid AS "nid: SnapshotNid" FROM snapshot WHERE nid = ANY($1) ORDER BY nid FOR KEY SHARE"#,
        nids as &[SnapshotNid],
    )
    .fetch_all(conn)
    .await
}
