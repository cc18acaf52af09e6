//! Who can log in.

use std::net::IpAddr;

use hearth_core::UserNid;
use hearth_store::{account, login_token};

use super::{Account, Accounts, after};
use crate::{
    password::{Fit, HashError, MAX_PASSWORD},
    secret::{self, TokenHash},
    username,
};

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

impl Accounts {
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
        let expires_ts = after(now, self.0.parts.login_token_lifetime);
        let mut conn = self.0.parts.pool.acquire().await?;
        let hash = TokenHash::of(&token);
        login_token::insert(&mut conn, hash.as_bytes(), user, expires_ts).await?;
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
}
