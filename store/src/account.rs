//! `account`: the users of this server.

use hearth_core::UserNid;
use sqlx::PgConnection;

/// A row of `account`.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns")]
pub struct AccountRow {
    /// Whose.
    pub user: UserNid,
    /// The part of the user id before the colon.
    pub localpart: String,
    /// Argon2id, a PHC string; `None` means that no password fits.
    pub password_hash: Option<String>,
    /// Whether the user administers the server.
    pub admin: bool,
    /// Whether the user is a guest.
    pub guest: bool,
    /// Whether the account is closed for good.
    pub deactivated: bool,
    /// Whether the account is locked.
    pub locked: bool,
    /// Whether the account is suspended.
    pub suspended: bool,
}

/// An account to insert.
#[derive(Clone, Copy, Debug)]
pub struct NewAccountRow<'a> {
    /// Whose.
    pub user: UserNid,
    /// The part of the user id before the colon.
    pub localpart: &'a str,
    /// Argon2id, a PHC string.
    pub password_hash: Option<&'a str>,
    /// Whether the user administers the server.
    pub admin: bool,
    /// Whether the user is a guest.
    pub guest: bool,
    /// The application service that made the user.
    pub appservice_id: Option<&'a str>,
    /// When, in milliseconds since the epoch.
    pub created_ts: i64,
}

/// What [`insert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Inserted {
    /// The account is new.
    Yes,
    /// The name is taken; nothing changed.
    Taken,
}

/// What an administrator may change; `None` leaves a field as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moderation {
    /// Whether the account is locked.
    pub locked: Option<bool>,
    /// Whether the account is suspended.
    pub suspended: Option<bool>,
}

/// Creates an account unless the name is taken.
pub async fn insert(conn: &mut PgConnection, row: &NewAccountRow<'_>) -> sqlx::Result<Inserted> {
    let result = sqlx::query!(
        "INSERT INTO account (user_nid, localpart, password_hash, admin, guest, appservice_id, created_ts)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT DO NOTHING",
        row.user.0,
        row.localpart,
        row.password_hash,
        row.admin,
        row.guest,
        row.appservice_id,
        row.created_ts,
    )
    .execute(conn)
    .await?;

    Ok(match result.rows_affected() {
        0 => Inserted::Taken,
        _ => Inserted::Yes,
    })
}

/// Returns the account called `localpart`.
pub async fn find_by_localpart(
    conn: &mut PgConnection,
    localpart: &str,
) -> sqlx::Result<Option<AccountRow>> {
    sqlx::query_as!(
        AccountRow,
        "SELECT user_nid AS user, localpart, password_hash, admin, guest, deactivated, locked, suspended
         FROM account WHERE localpart = $1",
        localpart,
    )
    .fetch_optional(conn)
    .await
}

/// Returns the account of `user`.
pub async fn find(conn: &mut PgConnection, user: UserNid) -> sqlx::Result<Option<AccountRow>> {
    sqlx::query_as!(
        AccountRow,
        "SELECT user_nid AS user, localpart, password_hash, admin, guest, deactivated, locked, suspended
         FROM account WHERE user_nid = $1",
        user.0,
    )
    .fetch_optional(conn)
    .await
}

/// Locks the account's row against other changes until the transaction ends.
///
/// Whoever adds or removes devices of a user takes it first.
pub async fn lock(conn: &mut PgConnection, user: UserNid) -> sqlx::Result<Option<UserNid>> {
    let found = sqlx::query_scalar!(
        "SELECT user_nid FROM account WHERE user_nid = $1 AND NOT deactivated FOR UPDATE",
        user.0,
    )
    .fetch_optional(conn)
    .await?;

    Ok(found.map(UserNid))
}

/// Replaces the password.
pub async fn update_password(
    conn: &mut PgConnection,
    user: UserNid,
    password_hash: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE account SET password_hash = $2 WHERE user_nid = $1 AND NOT deactivated",
        user.0,
        password_hash,
    )
    .execute(conn)
    .await?;

    Ok(())
}

/// Makes a guest an ordinary user with a password; says whether it was a guest.
pub async fn update_guest(
    conn: &mut PgConnection,
    user: UserNid,
    password_hash: &str,
) -> sqlx::Result<bool> {
    let result = sqlx::query!(
        "UPDATE account SET guest = false, password_hash = $2 WHERE user_nid = $1 AND guest AND NOT deactivated",
        user.0,
        password_hash,
    )
    .execute(conn)
    .await?;

    Ok(result.rows_affected() > 0)
}

/// Changes what `moderation` says.
pub async fn update_moderation(
    conn: &mut PgConnection,
    user: UserNid,
    moderation: Moderation,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE account
         SET locked = COALESCE($2, locked), suspended = COALESCE($3, suspended)
         WHERE user_nid = $1",
        user.0,
        moderation.locked,
        moderation.suspended,
    )
    .execute(conn)
    .await?;

    Ok(())
}

/// Whether the messages of a closed account are to be hidden from those who have not seen them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erase {
    /// They are.
    Yes,
    /// They stay.
    No,
}

/// Closes the account for good, forgets its password and notes that the user has rooms to leave.
pub async fn update_deactivated(
    conn: &mut PgConnection,
    user: UserNid,
    erase: Erase,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE account SET deactivated = true, erased = erased OR $2, password_hash = NULL, leaving = true
         WHERE user_nid = $1",
        user.0,
        erase == Erase::Yes,
    )
    .execute(conn)
    .await?;

    Ok(())
}

/// Keeps those of `users` whose messages are to be hidden.
pub async fn list_erased(conn: &mut PgConnection, users: &[UserNid]) -> sqlx::Result<Vec<UserNid>> {
    sqlx::query_scalar!(
        r#"SELECT user_nid AS "user: UserNid" FROM account WHERE user_nid = ANY($1) AND erased"#,
        users as &[UserNid],
    )
    .fetch_all(conn)
    .await
}

/// Lists up to `limit` users of closed accounts that have rooms to leave.
pub async fn list_leaving(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<UserNid>> {
    let users = sqlx::query_scalar!(
        "SELECT user_nid FROM account WHERE leaving ORDER BY user_nid LIMIT $1",
        limit,
    )
    .fetch_all(conn)
    .await?;

    Ok(users.into_iter().map(UserNid).collect())
}

/// Notes that the user has left all rooms.
pub async fn update_left(conn: &mut PgConnection, user: UserNid) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE account SET leaving = false WHERE user_nid = $1",
        user.0
    )
    .execute(conn)
    .await?;

    Ok(())
}
