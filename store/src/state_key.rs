//! `state_key`: the numbers of pairs of event type and state key.

use hearth_core::StateKeyNid;
use sqlx::PgConnection;

/// A pair with its number.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The number.
    pub nid: StateKeyNid,
    /// The event type.
    pub kind: String,
    /// The state key.
    pub key: String,
}

/// Lists those of the pairs (`kinds[i]`, `keys[i]`) that have a number.
pub async fn list(
    conn: &mut PgConnection,
    kinds: &[&str],
    keys: &[&str],
) -> sqlx::Result<Vec<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT s.nid AS "nid: StateKeyNid", s.type AS kind, s.key
           FROM UNNEST($1::text[], $2::text[]) AS w (type, key)
           JOIN state_key s ON s.type = w.type AND s.key = w.key"#,
        kinds as &[&str],
        keys as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// Lists the pairs with these numbers.
pub async fn list_by_nid(
    conn: &mut PgConnection,
    nids: &[StateKeyNid],
) -> sqlx::Result<Vec<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"SELECT nid AS "nid: StateKeyNid", type AS kind, key FROM state_key WHERE nid = ANY($1)"#,
        nids as &[StateKeyNid],
    )
    .fetch_all(conn)
    .await
}

/// Gives a number to those of the pairs that have none; sorted, so that two who do it at once cannot block each other.
pub async fn insert(conn: &mut PgConnection, kinds: &[&str], keys: &[&str]) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO state_key (type, key)
         SELECT w.type, w.key FROM UNNEST($1::text[], $2::text[]) AS w (type, key)
         ORDER BY w.type, w.key
         ON CONFLICT (type, key) DO NOTHING",
        kinds as &[&str],
        keys as &[&str],
    )
    .execute(conn)
    .await?;
    Ok(())
}
