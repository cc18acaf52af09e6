//! Why an event was not sent.

use hearth_core::pdu::PduError;
use hearth_journal::WriteError;
use ruma::signatures::JsonError;

use crate::peers::PolicyError;

/// Why an event was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The authorisation rules say no; the text says which.
    #[error("{0}")]
    Forbidden(String),
    /// The content does not fit the event type, or is no canonical JSON.
    #[error("{0}")]
    BadEvent(String),
    /// The event or one of its fields is too long.
    #[error("{0}")]
    TooLarge(String),
    /// A field has a value that it cannot have.
    #[error("{0}")]
    InvalidParam(String),
    /// An alias does not lead to the room.
    #[error("{0}")]
    BadAlias(String),
    /// The sender has annotated the event with the same already.
    #[error("the event was annotated with this already")]
    DuplicateAnnotation,
    /// The invited user takes no invites.
    #[error("the user takes no invites")]
    InviteBlocked,
    /// A redaction's target is not in the room.
    #[error("the event to redact is not in this room")]
    UnknownTarget,
    /// The state event that was to be replaced is gone already.
    #[error("the state changed meanwhile")]
    Superseded,
    /// We are not in the room.
    #[error("this server is not in the room")]
    UnknownRoom,
    /// The room's policy server does not recommend the event.
    #[error("the room's policy server does not recommend the event: {0}")]
    NotRecommended(PolicyError),
    /// Too much waits to be written.
    #[error("too much waits to be written")]
    Overloaded,
    /// The room's state changed each time that the event was built.
    #[error("the room changes too fast")]
    Contended,
    /// The database failed.
    #[error("writing an event failed")]
    Storage(#[from] sqlx::Error),
}

impl SendError {
    /// What a repetition of a failed transaction is told, while the first one is told the error itself.
    pub(crate) fn repeated(&self) -> Self {
        match self {
            Self::Forbidden(reason) => Self::Forbidden(reason.clone()),
            Self::BadEvent(reason) => Self::BadEvent(reason.clone()),
            Self::TooLarge(reason) => Self::TooLarge(reason.clone()),
            Self::InvalidParam(reason) => Self::InvalidParam(reason.clone()),
            Self::BadAlias(reason) => Self::BadAlias(reason.clone()),
            Self::DuplicateAnnotation => Self::DuplicateAnnotation,
            Self::InviteBlocked => Self::InviteBlocked,
            Self::UnknownTarget => Self::UnknownTarget,
            Self::Superseded => Self::Superseded,
            Self::UnknownRoom => Self::UnknownRoom,
            Self::NotRecommended(error) => Self::NotRecommended(error.clone()),
            Self::Overloaded => Self::Overloaded,
            Self::Contended => Self::Contended,
            Self::Storage(error) => Self::Storage(sqlx::Error::Protocol(error.to_string())),
        }
    }

    pub(crate) fn from_signing(error: &JsonError) -> Self {
        if matches!(error, JsonError::PduTooLarge) {
            return Self::TooLarge("the event is larger than 65,535 bytes".into());
        }
        Self::BadEvent(error.to_string())
    }
}

impl From<serde_json::Error> for SendError {
    fn from(error: serde_json::Error) -> Self {
        Self::BadEvent(error.to_string())
    }
}

impl From<PduError> for SendError {
    fn from(error: PduError) -> Self {
        Self::BadEvent(error.to_string())
    }
}

impl From<WriteError> for SendError {
    fn from(error: WriteError) -> Self {
        match error {
            // A transaction of a client is settled before it comes to this.
            WriteError::Lost | WriteError::Duplicate(_) => Self::Contended,
            WriteError::Overloaded => Self::Overloaded,
            WriteError::Storage(error) => Self::Storage(error),
        }
    }
}
