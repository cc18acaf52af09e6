//! What clients send to complete a stage.

use hearth_store::registration_token::{self, Validity};
use ruma::{UserId, api::client::uiaa::UserIdentifier};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use super::{Failure, Stage, Uia, UiaError};
use crate::{accounts::LoginError, username};

/// What a client sends as `auth`.
#[derive(Clone, Default, Deserialize)]
pub struct Attempt {
    /// The stage.
    #[serde(rename = "type")]
    pub stage: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// Who the user says to be.
    pub identifier: Option<UserIdentifier>,
    /// The same, as clients of old say it.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The registration token.
    pub token: Option<String>,
}

/// How a stage ended.
pub(super) enum Outcome {
    Passed { registration_token: Option<String> },
    Failed(Failure),
}

impl Uia {
    /// Looks at what was sent for `stage` of a session that belongs to `owner`, or to nobody yet.
    pub(super) async fn attempt(
        &self,
        owner: Option<&UserId>,
        stage: &str,
        attempt: Attempt,
    ) -> Result<Outcome, UiaError> {
        let passed = Outcome::Passed {
            registration_token: None,
        };
        if stage == Stage::Password.name() {
            return self.attempt_password(owner, attempt).await;
        }
        if stage != Stage::RegistrationToken.name() {
            return Ok(passed);
        }
        let Some(token) = attempt.token else {
            return Ok(Outcome::Failed(Failure::Incomplete));
        };
        Ok(match self.find_registration_token(&token).await? {
            (Validity::Invalid, _) => Outcome::Failed(Failure::InvalidRegistrationToken),
            (Validity::Valid, registration_token) => Outcome::Passed { registration_token },
        })
    }

    async fn attempt_password(
        &self,
        owner: Option<&UserId>,
        attempt: Attempt,
    ) -> Result<Outcome, UiaError> {
        let name = match &attempt.identifier {
            Some(UserIdentifier::Matrix(identifier)) => Some(identifier.user.clone()),
            // There are no third-party identifiers, so that it can be nobody.
            Some(_) => return Ok(Outcome::Failed(Failure::WrongPassword)),
            None => attempt.user,
        };
        let Some((owner, password)) = owner.zip(attempt.password) else {
            return Ok(Outcome::Failed(Failure::Incomplete));
        };
        let own = owner.localpart();
        if let Some(name) = name {
            let localpart = username::localpart(&name, self.accounts.server_name());
            if localpart.as_deref() != Some(own) {
                return Err(UiaError::OtherUser);
            }
        }
        match self.accounts.log_in(own, password, None).await {
            Ok(_) => Ok(Outcome::Passed {
                registration_token: None,
            }),
            Err(LoginError::WrongCredentials) => Ok(Outcome::Failed(Failure::WrongPassword)),
            Err(LoginError::Hash(error)) => Err(error.into()),
            Err(LoginError::Storage(error)) => Err(error.into()),
        }
    }

    /// Whether a registration token is valid, and its name if it is one of the database.
    pub(super) async fn find_registration_token(
        &self,
        token: &str,
    ) -> sqlx::Result<(Validity, Option<String>)> {
        if let Some(configured) = &self.registration.token
            && bool::from(configured.expose().as_bytes().ct_eq(token.as_bytes()))
        {
            return Ok((Validity::Valid, None));
        }
        let mut conn = self.pool.acquire().await?;
        let validity = registration_token::find(&mut conn, token, self.clock.millis()).await?;
        Ok((validity, Some(token.to_owned())))
    }
}
