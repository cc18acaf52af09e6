//! `server_key`, `server_key_answer`: the keys that other servers sign with.

use sqlx::PgConnection;

/// A key of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whose.
    pub server_name: String,
    /// `ed25519:…`
    pub key_id: String,
    /// The public key.
    pub key: Vec<u8>,
    /// Whether no new signatures are made with it.
    pub is_old: bool,
    /// Up to when signatures by it count.
    pub valid_until_ts: i64,
}

/// Lists the keys of servers.
pub async fn list(conn: &mut PgConnection, servers: &[&str]) -> sqlx::Result<Vec<Stored>> {
    sqlx::query_as!(
        Stored,
        "SELECT server_name, key_id, key, is_old, valid_until_ts FROM server_key WHERE server_name = ANY($1)",
        servers as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// Writes the keys that servers named, no key twice.
///
/// A key that is old stays old, and one that is in use becomes valid for longer, never for less.
pub async fn upsert(conn: &mut PgConnection, keys: &[Stored], fetched_ts: i64) -> sqlx::Result<()> {
    let servers: Vec<&str> = keys.iter().map(|key| key.server_name.as_str()).collect();
    let ids: Vec<&str> = keys.iter().map(|key| key.key_id.as_str()).collect();
    let public: Vec<&[u8]> = keys.iter().map(|key| key.key.as_slice()).collect();
    let old: Vec<bool> = keys.iter().map(|key| key.is_old).collect();
    let valid: Vec<i64> = keys.iter().map(|key| key.valid_until_ts).collect();
    sqlx::query!(
        "INSERT INTO server_key AS k (server_name, key_id, key, is_old, valid_until_ts, fetched_ts)
         SELECT w.*, $6 FROM UNNEST($1::text[], $2::text[], $3::bytea[], $4::boolean[], $5::bigint[]) AS w
         ORDER BY 1, 2
         ON CONFLICT (server_name, key_id) DO UPDATE SET
             key = excluded.key, fetched_ts = excluded.fetched_ts,
             is_old = k.is_old OR excluded.is_old,
             valid_until_ts = CASE WHEN excluded.is_old THEN excluded.valid_until_ts
                                   WHEN k.is_old THEN k.valid_until_ts
                                   ELSE GREATEST(k.valid_until_ts, excluded.valid_until_ts) END",
        &servers as &[&str],
        &ids as &[&str],
        &public as &[&[u8]],
        &old,
        &valid,
        fetched_ts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What a server answered about its keys.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Which server.
    pub server_name: String,
    /// The signed object.
    pub answer: String,
    /// Until when it says that it is valid.
    pub valid_until_ts: i64,
    /// When it came.
    pub fetched_ts: i64,
}

/// Lists the last answers of servers.
pub async fn list_answers(conn: &mut PgConnection, servers: &[&str]) -> sqlx::Result<Vec<Answer>> {
    sqlx::query_as!(
        Answer,
        "SELECT server_name, answer, valid_until_ts, fetched_ts FROM server_key_answer WHERE server_name = ANY($1)",
        servers as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// Puts an answer in place of the last one.
pub async fn upsert_answer(conn: &mut PgConnection, answer: &Answer) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO server_key_answer (server_name, answer, valid_until_ts, fetched_ts) VALUES ($1, $2, $3, $4)
         ON CONFLICT (server_name) DO UPDATE SET
             answer = excluded.answer, valid_until_ts = excluded.valid_until_ts, fetched_ts = excluded.fetched_ts",
        answer.server_name,
        answer.answer,
        answer.valid_until_ts,
        answer.fetched_ts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes keys of servers that did not answer since `fetched_ts`, the oldest `limit` of them. Gives how many.
pub async fn delete_before(
    conn: &mut PgConnection,
    fetched_ts: i64,
    limit: i64,
) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "DELETE FROM server_key WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM server_key WHERE fetched_ts < $1 ORDER BY fetched_ts LIMIT $2))",
        fetched_ts,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}

/// Deletes answers that came before `fetched_ts`, the oldest `limit` of them. Gives how many.
pub async fn delete_answers_before(
    conn: &mut PgConnection,
    fetched_ts: i64,
    limit: i64,
) -> sqlx::Result<u64> {
    let result = sqlx::query!(
        "DELETE FROM server_key_answer WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM server_key_answer WHERE fetched_ts < $1 ORDER BY fetched_ts LIMIT $2))",
        fetched_ts,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}
