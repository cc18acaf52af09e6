//! `lease`: work that one process does at a time.

use sqlx::PgConnection;

/// Whether a lease is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// By the one who asked.
    Yes,
    /// By somebody else.
    No,
}

/// Takes the lease for `millis`, or holds it for longer, unless somebody else holds it.
pub async fn hold(
    conn: &mut PgConnection,
    name: &str,
    holder: i64,
    millis: i64,
) -> sqlx::Result<Held> {
    let result = sqlx::query!(
        "INSERT INTO lease AS l (name, holder, until_ts)
         VALUES ($1, $2, (extract(epoch FROM clock_timestamp()) * 1000)::bigint + $3)
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ts = excluded.until_ts
         WHERE l.holder = excluded.holder OR l.until_ts < (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
        name,
        holder,
        millis,
    )
    .execute(conn)
    .await?;
    Ok(match result.rows_affected() {
        0 => Held::No,
        _ => Held::Yes,
    })
}

/// Takes the lease from whoever holds it.
pub async fn seize(
    conn: &mut PgConnection,
    name: &str,
    holder: i64,
    millis: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO lease (name, holder, until_ts)
         VALUES ($1, $2, (extract(epoch FROM clock_timestamp()) * 1000)::bigint + $3)
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ts = excluded.until_ts",
        name,
        holder,
        millis,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Gives the lease back, if `holder` has it.
pub async fn delete(conn: &mut PgConnection, name: &str, holder: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM lease WHERE name = $1 AND holder = $2",
        name,
        holder,
    )
    .execute(conn)
    .await?;
    Ok(())
}
