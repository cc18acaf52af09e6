//! What administrators do to accounts: locking and suspending.

use hearth_store::account::{self, Moderation};
use ruma::UserId;

use super::{Account, Accounts};
use crate::sessions::Session;

/// Why an administrator may not change or look at an account.
#[derive(Debug, thiserror::Error)]
pub enum ModerationError {
    /// The requester is no administrator.
    #[error("the requester is not an administrator of this server")]
    NotAdmin,
    /// The user belongs to another server.
    #[error("the user belongs to another server")]
    NotLocal,
    /// Administrators do not moderate themselves or each other.
    #[error("the user is an administrator")]
    IsAdmin,
    /// There is no such user, or the account is closed.
    #[error("there is no such user")]
    NotFound,
    /// The database failed.
    #[error("moderating an account failed")]
    Storage(#[from] sqlx::Error),
}

impl Accounts {
    /// Returns the account of `user_id` for the administrator `requester` to moderate.
    ///
    /// What the requester may do is looked at before the account, so that nobody learns who has one.
    ///
    /// # Errors
    ///
    /// [`ModerationError::NotAdmin`], [`ModerationError::NotLocal`], [`ModerationError::NotFound`],
    /// [`ModerationError::IsAdmin`].
    pub async fn find_to_moderate(
        &self,
        requester: &Session,
        user_id: &UserId,
    ) -> Result<Account, ModerationError> {
        if !requester.admin {
            return Err(ModerationError::NotAdmin);
        }
        if user_id.server_name() != self.server_name() {
            return Err(ModerationError::NotLocal);
        }
        let account = self.find(user_id).await?;
        let account = account.ok_or(ModerationError::NotFound)?;
        if account.admin {
            Err(ModerationError::IsAdmin)
        } else {
            Ok(account)
        }
    }

    /// Locks, unlocks, suspends or unsuspends a user, from the next request on.
    ///
    /// # Errors
    ///
    /// As [`Accounts::find_to_moderate`].
    pub async fn moderate(
        &self,
        requester: &Session,
        user_id: &UserId,
        moderation: Moderation,
    ) -> Result<(), ModerationError> {
        let account = self.find_to_moderate(requester, user_id).await?;
        let mut conn = self.0.parts.pool.acquire().await?;
        account::update_moderation(&mut conn, account.user, moderation).await?;
        drop(conn);
        self.0.parts.sessions.reconsider(account.user).await?;
        tracing::info!(%user_id, ?moderation, "moderated {user_id}");
        Ok(())
    }

    /// Whether the account of `user_id` is locked or suspended.
    ///
    /// # Errors
    ///
    /// As [`Accounts::find_to_moderate`].
    pub async fn find_moderation(
        &self,
        requester: &Session,
        user_id: &UserId,
    ) -> Result<Moderation, ModerationError> {
        let account = self.find_to_moderate(requester, user_id).await?;
        let mut conn = self.0.parts.pool.acquire().await?;
        let row = account::find(&mut conn, account.user).await?;
        let row = row.ok_or(ModerationError::NotFound)?;
        Ok(Moderation {
            locked: Some(row.locked),
            suspended: Some(row.suspended),
        })
    }
}
