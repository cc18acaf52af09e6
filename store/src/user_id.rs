//! `user_id`: the numbers of user ids.

use hearth_core::UserNid;
use sqlx::PgConnection;

/// Lists the numbers of those of `ids` that have one.
pub async fn list_nids(
    conn: &mut PgConnection,
    ids: &[&str],
) -> sqlx::Result<Vec<(String, UserNid)>> {
    let rows = sqlx::query!(
        r#"SELECT user_id, nid AS "nid: UserNid" FROM user_id WHERE user_id = ANY($1)"#,
        ids as &[&str],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.user_id, row.nid)).collect())
}

/// Lists the ids of these numbers.
pub async fn list_ids(
    conn: &mut PgConnection,
    nids: &[UserNid],
) -> sqlx::Result<Vec<(UserNid, String)>> {
    let rows = sqlx::query!(
        r#"SELECT user_id, nid AS "nid: UserNid" FROM user_id WHERE nid = ANY($1)"#,
        nids as &[UserNid],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.nid, row.user_id)).collect())
}

/// Gives a number to those of `ids` that have none; sorted, so that two who do it at once cannot block each other.
pub async fn insert(conn: &mut PgConnection, ids: &[&str]) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO user_id (user_id) SELECT id FROM UNNEST($1::text[]) AS id ORDER BY id
         ON CONFLICT (user_id) DO NOTHING",
        ids as &[&str],
    )
    .execute(conn)
    .await?;
    Ok(())
}
