//! Who has an account, with which password, in which standing.

mod login;
mod moderation;
mod registration;

use std::{sync::Arc, time::Duration};

use hearth_core::{Clock, UserNid};
use hearth_journal::WriteError;
use hearth_store::{
    account::{self, AccountRow, Erase},
    intern::Interner,
    login_token, profile, user_word,
};
use ruma::{OwnedServerName, OwnedUserId, UserId};
use sqlx::PgPool;

pub use self::{
    login::LoginError,
    moderation::ModerationError,
    registration::{Kind, NewAccount, RegisterError},
};
use crate::{
    password::{HashError, MAX_PASSWORD, Passwords},
    sessions::{Session, SessionError, Sessions, Standing},
    throttle::Throttle,
};

/// A password that is to be set.
#[derive(Clone)]
pub enum NewPassword {
    /// As the user typed it.
    Plain(String),
    /// Hashed in an earlier request of the same user-interactive authentication.
    Hashed(String),
}

impl std::fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewPassword").finish_non_exhaustive()
    }
}

/// An account that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's number.
    pub user: UserNid,
    /// The user.
    pub user_id: OwnedUserId,
    /// What the user may do.
    pub standing: Standing,
    /// Whether the user administers the server.
    pub admin: bool,
}

/// Why a password is not changed or an account not closed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The password is empty or too long.
    #[error("the password is empty or longer than {MAX_PASSWORD} bytes")]
    UnfitPassword,
    /// Hashing failed.
    #[error("changing an account failed")]
    Hash(#[from] HashError),
    /// The database failed.
    #[error("changing an account failed")]
    Storage(#[from] sqlx::Error),
    /// The log failed.
    #[error("changing an account failed")]
    Journal(#[from] WriteError),
    /// The sessions could not be ended.
    #[error("changing an account failed")]
    Session(#[from] SessionError),
}

/// Whether the user's other devices are logged out with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherDevices {
    /// They are.
    LogOut,
    /// They stay logged in.
    Keep,
}

/// What [`Accounts`] works with.
#[derive(Clone, Debug)]
pub struct AccountsParts {
    /// The database.
    pub pool: PgPool,
    /// The numbers of users.
    pub interner: Interner,
    /// The time.
    pub clock: Clock,
    /// This server.
    pub server_name: OwnedServerName,
    /// How long a token for `m.login.token` works.
    pub login_token_lifetime: Duration,
    /// The sessions.
    pub sessions: Sessions,
}

/// The accounts of this server.
#[derive(Clone, Debug)]
pub struct Accounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: AccountsParts,
    passwords: Passwords,
    throttle: Throttle,
}

impl Accounts {
    /// The accounts that `parts` describe.
    #[must_use]
    pub fn new(parts: AccountsParts) -> Self {
        Self(Arc::new(Inner {
            parts,
            passwords: Passwords::default(),
            throttle: Throttle::default(),
        }))
    }

    /// The server whose accounts these are.
    #[must_use]
    pub fn server_name(&self) -> &ruma::ServerName {
        &self.0.parts.server_name
    }

    /// The id of a user.
    pub(crate) async fn user_id(&self, user: UserNid) -> sqlx::Result<OwnedUserId> {
        self.0.parts.interner.user_id(user).await
    }

    async fn hash(&self, password: NewPassword) -> Result<String, HashError> {
        match password {
            NewPassword::Plain(password) => self.0.passwords.hash(password).await,
            NewPassword::Hashed(hash) => Ok(hash),
        }
    }

    /// Hashes a password that will be set in a later request.
    ///
    /// # Errors
    ///
    /// [`HashError`] when there is no randomness.
    pub(crate) async fn hash_for_later(&self, password: String) -> Result<String, HashError> {
        self.0.passwords.hash(password).await
    }

    /// Returns the account of a user of this server, unless it is closed.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find(&self, user_id: &UserId) -> sqlx::Result<Option<Account>> {
        if user_id.server_name() != self.0.parts.server_name {
            return Ok(None);
        }
        let mut conn = self.0.parts.pool.acquire().await?;
        let row = account::find_by_localpart(&mut conn, user_id.localpart()).await?;
        Ok(row.and_then(|row| self.account(&row)))
    }

    /// Sets a password.
    ///
    /// # Errors
    ///
    /// [`ChangeError::UnfitPassword`].
    pub async fn change_password(
        &self,
        session: &Session,
        password: NewPassword,
        others: OtherDevices,
    ) -> Result<(), ChangeError> {
        if matches!(&password, NewPassword::Plain(password) if is_unfit(password)) {
            return Err(ChangeError::UnfitPassword);
        }
        let hash = self.hash(password).await?;
        let mut conn = self.0.parts.pool.acquire().await?;
        account::update_password(&mut conn, session.user, &hash).await?;
        login_token::delete_of_user(&mut conn, session.user).await?;
        drop(conn);
        if others == OtherDevices::LogOut {
            let sessions = &self.0.parts.sessions;
            sessions.close_all(session.user, Some(session)).await?;
        }
        Ok(())
    }

    /// Closes an account for good: no password, no device, no token, no profile. The name stays taken.
    ///
    /// It is noted that the user has rooms to leave; who knows about rooms does that.
    ///
    /// # Errors
    ///
    /// When the database or the log fails.
    pub async fn deactivate(&self, user: UserNid, erase: Erase) -> Result<(), ChangeError> {
        hearth_store::retry("deactivate", || self.deactivate_once(user, erase)).await?;
        tracing::info!(user_nid = %user, "closed an account");
        Ok(())
    }

    async fn deactivate_once(&self, user: UserNid, erase: Erase) -> Result<(), ChangeError> {
        let sessions = &self.0.parts.sessions;
        let mut tx = self.0.parts.pool.begin().await?;
        account::lock(&mut tx, user).await?;
        account::update_deactivated(&mut tx, user, erase).await?;
        login_token::delete_of_user(&mut tx, user).await?;
        profile::delete_of_user(&mut tx, user).await?;
        user_word::delete_others(&mut tx, user, &[]).await?;
        let (removed, revoked) = Sessions::delete_all(&mut tx, user, None).await?;
        sessions
            .finish_removal(tx, user, &removed, &revoked)
            .await?;
        Ok(())
    }

    /// `None` when the account is closed.
    fn account(&self, row: &AccountRow) -> Option<Account> {
        let user_id = format!("@{}:{}", row.localpart, self.0.parts.server_name);
        let user_id = UserId::parse(user_id).ok()?;
        (!row.deactivated).then_some(Account {
            user: row.user,
            user_id,
            standing: Standing::of(row.locked, row.suspended),
            admin: row.admin,
        })
    }
}

fn is_unfit(password: &str) -> bool {
    !(1..=MAX_PASSWORD).contains(&password.len())
}

/// `lifetime` after `now`, in milliseconds.
pub(crate) fn after(now: i64, lifetime: Duration) -> i64 {
    now.saturating_add(i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX))
}
