//! Who has an account, with which password, in which standing.

mod moderation;

use std::{net::IpAddr, sync::Arc, time::Duration};

use hearth_core::{Clock, UserNid};
use hearth_journal::WriteError;
use hearth_store::{
    account::{self, AccountRow, Erase, Inserted, NewAccountRow},
    intern::Interner,
    login_token, profile,
    registration_token::{self, Validity},
    uia_session::{self, UiaSessionRow},
};
use ruma::{OwnedServerName, OwnedUserId, UserId};
use sqlx::PgPool;

pub use self::moderation::ModerationError;
use crate::{
    password::{Fit, HashError, MAX_PASSWORD, Passwords},
    secret::{self, TokenHash},
    sessions::{Session, SessionError, Sessions, Standing},
    throttle::Throttle,
    username,
};

/// How long a token for `m.login.token` works.
pub const LOGIN_TOKEN_LIFETIME: Duration = Duration::from_secs(120);

/// How long a nonce of the shared-secret registration works.
const NONCE_LIFETIME: Duration = Duration::from_secs(60);

/// What a nonce is for, among the sessions of user-interactive authentication.
const NONCE_ACTION: &str = "shared-secret registration";

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

/// An account to be made.
#[derive(Clone, Debug, Default)]
pub struct NewAccount {
    /// The name that the user asked for; without one the server makes one up.
    pub username: Option<String>,
    /// The password; without one nobody can log in with a password.
    pub password: Option<NewPassword>,
    /// What the user does on this server.
    pub kind: Kind,
    /// The registration token that the account is made with, if it is one of the database.
    pub registration_token: Option<String>,
}

/// What a user does on this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// They chat.
    #[default]
    User,
    /// They administer the server.
    Admin,
    /// They look around.
    Guest,
    /// They belong to the application service of this id.
    Appservice(String),
}

