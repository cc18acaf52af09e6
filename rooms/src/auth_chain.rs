//! Auth chains: what authorises an event, what authorises that, and so on down to the create event.

use std::collections::HashSet;

use hearth_core::EventNid;
use hearth_store::event;

use crate::Rooms;

/// How many events the chains of one request may hold; rooms of fifty thousand members stay far below.
const LONGEST: i64 = 1_000_000;

/// Why an auth chain was not read.
#[derive(Debug, thiserror::Error)]
pub enum AuthChainError {
    /// It has more events than anybody can handle.
    #[error("an auth chain has more than {LONGEST} events")]
    TooLong,
    /// The database failed.
    #[error("reading an auth chain failed")]
    Storage(#[from] sqlx::Error),
}

impl Rooms {
    /// The union of the auth chains of `events`, in one statement.
    ///
    /// An event of `events` is in it only where another one's chain holds it.
    ///
    /// # Errors
    ///
    /// See [`AuthChainError`]; a chain is never cut short.
    pub async fn auth_chain(
        &self,
        events: &[EventNid],
    ) -> Result<HashSet<EventNid>, AuthChainError> {
        if events.is_empty() {
            return Ok(HashSet::new());
        }
        let mut conn = self.pool().acquire().await?;
        let chain = event::list_auth_chain(&mut conn, events, LONGEST + 1).await?;
        drop(conn);
        let chain: HashSet<EventNid> = chain.into_iter().collect();
        if i64::try_from(chain.len()).unwrap_or(i64::MAX) > LONGEST {
            return Err(AuthChainError::TooLong);
        }
        Ok(chain)
    }
}
