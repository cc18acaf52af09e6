//! Refreshing access tokens, so that an answer that was lost can be asked for again.
//!
//! The old refresh token stays usable until the new access token or the new refresh token is used. Asking again with
//! it takes back what the lost answer had given. The old access token ends with the old refresh token.

use hearth_store::{
    access_token::{self, SessionRow},
    account, refresh_token,
};
use ruma::OwnedDeviceId;

use super::{Opened, Refreshable, Sessions, Standing};
use crate::secret::TokenHash;

/// Why a token is not refreshed.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// It is unknown or was used already.
    #[error("the refresh token is unknown")]
    Unknown,
    /// It expired; the device is still there (soft logout).
    #[error("the refresh token has expired")]
    Expired,
    /// The account is locked.
    #[error("the account is locked")]
    Locked,
    /// The database failed.
    #[error("refreshing a token failed")]
    Storage(#[from] sqlx::Error),
}

impl Sessions {
    /// Gives new tokens for a refresh token.
    ///
    /// # Errors
    ///
    /// [`RefreshError::Unknown`], [`RefreshError::Expired`], [`RefreshError::Locked`].
    pub async fn refresh(&self, token: &str) -> Result<Opened, RefreshError> {
        let hash = TokenHash::of(token);
        hearth_store::retry("refresh", || self.refresh_once(hash)).await
    }

    async fn refresh_once(&self, hash: TokenHash) -> Result<Opened, RefreshError> {
        let mut tx = self.0.pool.begin().await?;
        let old = refresh_token::find(&mut tx, hash.as_bytes()).await?;
        let user = old.ok_or(RefreshError::Unknown)?.user;
        let user = account::lock(&mut tx, user).await?;
        let user = user.ok_or(RefreshError::Unknown)?;
        // Only now is it certain that nobody else uses it at the same time.
        let old = refresh_token::find(&mut tx, hash.as_bytes()).await?;
        let old = old.ok_or(RefreshError::Unknown)?;
        if old.expires_ts.is_some_and(|t| t <= self.0.clock.millis()) {
            return Err(RefreshError::Expired);
        }
        let account = account::find(&mut tx, user).await?;
        let account = account.ok_or(RefreshError::Unknown)?;
        if Standing::of(account.locked, account.suspended) == Standing::Locked {
            return Err(RefreshError::Locked);
        }

        let mut revoked =
            refresh_token::delete_replaced(&mut tx, user, &old.device_id, hash.as_bytes()).await?;
        if let Some(lost) = &old.next_hash {
            revoked.extend(refresh_token::delete(&mut tx, lost).await?);
        }
        access_token::delete(&mut tx, &revoked).await?;
        let device_id = OwnedDeviceId::from(old.device_id);
        let opened = self
            .issue(&mut tx, user, &device_id, Refreshable::Yes)
            .await?;
        if let Some(next) = &opened.refresh_token {
            let next = TokenHash::of(next);
            refresh_token::update_next(&mut tx, hash.as_bytes(), next.as_bytes()).await?;
        }
        tx.commit().await?;
        self.0.cache.forget(&revoked);
        Ok(opened)
    }

    /// Ends the tokens that the access token `row` replaced, because it is used now.
    pub(super) async fn retire_replaced(
        &self,
        row: &SessionRow,
        hash: TokenHash,
    ) -> sqlx::Result<()> {
        let Some(device_id) = &row.device_id else {
            return Ok(());
        };
        let mut tx = self.0.pool.begin().await?;
        account::lock(&mut tx, row.user).await?;
        let revoked =
            refresh_token::delete_replaced_by_access(&mut tx, row.user, device_id, hash.as_bytes())
                .await?;
        access_token::delete(&mut tx, &revoked).await?;
        tx.commit().await?;
        self.0.cache.forget(&revoked);
        Ok(())
    }
}