/// Why an account is not made.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// No user can have the name.
    #[error(transparent)]
    InvalidUsername(#[from] username::InvalidUsername),
    /// Somebody has the name.
    #[error("the user name is taken")]
    Taken,
    /// The password is empty or too long.
    #[error("the password is empty or longer than {MAX_PASSWORD} bytes")]
    UnfitPassword,
    /// The registration token was used up meanwhile.
    #[error("the registration token is not valid")]
    InvalidRegistrationToken,
    /// Hashing failed.
    #[error("registering failed")]
    Hash(#[from] HashError),
    /// The database failed.
    #[error("registering failed")]
    Storage(#[from] sqlx::Error),
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

/// Why a user cannot log in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no such user, or the password or token is wrong: which of them is not told.
    #[error("the user name or the password is wrong")]
    WrongCredentials,
    /// Hashing failed.
    #[error("checking a password failed")]
    Hash(#[from] HashError),
    /// The database failed.
    #[error("checking a password failed")]
    Storage(#[from] sqlx::Error),
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

    /// Looks whether somebody could register as `username`, and returns who they would be.
    ///
    /// # Errors
    ///
    /// [`RegisterError::InvalidUsername`], [`RegisterError::Taken`].
    pub async fn check_available(&self, username: &str) -> Result<OwnedUserId, RegisterError> {
        let user_id = username::user_id(username, &self.0.parts.server_name)?;
        let mut conn = self.0.parts.pool.acquire().await?;
        match account::find_by_localpart(&mut conn, user_id.localpart()).await? {
            Some(_) => Err(RegisterError::Taken),
            None => Ok(user_id),
        }
    }

    /// Makes an account. Whether this is allowed is for the caller to know.
    ///
    /// The user's display name becomes the localpart. Closed accounts keep their names.
    ///
    /// # Errors
    ///
    /// [`RegisterError::InvalidUsername`], [`RegisterError::Taken`], [`RegisterError::UnfitPassword`],
    /// [`RegisterError::InvalidRegistrationToken`].
    pub async fn register(&self, new: NewAccount) -> Result<Account, RegisterError> {
        let user_id = match &new.username {
            Some(username) => self.check_available(username).await?,
            None => username::user_id(&secret::localpart(), &self.0.parts.server_name)?,
        };
        let password_hash = match new.password {
            Some(NewPassword::Plain(password)) if is_unfit(&password) => {
                return Err(RegisterError::UnfitPassword);
            }
            Some(password) => Some(self.hash(password).await?),
            None => None,
        };
        let user = self.0.parts.interner.user(&user_id).await?;
        let row = NewAccountRow {
            user,
            localpart: user_id.localpart(),
            password_hash: password_hash.as_deref(),
            admin: new.kind == Kind::Admin,
            guest: new.kind == Kind::Guest,
            appservice_id: match &new.kind {
                Kind::Appservice(id) => Some(id),
                Kind::User | Kind::Admin | Kind::Guest => None,
            },
            created_ts: self.0.parts.clock.millis(),
        };
        let token = new.registration_token.as_deref();
        hearth_store::retry("register", || self.register_once(&row, token)).await?;
        tracing::info!(%user_id, "registered {user_id}");
        Ok(Account {
            user,
            standing: Standing::Good,
            admin: row.admin,
            user_id,
        })
    }

    async fn register_once(
        &self,
        row: &NewAccountRow<'_>,
        token: Option<&str>,
    ) -> Result<(), RegisterError> {
        let mut tx = self.0.parts.pool.begin().await?;
        if account::insert(&mut tx, row).await? == Inserted::Taken {
            return Err(RegisterError::Taken);
        }
        if let Some(token) = token {
            let validity = registration_token::update_completed(&mut tx, token, row.created_ts);
            if validity.await? == Validity::Invalid {
                return Err(RegisterError::InvalidRegistrationToken);
            }
        }
        let name = serde_json::Value::from(row.localpart).to_string();
        profile::upsert(&mut tx, row.user, "displayname", &name).await?;
        tx.commit().await?;
        Ok(())
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

    /// Checks who can log in as `name`, a user id or a localpart, with `password`.
    ///
    /// Wrong passwords make the next answer come later, by account and by `address`.
    ///
    /// # Errors
    ///
    /// [`LoginError::WrongCredentials`].
    pub async fn log_in(
        &self,
        name: &str,
        password: String,
        address: Option<IpAddr>,
    ) -> Result<Account, LoginError> {
        let localpart = username::localpart(name, &self.0.parts.server_name);
        let localpart = localpart.ok_or(LoginError::WrongCredentials)?;
        if password.len() > MAX_PASSWORD {
            return Err(LoginError::WrongCredentials);
        }
        let attempt = self.0.throttle.begin(&localpart, address);
        tokio::time::sleep(attempt.delay()).await;
        let mut conn = self.0.parts.pool.acquire().await?;
        let row = account::find_by_localpart(&mut conn, &localpart).await?;
        drop(conn);
        let hash = row.as_ref().and_then(|row| row.password_hash.clone());
        let fit = self.0.passwords.check(password, hash).await?;
        let account = row.and_then(|row| self.account(&row));
        match (fit, account) {
            (Fit::Yes, Some(account)) => {
                self.0.throttle.succeed(attempt);
                Ok(account)
            }
            (Fit::Yes | Fit::No, _) => Err(LoginError::WrongCredentials),
        }
    }

    /// Makes a token with which another device of `user` can log in, once and soon.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn create_login_token(&self, user: UserNid) -> sqlx::Result<String> {
        let token = secret::token("hrl_");
        let now = self.0.parts.clock.millis();
        let expires_ts = after(now, LOGIN_TOKEN_LIFETIME);
        let mut conn = self.0.parts.pool.acquire().await?;
        let hash = TokenHash::of(&token);
        login_token::insert(&mut conn, hash.as_bytes(), user, expires_ts, now).await?;
        Ok(token)
    }

    /// Checks who can log in with `token`, which works only this time.
    ///
    /// # Errors
    ///
    /// [`LoginError::WrongCredentials`].
    pub async fn log_in_with_token(&self, token: &str) -> Result<Account, LoginError> {
        let now = self.0.parts.clock.millis();
        let hash = TokenHash::of(token);
        let mut conn = self.0.parts.pool.acquire().await?;
        let user = login_token::delete(&mut conn, hash.as_bytes(), now).await?;
        let user = user.ok_or(LoginError::WrongCredentials)?;
        let row = account::find(&mut conn, user).await?;
        row.and_then(|row| self.account(&row))
            .ok_or(LoginError::WrongCredentials)
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
    /// The caller makes the user leave all rooms first, since nobody can do so afterwards in the user's name.
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
        let (removed, revoked) = Sessions::delete_all(&mut tx, user, None).await?;
        sessions
            .finish_removal(tx, user, &removed, &revoked)
            .await?;
        Ok(())
    }

    /// Makes a nonce for one registration with the shared secret.
    ///
    /// It lies in the database, so that any process takes it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn create_nonce(&self) -> sqlx::Result<String> {
        let now = self.0.parts.clock.millis();
        let row = UiaSessionRow {
            session_id: secret::token("hrn_"),
            action: NONCE_ACTION.to_owned(),
            user: None,
            completed: Vec::new(),
            body: "{}".to_owned(),
            registration_token: None,
            expires_ts: after(now, NONCE_LIFETIME),
        };
        let mut conn = self.0.parts.pool.acquire().await?;
        uia_session::insert(&mut conn, &row, now).await?;
        Ok(row.session_id)
    }

    /// Takes a nonce, and says whether it was one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn take_nonce(&self, nonce: &str) -> sqlx::Result<uia_session::Taken> {
        let now = self.0.parts.clock.millis();
        let mut conn = self.0.parts.pool.acquire().await?;
        let row = uia_session::find(&mut conn, nonce, now).await?;
        match row.is_some_and(|row| row.action == NONCE_ACTION) {
            true => uia_session::delete(&mut conn, nonce).await,
            false => Ok(uia_session::Taken::Gone),
        }
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
