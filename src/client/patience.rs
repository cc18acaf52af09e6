//! Requests that wait: until when, and whether who waits may still be answered.

use axum::extract::FromRef;
use hearth_users::Sessions;

use super::{ClientState, Requester, requester::unlocked};
use crate::http::{ApiError, Drain};

/// What ends the waiting of a request before there is something to answer.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    drain: Drain,
    sessions: Sessions,
}

impl FromRef<ClientState> for Patience {
    fn from_ref(state: &ClientState) -> Self {
        Self {
            drain: state.drain.clone(),
            sessions: state.sessions.clone(),
        }
    }
}

impl Patience {
    /// Returns when the server stops, or when something changed about the requester's session.
    pub(super) async fn end(&self, requester: &Requester) {
        tokio::select! {
            () = self.drain.begun() => {}
            () = requester.changed() => {}
        }
    }

    /// Refuses who was logged out or locked while waiting.
    ///
    /// # Errors
    ///
    /// `M_UNKNOWN_TOKEN`, `M_USER_LOCKED`.
    pub(super) async fn check(&self, requester: &Requester) -> Result<(), ApiError> {
        let session = self.sessions.authenticate_again(requester).await?;
        unlocked(session).map(drop)
    }
}
