//! `profile`: what users tell about themselves.

use hearth_core::UserNid;
use sqlx::PgConnection;

/// A row of `profile`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRow {
    /// The field's name.
    pub key: String,
    /// Its value, JSON.
    pub value: String,
}

/// Returns all fields of a user.
pub async fn list(conn: &mut PgConnection, user: UserNid) -> sqlx::Result<Vec<FieldRow>> {
    sqlx::query_as!(
        FieldRow,
        "SELECT key, value FROM profile WHERE user_nid = $1 ORDER BY key",
        user.0,
    )
    .fetch_all(conn)
    .await
}

/// Lists the names and avatars of users: whose, the field's name, its value as JSON.
pub async fn list_shown(
    conn: &mut PgConnection,
    users: &[UserNid],
) -> sqlx::Result<Vec<(UserNid, String, String)>> {
    let rows = sqlx::query!(
        r#"SELECT user_nid AS "user: UserNid", key, value FROM profile
           WHERE user_nid = ANY($1) AND key IN ('displayname', 'avatar_url')"#,
        users as &[UserNid],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.user, row.key, row.value))
        .collect())
}

/// Returns the value of one field, JSON.
pub async fn find(
    conn: &mut PgConnection,
    user: UserNid,
    key: &str,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "SELECT value FROM profile WHERE user_nid = $1 AND key = $2",
        user.0,
        key,
    )
    .fetch_optional(conn)
    .await
}

/// How large the profile is as one JSON object, the field `except` left out.
pub async fn find_size(
    conn: &mut PgConnection,
    user: UserNid,
    except: &str,
) -> sqlx::Result<usize> {
    let size = sqlx::query_scalar!(
        r#"SELECT COALESCE(sum(octet_length(key) + octet_length(value) + 4), 0) AS "size!"
           FROM profile WHERE user_nid = $1 AND key <> $2"#,
        user.0,
        except,
    )
    .fetch_one(conn)
    .await?;

    Ok(usize::try_from(size).unwrap_or(usize::MAX))
}

/// Sets one field.
pub async fn upsert(
    conn: &mut PgConnection,
    user: UserNid,
    key: &str,
    value: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO profile (user_nid, key, value) VALUES ($1, $2, $3)
         ON CONFLICT (user_nid, key) DO UPDATE SET value = excluded.value",
        user.0,
        key,
        value,
    )
    .execute(conn)
    .await?;

    Ok(())
}

/// Removes one field.
pub async fn delete(conn: &mut PgConnection, user: UserNid, key: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM profile WHERE user_nid = $1 AND key = $2",
        user.0,
        key,
    )
    .execute(conn)
    .await?;

    Ok(())
}

/// Removes all fields of a user.
pub async fn delete_of_user(conn: &mut PgConnection, user: UserNid) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM profile WHERE user_nid = $1", user.0)
        .execute(conn)
        .await?;

    Ok(())
}
