//! Why a write failed, and why the journal did not start.

use hearth_core::EventNid;

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The room's current state is not the one that the events were authorised against; build them again.
    #[error("the room changed meanwhile")]
    Lost,
    /// The client's transaction made this event already.
    #[error("the transaction made an event already")]
    Duplicate(EventNid),
    /// Too much waits to be written.
    #[error("too much waits to be written")]
    Overloaded,
    /// The database failed, or refused this write.
    #[error("writing to the log failed")]
    Storage(#[source] sqlx::Error),
}

impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error)
    }
}

/// Why the journal did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database failed.
    #[error("the log's head cannot be read")]
    Storage(#[from] sqlx::Error),
}
