//! The devices of this server's users.

use hearth_core::UserNid;
use hearth_journal::{Journal, WriteError};
use hearth_store::{
    device::{self, DeviceRow, Renamed},
    write::Write,
};
use ruma::DeviceId;
use sqlx::PgPool;

use crate::sessions::{SessionError, Sessions, cut_display_name};

/// Why a device is not renamed.
#[derive(Debug, thiserror::Error)]
pub enum RenameError {
    /// The user has no such device.
    #[error("there is no such device")]
    NotFound,
    /// The database failed.
    #[error("renaming a device failed")]
    Storage(#[from] sqlx::Error),
    /// The log failed.
    #[error("renaming a device failed")]
    Journal(#[from] WriteError),
}

/// The devices of this server's users.
#[derive(Clone, Debug)]
pub struct Devices {
    pool: PgPool,
    journal: Journal,
    sessions: Sessions,
}

impl Devices {
    /// Devices in `pool`.
    #[must_use]
    pub fn new(pool: PgPool, journal: Journal, sessions: Sessions) -> Self {
        Self {
            pool,
            journal,
            sessions,
        }
    }

    /// Returns the devices of `user`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(&self, user: UserNid) -> sqlx::Result<Vec<DeviceRow>> {
        let mut conn = self.pool.acquire().await?;
        let mut devices = device::list(&mut conn, user).await?;
        self.add_sightings(user, &mut devices);
        Ok(devices)
    }

    /// Returns one device of `user`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find(
        &self,
        user: UserNid,
        device_id: &DeviceId,
    ) -> sqlx::Result<Option<DeviceRow>> {
        let mut conn = self.pool.acquire().await?;
        let mut device = device::find(&mut conn, user, device_id.as_str()).await?;
        self.add_sightings(user, device.as_mut_slice());
        Ok(device)
    }

    /// Adds what is not written down yet.
    fn add_sightings(&self, user: UserNid, devices: &mut [DeviceRow]) {
        for sighting in self.sessions.unwritten_sightings(user) {
            let device = devices
                .iter_mut()
                .find(|device| device.device_id == sighting.device_id);
            if let Some(device) = device {
                device.last_seen_ts = device.last_seen_ts.max(Some(sighting.ts));
                device.last_seen_ip = sighting.ip.or(device.last_seen_ip.take());
                device.last_seen_user_agent =
                    sighting.user_agent.or(device.last_seen_user_agent.take());
            }
        }
    }

    /// Names a device and tells of it; without a name nothing changes.
    ///
    /// # Errors
    ///
    /// [`RenameError::NotFound`].
    pub async fn rename(
        &self,
        user: UserNid,
        device_id: &DeviceId,
        name: Option<&str>,
    ) -> Result<(), RenameError> {
        hearth_store::retry("rename device", || async {
            let mut tx = self.pool.begin().await?;
            let cut = name.map(cut_display_name);
            let renamed =
                device::update_display_name(&mut tx, user, device_id.as_str(), cut).await?;
            match (renamed, name) {
                (Renamed::Unknown, _) => return Err(RenameError::NotFound),
                (Renamed::Yes, None) => tx.commit().await?,
                (Renamed::Yes, Some(_)) => {
                    let write = Write {
                        device_lists: vec![user],
                        ..Write::default()
                    };
                    self.journal.commit(tx, write).await?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Removes devices with their tokens; unknown ones are passed over.
    ///
    /// # Errors
    ///
    /// When the database or the log fails.
    pub async fn remove(&self, user: UserNid, device_ids: &[String]) -> Result<(), SessionError> {
        self.sessions.remove_devices(user, device_ids).await
    }
}
