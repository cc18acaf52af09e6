//! Which access token stands for whom: logging in, refreshing, logging out.
//!
//! # Staleness
//!
//! A process that knows that it is the only one (`Occupancy`) keeps sessions in memory and drops them as it changes them,
//! so that a revoked token is refused by the next request. With several processes nothing in memory is believed: each
//! request reads one row by its key.

mod cache;
mod closing;
mod opening;
mod refresh;
mod seen;

use std::{net::IpAddr, sync::Arc, time::Duration};

use hearth_core::{Clock, UserNid, config};
use hearth_journal::{Journal, WriteError};
use hearth_store::{
    Occupancy,
    access_token::{self, SessionRow},
    device::{self, Sighting},
};
use ruma::{OwnedDeviceId, OwnedUserId};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

pub(crate) use self::opening::cut_display_name;
use self::{cache::Cache, seen::LastSeen};
pub use self::{
    opening::{NewSession, Opened, Refreshable},
    refresh::RefreshError,
};
use crate::secret::TokenHash;

/// How often it is written down when devices were seen.
const SEEN_INTERVAL: Duration = Duration::from_secs(30);

/// What an account may do at the moment (specification, "Account moderation").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything.
    Good,
    /// Read and leave, but not write.
    Suspended,
    /// Nothing but log out.
    Locked,
}

impl Standing {
    /// The standing of an account; a lock weighs more than a suspension.
    pub(crate) fn of(locked: bool, suspended: bool) -> Self {
        match (locked, suspended) {
            (true, _) => Self::Locked,
            (false, true) => Self::Suspended,
            (false, false) => Self::Good,
        }
    }
}

/// Whom an access token stands for.
#[derive(Clone, Debug)]
pub struct Session {
    /// The user.
    pub user_id: OwnedUserId,
    /// The user's number.
    pub user: UserNid,
    /// The device; `None` for tokens that administrators make.
    pub device_id: Option<OwnedDeviceId>,
    /// Whether the user administers the server.
    pub admin: bool,
    /// Whether the user is a guest.
    pub guest: bool,
    /// What the user may do.
    pub standing: Standing,
    hash: TokenHash,
    expires_ts: Option<i64>,
    changed: CancellationToken,
}

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// It was never given out, or it was taken back.
    #[error("the access token is unknown")]
    Unknown,
    /// It expired; its device is still there, so that the client refreshes it or logs in again (soft logout).
    #[error("the access token has expired")]
    Expired,
    /// The database failed.
    #[error("looking an access token up failed")]
    Storage(#[from] sqlx::Error),
}

/// Why a session could not be opened or closed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The account is closed or was never there.
    #[error("there is no such account")]
    NoAccount,
    /// No device can have this id.
    #[error("the device id is empty or too long")]
    InvalidDeviceId,
    /// No device can have this name.
    #[error("the name of a device cannot have a null character")]
    InvalidDisplayName,
    /// The database failed.
    #[error("changing a session failed")]
    Storage(#[from] sqlx::Error),
    /// The log failed.
    #[error("telling of a changed device failed")]
    Journal(#[from] WriteError),
}

/// What [`Sessions`] works with.
#[derive(Clone, Debug)]
pub struct SessionsParts {
    /// The database.
    pub pool: PgPool,
    /// Where it is told that devices changed.
    pub journal: Journal,
    /// The time.
    pub clock: Clock,
    /// Whether other processes change sessions too.
    pub occupancy: Occupancy,
    /// How long sessions last.
    pub config: config::Sessions,
}

/// The sessions of this server's users.
#[derive(Clone, Debug)]
pub struct Sessions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    journal: Journal,
    clock: Clock,
    config: config::Sessions,
    cache: Cache,
    seen: LastSeen,
}

impl Sessions {
    /// The sessions that `parts` describe.
    #[must_use]
    pub fn new(parts: SessionsParts) -> Self {
        Self(Arc::new(Inner {
            pool: parts.pool,
            journal: parts.journal,
            clock: parts.clock,
            config: parts.config,
            cache: Cache::new(parts.occupancy),
            seen: LastSeen::default(),
        }))
    }

