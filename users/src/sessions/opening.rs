//! Opening sessions: devices and their tokens.

use std::time::Duration;

use hearth_core::UserNid;
use hearth_store::{
    access_token::{self, AccessTokenRow},
    account, device,
    refresh_token::{self, RefreshTokenRow},
    write::Write,
};
use ruma::{DeviceId, OwnedDeviceId};
use sqlx::PgConnection;

use super::{SessionError, Sessions};
use crate::secret::{self, TokenHash};

/// The longest device id.
const MAX_DEVICE_ID: usize = 255;

/// The longest name of a device; longer ones are cut.
const MAX_DISPLAY_NAME: usize = 100;

/// Whether a client refreshes its access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshable {
    /// It does: the token soon expires.
    Yes,
    /// It does not: the token lives as long as its device.
    No,
}

impl From<bool> for Refreshable {
    fn from(refreshes: bool) -> Self {
        if refreshes { Self::Yes } else { Self::No }
    }
}

/// A session to be opened.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Whose.
    pub user: UserNid,
    /// With which device; a known one loses the tokens that it had.
    pub device_id: Option<OwnedDeviceId>,
    /// What a new device is called.
    pub display_name: Option<String>,
    /// Whether the client refreshes its token.
    pub refreshable: Refreshable,
}

/// What a client gets when it logs in or refreshes its token.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The device.
    pub device_id: OwnedDeviceId,
    /// The access token.
    pub access_token: String,
    /// The refresh token, for clients that refresh.
    pub refresh_token: Option<String>,
    /// How long the access token lives; `None` is forever.
    pub expires_in: Option<Duration>,
}

impl NewSession {
    /// Whether a session can be opened with such a device, to be asked before anything is used up for it.
    ///
    /// # Errors
    ///
    /// [`SessionError::InvalidDeviceId`], [`SessionError::InvalidDisplayName`].
    pub fn check(
        device_id: Option<&DeviceId>,
        display_name: Option<&str>,
    ) -> Result<(), SessionError> {
        let is_valid = |id: &DeviceId| {
            let id = id.as_str();
            (1..=MAX_DEVICE_ID).contains(&id.len()) && !id.contains('\0')
        };
        if !device_id.is_none_or(is_valid) {
            return Err(SessionError::InvalidDeviceId);
        }
        if display_name.is_some_and(|name| name.contains('\0')) {
            return Err(SessionError::InvalidDisplayName);
        }
        Ok(())
    }
}

impl Sessions {
    /// Opens a session: a new device, or a known one whose tokens are replaced.
    ///
    /// # Errors
    ///
    /// [`SessionError::NoAccount`] for closed accounts, and as [`NewSession::check`].
    pub async fn open(&self, new: &NewSession) -> Result<Opened, SessionError> {
        NewSession::check(new.device_id.as_deref(), new.display_name.as_deref())?;
        hearth_store::retry("open session", || self.open_once(new)).await
    }

    async fn open_once(&self, new: &NewSession) -> Result<Opened, SessionError> {
        let now = self.0.clock.millis();
        let mut tx = self.0.pool.begin().await?;
        let user = account::lock(&mut tx, new.user).await?;
        let user = user.ok_or(SessionError::NoAccount)?;
        let device_id = match &new.device_id {
            Some(id) => id.clone(),
            None => secret::device_id().into(),
        };
        let name = new.display_name.as_deref().map(cut_display_name);
        let inserted = device::insert(&mut tx, user, device_id.as_str(), name, now).await?;
        let mut revoked = Vec::new();
        if inserted == device::Inserted::Known {
            let ids = [device_id.to_string()];
            refresh_token::delete_of_devices(&mut tx, user, &ids).await?;
            revoked = access_token::delete_of_devices(&mut tx, user, &ids).await?;
        }
        let opened = self
            .issue(&mut tx, user, &device_id, new.refreshable)
            .await?;
        match inserted {
            device::Inserted::Yes => {
                let write = Write {
                    device_lists: vec![user],
                    ..Write::default()
                };
                self.0.journal.commit(tx, write).await?;
            }
            device::Inserted::Known => tx.commit().await?,
        }
        self.0.cache.forget(&revoked);
        Ok(opened)
    }

    /// Makes tokens for a device.
    pub(super) async fn issue(
        &self,
        conn: &mut PgConnection,
        user: UserNid,
        device_id: &DeviceId,
        refreshable: Refreshable,
    ) -> sqlx::Result<Opened> {
        let now = self.0.clock.millis();
        let access = secret::token("hrt_");
        let access_hash = TokenHash::of(&access);
        let lifetime = self.0.config.access_token_lifetime.duration();
        let expires_in = (refreshable == Refreshable::Yes).then_some(lifetime);
        let row = AccessTokenRow {
            hash: access_hash.as_bytes(),
            user,
            device_id: device_id.as_str(),
            created_ts: now,
            expires_ts: expires_in.map(|lifetime| now.saturating_add(millis(lifetime))),
        };
        access_token::insert(conn, &row).await?;
        let mut refresh = None;
        if refreshable == Refreshable::Yes {
            let token = secret::token("hrr_");
            let row = RefreshTokenRow {
                hash: TokenHash::of(&token).as_bytes().to_vec(),
                user,
                device_id: device_id.to_string(),
                access_hash: access_hash.as_bytes().to_vec(),
                next_hash: None,
                expires_ts: self
                    .0
                    .config
                    .refresh_token_lifetime
                    .map(|lifetime| now.saturating_add(millis(lifetime.duration()))),
            };
            refresh_token::insert(conn, &row).await?;
            refresh = Some(token);
        }
        Ok(Opened {
            device_id: device_id.to_owned(),
            access_token: access,
            refresh_token: refresh,
            expires_in,
        })
    }
}

/// `name`, cut to what is stored.
pub(crate) fn cut_display_name(name: &str) -> &str {
    match name.char_indices().nth(MAX_DISPLAY_NAME) {
        Some((end, _)) => &name[..end],
        None => name,
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
