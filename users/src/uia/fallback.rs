//! Stages that are completed on a page of this server, for clients that do not know them (specification, "Fallback").

use hearth_core::config::Policy;
use hearth_store::uia_session::{self, UiaSessionRow};

use super::{Attempt, Failure, Purpose, Stage, Uia, UiaError, attempt::Outcome, flows::Flows};

/// A stage of a session, as its page shows it.
#[derive(Clone, Debug)]
pub struct OpenStage {
    /// Which one.
    pub stage: Stage,
    /// What the user agrees to, when that is the stage.
    pub policies: Vec<Policy>,
    /// How far it is.
    pub progress: Progress,
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The user has to do something.
    Open,
    /// It was tried in vain.
    Failed(Failure),
    /// The client can go on.
    Completed,
}

/// Why there is no page for a stage.
#[derive(Debug, thiserror::Error)]
pub enum FallbackError {
    /// The session is over or was never there, or has no such stage.
    #[error("this session is over, or has no such stage")]
    Unknown,
    /// The stage could not be looked at.
    #[error(transparent)]
    Uia(#[from] UiaError),
}

impl From<sqlx::Error> for FallbackError {
    fn from(error: sqlx::Error) -> Self {
        Self::Uia(error.into())
    }
}

impl Uia {
    /// What the page of a stage shows.
    ///
    /// # Errors
    ///
    /// [`FallbackError::Unknown`].
    pub async fn find_stage(&self, session: &str, stage: &str) -> Result<OpenStage, FallbackError> {
        let (row, stage, _) = self.find_open(session, stage).await?;
        Ok(self.open_stage(stage, &row.completed))
    }

    /// Completes a stage with what the user entered on its page.
    ///
    /// # Errors
    ///
    /// [`FallbackError::Unknown`].
    pub async fn complete_stage(
        &self,
        session: &str,
        stage: &str,
        attempt: Attempt,
    ) -> Result<OpenStage, FallbackError> {
        let (row, stage, flows) = self.find_open(session, stage).await?;
        let mut open = self.open_stage(stage, &row.completed);
        if open.progress == Progress::Completed {
            return Ok(open);
        }
        if !flows.is_next(&row.completed, stage.name()) {
            open.progress = Progress::Failed(Failure::WrongStage);
            return Ok(open);
        }
        let owner = match row.user {
            Some(user) => Some(self.accounts.user_id(user).await?),
            None => None,
        };
        let outcome = self
            .attempt(owner.as_deref(), stage.name(), attempt)
            .await?;
        open.progress = match outcome {
            Outcome::Failed(failure) => Progress::Failed(failure),
            Outcome::Passed { registration_token } => {
                self.complete(Some(row), stage.name(), registration_token)
                    .await?;
                Progress::Completed
            }
        };
        Ok(open)
    }

    async fn find_open(
        &self,
        session: &str,
        stage: &str,
    ) -> Result<(UiaSessionRow, Stage, Flows), FallbackError> {
        let mut conn = self.pool.acquire().await?;
        let row = uia_session::find(&mut conn, session, self.clock.millis()).await?;
        drop(conn);
        let row = row.ok_or(FallbackError::Unknown)?;
        let purpose = match row.user {
            Some(_) => Purpose::Account,
            None => Purpose::Registration,
        };
        let flows = self.flows(purpose).await?;
        let stage = Stage::named(stage).filter(|stage| flows.has(*stage));
        Ok((row, stage.ok_or(FallbackError::Unknown)?, flows))
    }

    fn open_stage(&self, stage: Stage, completed: &[String]) -> OpenStage {
        let policies = match stage {
            Stage::Terms => self.registration.terms.values().cloned().collect(),
            Stage::Password | Stage::Dummy | Stage::RegistrationToken => Vec::new(),
        };
        let progress = if completed.iter().any(|done| done == stage.name()) {
            Progress::Completed
        } else {
            Progress::Open
        };
        OpenStage {
            stage,
            policies,
            progress,
        }
    }
}
