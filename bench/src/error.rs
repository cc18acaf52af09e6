//! What can go wrong with a server or with the bench itself.

use http::StatusCode;

/// Why a request or a run failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// A file or a socket failed.
    #[error("input or output failed")]
    Io(#[from] std::io::Error),
    /// The server broke off or does not speak HTTP.
    #[error("the connection failed")]
    Connection(#[from] hyper::Error),
    /// A request could not be put together.
    #[error("the request is malformed")]
    Request(#[from] http::Error),
    /// Some text that should be JSON is not, or has another shape.
    #[error("the JSON is not as expected")]
    Json(#[from] serde_json::Error),
    /// The server did not answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The server answered with an error.
    #[error("{what} was answered with {status}: {body}")]
    Refused {
        /// The path that was asked for.
        what: String,
        /// The status of the answer.
        status: StatusCode,
        /// The beginning of the answer.
        body: String,
    },
    /// The answer lacks something.
    #[error("the answer has no {0}")]
    Missing(&'static str),
    /// What was asked of the bench cannot be done.
    #[error("{0}")]
    Usage(String),
}
