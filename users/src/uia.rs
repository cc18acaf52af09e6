//! User-interactive authentication (specification, "User-Interactive Authentication API").
//!
//! A session belongs to one action (method and path) of one user and serves it once. There is no grace: each action
//! asks anew, so that a client that is left alone cannot do what needs a password. Where one stage is the whole flow,
//! a client may authenticate in its first request, and nothing is stored.

mod attempt;
mod body;
mod fallback;
mod flows;

use std::time::Duration;

use hearth_core::{Clock, config::Registration};
use hearth_store::{
    registration_token::{self, Validity},
    uia_session::{self, Taken, UiaSessionRow},
};
use serde_json::{Map, Value};
use sqlx::PgPool;

pub use self::{
    attempt::Attempt,
    fallback::{FallbackError, OpenStage, Progress},
    flows::{Purpose, Stage},
};
use self::{attempt::Outcome, body::Remembered, flows::Flows};
use crate::{
    accounts::{Accounts, NewPassword, after},
    password::HashError,
    secret,
    sessions::Session,
};

/// How long a session is kept.
const LIFETIME: Duration = Duration::from_mins(30);

/// What is to be done once the user is authenticated.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// Method and path.
    pub name: &'a str,
    /// Who does it; `None` for registrations.
    pub requester: Option<&'a Session>,
    /// What kind of thing it is.
    pub purpose: Purpose,
}

/// What the user still has to do.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// The stages of each flow.
    pub flows: Vec<Vec<Stage>>,
    /// What the client must know for some stages.
    pub params: Value,
    /// The session.
    pub session: String,
    /// The stages that were completed.
    pub completed: Vec<String>,
    /// What was wrong with the last attempt.
    pub failure: Option<Failure>,
}

/// What was wrong with an attempt, which may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The password is wrong.
    #[error("the password is wrong")]
    WrongPassword,
    /// The registration token is unknown, expired or used up.
    #[error("the registration token is not valid")]
    InvalidRegistrationToken,
    /// Something that the stage needs is missing.
    #[error("the stage is incomplete")]
    Incomplete,
    /// No flow has this stage next.
    #[error("this is not the next stage of a flow")]
    WrongStage,
    /// The session is over, and another begins.
    #[error("the session has expired")]
    SessionOver,
}

/// The user is authenticated.
#[derive(Clone, Debug)]
pub struct Granted {
    /// The request's body, with what earlier requests of the session said, and with passwords taken out of it.
    pub body: Map<String, Value>,
    /// The password that was in the body.
    pub new_password: Option<NewPassword>,
    /// The registration token to use up.
    pub registration_token: Option<String>,
}

