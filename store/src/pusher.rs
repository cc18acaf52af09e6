//! `pusher`: through whom users want to be told what happens.

use hearth_core::{PusherNid, RoomNid, UserNid};
use sqlx::PgConnection;

/// A pusher as its user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PusherRow {
    /// What it is called among those of its application.
    pub pushkey: String,
    /// The application.
    pub app_id: String,
    /// How it is told: `http`.
    pub kind: String,
    /// What the application is called.
    pub app_display_name: String,
    /// What the device is called.
    pub device_display_name: String,
    /// Which rules of the device it follows.
    pub profile_tag: Option<String>,
    /// The language of its user.
    pub lang: String,
    /// What the pusher needs, JSON.
    pub data: String,
}

/// Who sets a pusher, and when.
#[derive(Clone, Copy, Debug)]
pub struct Setter<'a> {
    /// The user.
    pub user: UserNid,
    /// The device, unless the token has none.
    pub device_id: Option<&'a str>,
    /// When, in milliseconds since the epoch.
    pub ts: i64,
}

/// What [`upsert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Upserted {
    /// The pusher is set.
    Yes,
    /// The device is gone.
    NoDevice,
}

/// Sets a pusher; one that the user has already is changed, and tried again at once if it failed.
pub async fn upsert(
    conn: &mut PgConnection,
    by: Setter<'_>,
    row: &PusherRow,
) -> sqlx::Result<Upserted> {
    let result = sqlx::query!(
        "INSERT INTO pusher (user_nid, device_id, app_id, pushkey, kind, app_display_name, device_display_name,
                             profile_tag, lang, data, set_ts)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
         WHERE $2::text IS NULL OR EXISTS (SELECT FROM device WHERE user_nid = $1 AND device_id = $2)
         ON CONFLICT (app_id, pushkey, user_nid) DO UPDATE SET
             device_id = excluded.device_id, kind = excluded.kind, app_display_name = excluded.app_display_name,
             device_display_name = excluded.device_display_name, profile_tag = excluded.profile_tag,
             lang = excluded.lang, data = excluded.data, set_ts = excluded.set_ts, failures = 0, retry_ts = 0",
        by.user.0,
        by.device_id,
        row.app_id,
        row.pushkey,
        row.kind,
        row.app_display_name,
        row.device_display_name,
        row.profile_tag,
        row.lang,
        row.data,
        by.ts,
    )
    .execute(conn)
    .await?;
    Ok(match result.rows_affected() {
        0 => Upserted::NoDevice,
        _ => Upserted::Yes,
    })
}

/// Lists the pushers of a user, the oldest first.
pub async fn list(conn: &mut PgConnection, user: UserNid) -> sqlx::Result<Vec<PusherRow>> {
    sqlx::query_as!(
        PusherRow,
        "SELECT pushkey, app_id, kind, app_display_name, device_display_name, profile_tag, lang, data
         FROM pusher WHERE user_nid = $1 ORDER BY nid",
        user.0,
    )
    .fetch_all(conn)
    .await
}

/// How many pushers a user has beside the one with these names.
pub async fn count_others(
    conn: &mut PgConnection,
    user: UserNid,
    app_id: &str,
    pushkey: &str,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM pusher
           WHERE user_nid = $1 AND (app_id <> $2 OR pushkey <> $3)"#,
        user.0,
        app_id,
        pushkey,
    )
    .fetch_one(conn)
    .await
}

/// Deletes the user's pusher with these names, if there is one.
pub async fn delete(
    conn: &mut PgConnection,
    user: UserNid,
    app_id: &str,
    pushkey: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM pusher WHERE user_nid = $1 AND app_id = $2 AND pushkey = $3",
        user.0,
        app_id,
        pushkey,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes the pushers with these names of all other users.
pub async fn delete_of_others(
    conn: &mut PgConnection,
    user: UserNid,
    app_id: &str,
    pushkey: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM pusher WHERE user_nid <> $1 AND app_id = $2 AND pushkey = $3",
        user.0,
        app_id,
        pushkey,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes a pusher that its gateway rejects, unless its user set it again after `set_ts`.
pub async fn delete_rejected(
    conn: &mut PgConnection,
    nid: PusherNid,
    set_ts: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM pusher WHERE nid = $1 AND set_ts <= $2",
        nid.0,
        set_ts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes the pushers of a user that were set with a token without a device.
pub async fn delete_without_device(conn: &mut PgConnection, user: UserNid) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM pusher WHERE user_nid = $1 AND device_id IS NULL",
        user.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lists users that have pushers, after `after`, the first `limit`.
pub async fn list_owners(
    conn: &mut PgConnection,
    after: UserNid,
    limit: i64,
) -> sqlx::Result<Vec<UserNid>> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT user_nid AS "user: UserNid" FROM pusher
           WHERE user_nid > $1 ORDER BY user_nid LIMIT $2"#,
        after.0,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// Lists the pushers of these users.
pub async fn list_of_users(
    conn: &mut PgConnection,
    users: &[UserNid],
) -> sqlx::Result<Vec<(PusherNid, UserNid)>> {
    let rows = sqlx::query!(
        r#"SELECT nid AS "nid: PusherNid", user_nid AS "user: UserNid" FROM pusher WHERE user_nid = ANY($1)"#,
        users as &[UserNid],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.nid, row.user)).collect())
}

/// A user with pushers who is joined to a room.
#[derive(Clone, Debug)]
pub struct Hearer {
    /// The room.
    pub room: RoomNid,
    /// The user.
    pub user: UserNid,
    /// `@…`
    pub user_id: String,
}

/// Lists the users with pushers that are joined to these rooms.
pub async fn list_hearers(conn: &mut PgConnection, rooms: &[RoomNid]) -> sqlx::Result<Vec<Hearer>> {
    sqlx::query_as!(
        Hearer,
        r#"SELECT m.room_nid AS room, m.user_nid AS user, u.user_id
           FROM membership m JOIN user_id u ON u.nid = m.user_nid
           WHERE m.room_nid = ANY($1) AND m.membership = 'join'
             AND EXISTS (SELECT FROM pusher p WHERE p.user_nid = m.user_nid)"#,
        rooms as &[RoomNid],
    )
    .fetch_all(conn)
    .await
}

/// When the next pusher after `now` may be tried again.
pub async fn find_next_retry(conn: &mut PgConnection, now: i64) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "SELECT retry_ts FROM pusher WHERE failures > 0 AND retry_ts > $1 ORDER BY retry_ts LIMIT 1",
        now,
    )
    .fetch_optional(conn)
    .await
}

/// Notes that sending failed once more, and when it is tried again.
pub async fn update_failed(
    conn: &mut PgConnection,
    nid: PusherNid,
    retry_ts: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE pusher SET failures = failures + 1, retry_ts = $2 WHERE nid = $1",
        nid.0,
        retry_ts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes what a gateway was told, and that it can be reached.
pub async fn update_told(
    conn: &mut PgConnection,
    nid: PusherNid,
    unread: i64,
    missed_calls: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE pusher SET unread = $2, missed_calls = $3, failures = 0, retry_ts = 0
         WHERE nid = $1 AND (unread, missed_calls, failures) IS DISTINCT FROM ($2, $3, 0)",
        nid.0,
        unread,
        missed_calls,
    )
    .execute(conn)
    .await?;
    Ok(())
}
