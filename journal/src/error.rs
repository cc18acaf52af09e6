//! Why a write failed, and why the journal did not start.

use hearth_core::EventNid;

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The room's current state is not the one that the events were authorised against; build them again.
    #[error("the room changed meanwhile")]
    Lost,
    /// The client's transaction made this event already, or the received event is stored already.
    #[error("the event is stored already")]
    Duplicate(EventNid),
    /// Too much waits to be written, or the server stops.
    #[error("too much waits to be written")]
    Overloaded,
    /// The database failed, or refused this write. After a connection error it is not known whether it was written;
    /// a repeated client transaction finds out.
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
    /// The address of Redis is none; the text does not repeat it.
    #[error("redis.url is not an address of the form redis://user:password@host:port")]
    Redis(#[source] redis::RedisError),
}

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Nothing of it was written.
    #[error("the batch was not written")]
    NotCommitted(#[from] sqlx::Error),
    /// The answer to COMMIT was lost, and the database could not be asked in time.
    #[error("it is unknown whether the batch was written")]
    Unknown(#[source] sqlx::Error),
    /// The log's epoch is not the one that this process knows; nothing was written.
    #[error("the log began a new epoch")]
    EpochOver,
}

impl From<Failure> for WriteError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotCommitted(error) | Failure::Unknown(error) => Self::Storage(error),
            Failure::EpochOver => Self::Lost,
        }
    }
}