/// Why an action cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum UiaError {
    /// The user has to authenticate.
    #[error("the user has to authenticate")]
    Challenge(Box<Challenge>),
    /// The session was begun for something else or by somebody else.
    #[error("the session belongs to another action")]
    OtherAction,
    /// Somebody else authenticated than the one who acts.
    #[error("another user authenticated")]
    OtherUser,
    /// Nobody may register.
    #[error("registration is closed")]
    RegistrationClosed,
    /// Hashing failed.
    #[error("authenticating failed")]
    Hash(#[from] HashError),
    /// The database failed.
    #[error("authenticating failed")]
    Storage(#[from] sqlx::Error),
}

/// User-interactive authentication.
#[derive(Clone, Debug)]
pub struct Uia {
    pool: PgPool,
    clock: Clock,
    accounts: Accounts,
    registration: Registration,
}

impl Uia {
    /// Sessions in `pool`; `registration` says who may register.
    #[must_use]
    pub fn new(pool: PgPool, clock: Clock, accounts: Accounts, registration: Registration) -> Self {
        Self {
            pool,
            clock,
            accounts,
            registration,
        }
    }

    /// Checks that the user authenticates for `action`, whose request has `body` (without `auth`).
    ///
    /// # Errors
    ///
    /// [`UiaError::Challenge`] until a flow is complete; [`UiaError::OtherAction`], [`UiaError::OtherUser`],
    /// [`UiaError::RegistrationClosed`].
    pub async fn check(
        &self,
        action: Action<'_>,
        attempt: Option<Attempt>,
        body: Map<String, Value>,
    ) -> Result<Granted, UiaError> {
        let flows = self.flows(action.purpose).await?;
        let attempt = attempt.unwrap_or_default();
        let session = self
            .find_session(action, attempt.session.as_deref())
            .await?;
        let is_over = session.is_none() && attempt.session.is_some();
        let Some(stage) = attempt.stage.clone() else {
            let failure = is_over.then_some(Failure::SessionOver);
            return self.settle(action, flows, session, body, failure).await;
        };
        let completed = session.as_ref().map_or(&[][..], |s| &s.completed);
        if completed.contains(&stage) {
            return self.settle(action, flows, session, body, None).await;
        }
        if !flows.is_next(completed, &stage) {
            let failure = if is_over {
                Failure::SessionOver
            } else {
                Failure::WrongStage
            };
            return self
                .settle(action, flows, session, body, Some(failure))
                .await;
        }
        let owner = action.requester.map(|requester| &*requester.user_id);
        let registration_token = match self.attempt(owner, &stage, attempt).await? {
            Outcome::Failed(failure) => {
                return self
                    .settle(action, flows, session, body, Some(failure))
                    .await;
            }
            Outcome::Passed { registration_token } => registration_token,
        };
        let session = self.complete(session, &stage, registration_token).await?;
        self.settle(action, flows, Some(session), body, None).await
    }

    /// Checks that somebody could register at all.
    ///
    /// # Errors
    ///
    /// [`UiaError::RegistrationClosed`].
    pub async fn check_registration_open(&self) -> Result<(), UiaError> {
        self.flows(Purpose::Registration).await.map(drop)
    }

    /// Whether somebody could register with `token`.
    ///
    /// # Errors
    ///
    /// [`UiaError::RegistrationClosed`] when nobody can register with a token.
    pub async fn check_registration_token(&self, token: &str) -> Result<Validity, UiaError> {
        let flows = self.flows(Purpose::Registration).await?;
        if flows.has(Stage::RegistrationToken) {
            Ok(self.find_registration_token(token).await?.0)
        } else {
            Err(UiaError::RegistrationClosed)
        }
    }

    async fn flows(&self, purpose: Purpose) -> Result<Flows, UiaError> {
        let by_token = match purpose {
            Purpose::Account => false,
            Purpose::Registration if self.registration.enabled => false,
            Purpose::Registration if self.registration.token.is_some() => true,
            Purpose::Registration => {
                let mut conn = self.pool.acquire().await?;
                let now = self.clock.millis();
                registration_token::find_any(&mut conn, now).await? == Validity::Valid
            }
        };
        Flows::new(purpose, &self.registration, by_token).ok_or(UiaError::RegistrationClosed)
    }

    async fn find_session(
        &self,
        action: Action<'_>,
        session: Option<&str>,
    ) -> Result<Option<UiaSessionRow>, UiaError> {
        let Some(session) = session else {
            return Ok(None);
        };
        let mut conn = self.pool.acquire().await?;
        let row = uia_session::find(&mut conn, session, self.clock.millis()).await?;
        let user = action.requester.map(|requester| requester.user);
        match row {
            Some(row) if row.action != action.name || row.user != user => {
                Err(UiaError::OtherAction)
            }
            row => Ok(row),
        }
    }

    /// Adds `stage` to what is completed, in the database if there is a session.
    async fn complete(
        &self,
        session: Option<UiaSessionRow>,
        stage: &str,
        registration_token: Option<String>,
    ) -> Result<UiaSessionRow, UiaError> {
        let Some(mut session) = session else {
            return Ok(UiaSessionRow {
                session_id: String::new(),
                action: String::new(),
                user: None,
                completed: vec![stage.to_owned()],
                body: "{}".to_owned(),
                registration_token,
                expires_ts: 0,
            });
        };
        let mut conn = self.pool.acquire().await?;
        let completed = uia_session::update_completed(
            &mut conn,
            &session.session_id,
            stage,
            registration_token.as_deref(),
        )
        .await?;
        session.completed = completed.unwrap_or_default();
        session.registration_token = registration_token.or(session.registration_token);
        Ok(session)
    }

    /// Grants the action if a flow is complete, else says what is left to do.
    async fn settle(
        &self,
        action: Action<'_>,
        flows: Flows,
        session: Option<UiaSessionRow>,
        body: Map<String, Value>,
        failure: Option<Failure>,
    ) -> Result<Granted, UiaError> {
        let is_stored = session.as_ref().is_some_and(|s| !s.session_id.is_empty());
        let mut row = match session {
            Some(row) => row,
            None => self.empty_session(),
        };
        let mut conn = self.pool.acquire().await?;
        if failure.is_none() && flows.are_complete(&row.completed) {
            let is_mine =
                !is_stored || uia_session::delete(&mut conn, &row.session_id).await? == Taken::Yes;
            if is_mine {
                return Ok(body::merge(&row.body, body, row.registration_token));
            }
            row.completed.clear();
        }
        drop(conn);
        if !is_stored {
            self.store_session(action, &mut row, body).await?;
        }
        Err(UiaError::Challenge(Box::new(Challenge {
            params: flows.params(&self.registration),
            flows: flows.into_stages(),
            session: row.session_id,
            completed: row.completed,
            failure,
        })))
    }

    fn empty_session(&self) -> UiaSessionRow {
        UiaSessionRow {
            session_id: String::new(),
            action: String::new(),
            user: None,
            completed: Vec::new(),
            body: "{}".to_owned(),
            registration_token: None,
            expires_ts: after(self.clock.millis(), LIFETIME),
        }
    }

    /// Stores a session and remembers the request's body in it, its passwords hashed.
    async fn store_session(
        &self,
        action: Action<'_>,
        row: &mut UiaSessionRow,
        body: Map<String, Value>,
    ) -> Result<(), UiaError> {
        let now = self.clock.millis();
        let Remembered {
            mut body,
            passwords,
        } = Remembered::of(body);
        for (key, password) in passwords {
            let hash = self.accounts.hash_for_later(password).await?;
            body.insert(key, hash.into());
        }
        row.session_id = secret::token("hru_");
        action.name.clone_into(&mut row.action);
        row.user = action.requester.map(|requester| requester.user);
        row.body = Value::Object(body).to_string();
        row.expires_ts = after(now, LIFETIME);
        let mut conn = self.pool.acquire().await?;
        uia_session::insert(&mut conn, row).await?;
        Ok(())
    }
}
