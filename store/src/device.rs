//! `device`: the devices of this server's users.

use hearth_core::UserNid;
use sqlx::PgConnection;

/// A row of `device`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRow {
    /// The device's id.
    pub device_id: String,
    /// What its user calls it.
    pub display_name: Option<String>,
    /// When it was last seen, in milliseconds since the epoch.
    pub last_seen_ts: Option<i64>,
    /// The address that it was last seen at.
    pub last_seen_ip: Option<String>,
    /// The program that it last used.
    pub last_seen_user_agent: Option<String>,
}

/// When and where a device was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Whose device.
    pub user: UserNid,
    /// Which device.
    pub device_id: String,
    /// When, in milliseconds since the epoch.
    pub ts: i64,
    /// At which address.
    pub ip: Option<String>,
    /// With which program.
    pub user_agent: Option<String>,
}

/// What [`insert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Inserted {
    /// The device is new.
    Yes,
    /// The user has such a device already; nothing changed.
    Known,
}

/// Adds a device unless the user has it.
pub async fn insert(
    conn: &mut PgConnection,
    user: UserNid,
    device_id: &str,
    display_name: Option<&str>,
    created_ts: i64,
) -> sqlx::Result<Inserted> {
    let result = sqlx::query!(
        "INSERT INTO device (user_nid, device_id, display_name, created_ts)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (user_nid, device_id) DO NOTHING",
        user.0,
        device_id,
        display_name,
        created_ts,
    )
    .execute(conn)
    .await?;

    Ok(match result.rows_affected() {
        0 => Inserted::Known,
        _ => Inserted::Yes,
    })
}

/// Returns the devices of `user`.
pub async fn list(conn: &mut PgConnection, user: UserNid) -> sqlx::Result<Vec<DeviceRow>> {
    sqlx::query_as!(
        DeviceRow,
        "SELECT device_id, display_name, last_seen_ts, last_seen_ip, last_seen_user_agent
         FROM device WHERE user_nid = $1 ORDER BY device_id",
        user.0,
    )
    .fetch_all(conn)
    .await
}

/// Returns the ids of all devices of these users.
pub async fn list_ids(
    conn: &mut PgConnection,
    users: &[UserNid],
) -> sqlx::Result<Vec<(UserNid, String)>> {
    let rows = sqlx::query!(
        r#"SELECT user_nid AS "user: UserNid", device_id FROM device WHERE user_nid = ANY($1)"#,
        users as &[UserNid],
    )
    .fetch_all(conn)
    .await?;

    Ok(rows
        .into_iter()
        .map(|row| (row.user, row.device_id))
        .collect())
}

/// Returns one device.
pub async fn find(
    conn: &mut PgConnection,
    user: UserNid,
    device_id: &str,
) -> sqlx::Result<Option<DeviceRow>> {
    sqlx::query_as!(
        DeviceRow,
        "SELECT device_id, display_name, last_seen_ts, last_seen_ip, last_seen_user_agent
         FROM device WHERE user_nid = $1 AND device_id = $2",
        user.0,
        device_id,
    )
    .fetch_optional(conn)
    .await
}

/// What [`update_display_name`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Renamed {
    /// The device has the name now.
    Yes,
    /// The user has no such device.
    Unknown,
}

/// Names a device; without a name it stays as it is.
pub async fn update_display_name(
    conn: &mut PgConnection,
    user: UserNid,
    device_id: &str,
    display_name: Option<&str>,
) -> sqlx::Result<Renamed> {
    let result = sqlx::query!(
        "UPDATE device SET display_name = COALESCE($3, display_name)
         WHERE user_nid = $1 AND device_id = $2",
        user.0,
        device_id,
        display_name,
    )
    .execute(conn)
    .await?;

    Ok(match result.rows_affected() {
        0 => Renamed::Unknown,
        _ => Renamed::Yes,
    })
}

/// Notes when and where devices were seen; each device at most once in `sightings`.
pub async fn update_last_seen(conn: &mut PgConnection, sightings: &[Sighting]) -> sqlx::Result<()> {
    let users: Vec<i64> = sightings.iter().map(|s| s.user.0).collect();
    let devices: Vec<String> = sightings.iter().map(|s| s.device_id.clone()).collect();
    let times: Vec<i64> = sightings.iter().map(|s| s.ts).collect();
    let addresses: Vec<Option<String>> = sightings.iter().map(|s| s.ip.clone()).collect();
    let agents: Vec<Option<String>> = sightings.iter().map(|s| s.user_agent.clone()).collect();
    sqlx::query!(
        "UPDATE device
         SET last_seen_ts = seen.ts,
             last_seen_ip = COALESCE(seen.ip, device.last_seen_ip),
             last_seen_user_agent = COALESCE(seen.user_agent, device.last_seen_user_agent)
         FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[])
              AS seen (user_nid, device_id, ts, ip, user_agent)
         WHERE device.user_nid = seen.user_nid AND device.device_id = seen.device_id
           AND COALESCE(device.last_seen_ts, 0) < seen.ts",
        &users,
        &devices,
        &times,
        &addresses as &[Option<String>],
        &agents as &[Option<String>],
    )
    .execute(conn)
    .await?;

    Ok(())
}

/// Removes devices and returns which of them there were.
pub async fn delete(
    conn: &mut PgConnection,
    user: UserNid,
    device_ids: &[String],
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "DELETE FROM device WHERE user_nid = $1 AND device_id = ANY($2) RETURNING device_id",
        user.0,
        device_ids,
    )
    .fetch_all(conn)
    .await
}

/// Removes all devices of a user but one, and returns which there were.
pub async fn delete_others(
    conn: &mut PgConnection,
    user: UserNid,
    except: Option<&str>,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "DELETE FROM device WHERE user_nid = $1 AND device_id IS DISTINCT FROM $2
         RETURNING device_id",
        user.0,
        except,
    )
    .fetch_all(conn)
    .await
}