    /// Says whom `token` stands for.
    ///
    /// The first use of a token that came from a refresh ends what it replaced.
    ///
    /// # Errors
    ///
    /// [`AuthError::Unknown`] and [`AuthError::Expired`] when it stands for nobody.
    pub async fn authenticate(&self, token: &str) -> Result<Arc<Session>, AuthError> {
        self.find(TokenHash::of(token)).await
    }

    /// Says whom the token of `session` stands for by now: who waits for long may have been logged out meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Sessions::authenticate`]. A token that is refreshed counts as expired when it is gone: the client may have the
    /// one that replaced it, and is not to forget its keys.
    pub async fn authenticate_again(&self, session: &Session) -> Result<Arc<Session>, AuthError> {
        match self.find(session.hash).await {
            Err(AuthError::Unknown) if session.expires_ts.is_some() => Err(AuthError::Expired),
            outcome => outcome,
        }
    }

    async fn find(&self, hash: TokenHash) -> Result<Arc<Session>, AuthError> {
        let session = match self.0.cache.get(&hash) {
            Some(session) => session,
            // In a box, so that whoever waits for long keeps no room for it.
            None => Box::pin(self.look_up(hash)).await?,
        };
        match session.expires_ts {
            Some(expiry) if expiry <= self.0.clock.millis() => Err(AuthError::Expired),
            Some(_) | None => Ok(session),
        }
    }

    async fn look_up(&self, hash: TokenHash) -> Result<Arc<Session>, AuthError> {
        let ticket = self.0.cache.ticket();
        let mut conn = self.0.pool.acquire().await?;
        let row = access_token::find(&mut conn, hash.as_bytes()).await?;
        let row = row.ok_or(AuthError::Unknown)?;
        drop(conn);
        if row.replaces {
            self.retire_replaced(&row, hash).await?;
        }
        let session = Arc::new(Session::from_row(row, hash)?);
        Ok(self.0.cache.insert(hash, session, ticket))
    }

    /// Notes that the session's device was seen at `address` with the program `user_agent`.
    ///
    /// It is written down later, with those of other devices.
    pub fn note_seen(&self, session: &Session, address: Option<IpAddr>, user_agent: Option<&str>) {
        if let Some(device_id) = &session.device_id {
            let now = self.0.clock.millis();
            self.0
                .seen
                .note(session.user, device_id, now, address, user_agent);
        }
    }

    /// Where devices of `user` were seen that is not written down yet.
    pub(crate) fn unwritten_sightings(&self, user: UserNid) -> Vec<Sighting> {
        self.0.seen.of_user(user)
    }

    /// Writes down when devices were seen.
    pub async fn write_seen(&self) -> sqlx::Result<()> {
        let sightings = self.0.seen.take();
        if sightings.is_empty() {
            return Ok(());
        }
        let mut conn = self.0.pool.acquire().await?;
        for chunk in sightings.chunks(1_000) {
            device::update_last_seen(&mut conn, chunk).await?;
        }
        Ok(())
    }

    /// Writes down every half minute when devices were seen, and once more when `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let stopped = tokio::time::timeout(SEEN_INTERVAL, stop.cancelled()).await;
            if let Err(error) = self.write_seen().await {
                tracing::warn!(%error, "not written down when devices were seen");
            }
            if stopped.is_ok() {
                return;
            }
        }
    }
}

impl Session {
    /// Returns when the session ended or its account changed, as far as this process keeps it in memory; a later request
    /// finds out in any case.
    pub async fn changed(&self) {
        self.changed.cancelled().await;
    }

    fn from_row(row: SessionRow, hash: TokenHash) -> sqlx::Result<Self> {
        let user_id = OwnedUserId::try_from(row.user_id);
        Ok(Self {
            user_id: user_id.map_err(|error| sqlx::Error::Decode(error.into()))?,
            user: row.user,
            device_id: row.device_id.map(OwnedDeviceId::from),
            admin: row.admin,
            guest: row.guest,
            standing: Standing::of(row.locked, row.suspended),
            hash,
            expires_ts: row.expires_ts,
            changed: CancellationToken::new(),
        })
    }
}
