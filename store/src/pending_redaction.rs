//! `pending_redaction`: redactions whose target has not come yet. Journalled.

use hearth_core::EventNid;
use sqlx::PgConnection;

/// Adds redactions, each with the id of its target.
///
/// Who stores a target later asks [`list`] and decides which of them apply: only then the target's sender is known.
pub async fn insert(
    conn: &mut PgConnection,
    targets: &[&str],
    redactions: &[EventNid],
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO pending_redaction (target_event_id, redaction_nid)
         SELECT * FROM UNNEST($1::text[], $2::bigint[])
         ON CONFLICT DO NOTHING",
        targets as &[&str],
        redactions as &[EventNid],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists the redactions that wait for these events: the target's id, and the redaction.
pub async fn list(
    conn: &mut PgConnection,
    targets: &[&str],
) -> sqlx::Result<Vec<(String, EventNid)>> {
    let rows = sqlx::query!(
        r#"SELECT target_event_id, redaction_nid AS "redaction: EventNid"
           FROM pending_redaction WHERE target_event_id = ANY($1) ORDER BY redaction_nid"#,
        targets as &[&str],
    )
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|row| (row.target_event_id, row.redaction))
        .collect())
}

/// Deletes the redactions that wait for these events: what applies is noted beside the targets now.
pub async fn delete(conn: &mut PgConnection, targets: &[&str]) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM pending_redaction WHERE target_event_id = ANY($1)",
        targets as &[&str],
    )
    .execute(conn)
    .await?;
    Ok(())
}
