//! Making accounts.

use std::time::Duration;

use hearth_store::{
    account::{self, Inserted, NewAccountRow},
    profile,
    registration_token::{self, Validity},
    uia_session::{self, UiaSessionRow},
};
use ruma::OwnedUserId;

use super::{Account, Accounts, NewPassword, after, is_unfit};
use crate::{
    password::{HashError, MAX_PASSWORD},
    secret,
    sessions::{Session, Standing},
    user_directory, username,
};

/// How long a nonce of the shared-secret registration works.
const NONCE_LIFETIME: Duration = Duration::from_mins(1);

/// What a nonce is for, among the sessions of user-interactive authentication.
const NONCE_ACTION: &str = "shared-secret registration";

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
    /// Only guests can become users.
    #[error("this is no guest")]
    NoGuest,
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

impl Accounts {
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

    /// Makes a guest an ordinary user who logs in with a password.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NoGuest`], [`RegisterError::UnfitPassword`].
    pub async fn upgrade_guest(
        &self,
        guest: &Session,
        password: NewPassword,
    ) -> Result<Account, RegisterError> {
        if matches!(&password, NewPassword::Plain(password) if is_unfit(password)) {
            return Err(RegisterError::UnfitPassword);
        }
        let hash = self.hash(password).await?;
        let mut conn = self.0.parts.pool.acquire().await?;
        if !account::update_guest(&mut conn, guest.user, &hash).await? {
            return Err(RegisterError::NoGuest);
        }
        drop(conn);
        self.0.parts.sessions.reconsider(guest.user).await?;
        Ok(Account {
            user: guest.user,
            user_id: guest.user_id.clone(),
            standing: guest.standing,
            admin: false,
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
        user_directory::index(&mut tx, row.user, Some(row.localpart)).await?;
        tx.commit().await?;
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
        uia_session::insert(&mut conn, &row).await?;
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
        if row.is_some_and(|row| row.action == NONCE_ACTION) {
            uia_session::delete(&mut conn, nonce).await
        } else {
            Ok(uia_session::Taken::Gone)
        }
    }
}
