//! Why requests fail.

use http::StatusCode;
use ruma::api::error::ErrorKind;

/// Why a request had no success.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It was meant for ourselves.
    #[error("this is our own name")]
    Ourselves,
    /// The server cannot be reached.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("the server took too long")]
    TooLong,
    /// The answer is too large.
    #[error("the answer is too large")]
    TooLarge,
    /// The other server answers with an error.
    #[error("the server says {status}: {message}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The error code, if there is one.
        kind: Option<ErrorKind>,
        /// What it says to people.
        message: String,
    },
    /// The answer is not what it should be.
    #[error("the answer is malformed: {0}")]
    Malformed(String),
    /// The request cannot be written.
    #[error("the request is malformed: {0}")]
    BadRequest(String),
}

impl RequestError {
    /// Whether the server is there and understood what it was asked, and says no: another attempt makes no sense.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { status, .. } => {
                status.is_client_error() && *status != StatusCode::TOO_MANY_REQUESTS
            }
            Self::Ourselves | Self::BadRequest(_) => true,
            Self::Unreachable(_) | Self::TooLong | Self::TooLarge | Self::Malformed(_) => false,
        }
    }

    /// The error code that the other server gave.
    #[must_use]
    pub fn kind(&self) -> Option<&ErrorKind> {
        match self {
            Self::Refused { kind, .. } => kind.as_ref(),
            Self::Ourselves
            | Self::BadRequest(_)
            | Self::Unreachable(_)
            | Self::TooLong
            | Self::TooLarge
            | Self::Malformed(_) => None,
        }
    }
}
