//! What a client is told when a request fails.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use axum::{
    Json,
    extract::rejection::BytesRejection,
    response::{IntoResponse, Response},
};
use hearth_journal::WriteError;
use http::{HeaderValue, StatusCode, header};
use ruma::api::{
    client::uiaa::UiaaInfo,
    error::{
        DeserializationError, ErrorKind, FromHttpRequestError, LimitExceededErrorData, RetryAfter,
        StandardErrorBody, UnknownTokenErrorData,
    },
};
use serde_json::error::Category;

/// The only error that a handler returns.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    body: Body,
}

/// What the body of the answer says.
#[derive(Debug)]
enum Body {
    Standard(Box<StandardErrorBody>),
    /// The client has to authenticate once more.
    Uiaa(Box<UiaaInfo>),
}

impl ApiError {
    /// An error with a sentence for people.
    #[must_use]
    pub fn new(status: StatusCode, kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into().into_owned();
        Self {
            status,
            body: Body::Standard(Box::new(StandardErrorBody::new(kind, message))),
        }
    }

    /// 400 with `kind`.
    #[must_use]
    pub fn bad_request(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, message)
    }

    /// 400 `M_INVALID_PARAM`.
    #[must_use]
    pub fn invalid_param(message: impl Into<Cow<'static, str>>) -> Self {
        Self::bad_request(ErrorKind::InvalidParam, message)
    }

    /// 403 `M_FORBIDDEN`.
    #[must_use]
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorKind::Forbidden, message)
    }

    /// 404 `M_NOT_FOUND`.
    #[must_use]
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorKind::NotFound, message)
    }

    /// 401 `M_MISSING_TOKEN`.
    #[must_use]
    pub fn missing_token() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            ErrorKind::MissingToken,
            "an access token is needed",
        )
    }

    /// 401 `M_UNKNOWN_TOKEN`; with `SoftLogout::Yes` the client keeps its keys and logs in again.
    #[must_use]
    pub fn unknown_token(soft_logout: SoftLogout) -> Self {
        let mut data = UnknownTokenErrorData::new();
        data.soft_logout = matches!(soft_logout, SoftLogout::Yes);
        Self::new(
            StatusCode::UNAUTHORIZED,
            ErrorKind::UnknownToken(data),
            "the access token is not known",
        )
    }

    /// 404 `M_UNRECOGNIZED`, for a path that is not served.
    #[must_use]
    pub fn unrecognized() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            ErrorKind::Unrecognized,
            "this endpoint is not served",
        )
    }

    /// 405 `M_UNRECOGNIZED`, for a method that the path does not serve.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            ErrorKind::Unrecognized,
            "this method is not served",
        )
    }

    /// 413 `M_TOO_LARGE`.
    #[must_use]
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge, message)
    }

    /// 429 `M_LIMIT_EXCEEDED`: the client may come back after `wait`.
    #[must_use]
    pub fn limited(wait: Duration) -> Self {
        let mut data = LimitExceededErrorData::new();
        data.retry_after = Some(RetryAfter::Delay(wait));
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::LimitExceeded(data),
            "too many requests",
        )
    }

    /// 401 with what the client must do to authenticate once more.
    #[must_use]
    pub fn uiaa(info: UiaaInfo) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            body: Body::Uiaa(Box::new(info)),
        }
    }

    /// 500: logs `error` with its sources, and tells the client nothing of it.
    #[must_use]
    pub fn internal(error: impl Error + 'static) -> Self {
        tracing::error!(error = &error as &dyn Error, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::Unknown,
            "internal error",
        )
    }

    /// 503: what the answer depends on is gone for the moment.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Unknown,
            "the server is not ready, try again",
        )
    }

    /// 503: the request was given up.
    #[must_use]
    pub fn took_too_long() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Unknown,
            "the request took too long",
        )
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The Matrix error code, unless the client merely has to authenticate.
    #[must_use]
    pub fn kind(&self) -> Option<&ErrorKind> {
        match &self.body {
            Body::Standard(body) => Some(&body.kind),
            Body::Uiaa(info) => info.auth_error.as_ref().map(|body| &body.kind),
        }
    }

    /// The error as a body, for instance as `auth_error` of a [`UiaaInfo`].
    #[must_use]
    pub fn into_standard_body(self) -> Option<Box<StandardErrorBody>> {
        match self.body {
            Body::Standard(body) => Some(body),
            Body::Uiaa(info) => info.auth_error,
        }
    }

    /// The seconds for `Retry-After`.
    fn retry_after(&self) -> Option<u64> {
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            return Some(5);
        }
        let ErrorKind::LimitExceeded(LimitExceededErrorData {
            retry_after: Some(RetryAfter::Delay(wait)),
            ..
        }) = self.kind()?
        else {
            return None;
        };
        Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    }
}

/// Whether the client keeps its keys when it is logged out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoftLogout {
    /// It does, and logs in again with the same device.
    Yes,
    /// It does not.
    No,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Standard(body) => {
                write!(
                    f,
                    "{} {}: {}",
                    self.status,
                    body.kind.errcode(),
                    body.message
                )
            }
            Body::Uiaa(_) => write!(f, "{}: authentication is needed", self.status),
        }
    }
}

impl Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry_after = self.retry_after();
        let mut response = match self.body {
            Body::Standard(body) => (self.status, Json(body)).into_response(),
            Body::Uiaa(info) => (self.status, Json(info)).into_response(),
        };
        if let Some(seconds) = retry_after {
            let value = HeaderValue::from(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        if hearth_store::is_connection_error(&error) {
            tracing::warn!(error = &error as &dyn Error, "the database is away");
            Self::unavailable()
        } else if hearth_store::is_unstorable_text(&error) {
            Self::invalid_param("names cannot have a null character")
        } else {
            Self::internal(error)
        }
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Overloaded => Self::unavailable(),
            WriteError::Storage(error) => error.into(),
            WriteError::Lost | WriteError::Duplicate(_) => Self::internal(error),
        }
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large("the request is too large"),
            _ => Self::bad_request(ErrorKind::Unknown, "the request ended early"),
        }
    }
}

impl From<FromHttpRequestError> for ApiError {
    fn from(error: FromHttpRequestError) -> Self {
        match error {
            FromHttpRequestError::Deserialization(error) => error.into(),
            FromHttpRequestError::MethodMismatch { .. } | _ => Self::method_not_allowed(),
        }
    }
}

impl From<DeserializationError> for ApiError {
    fn from(error: DeserializationError) -> Self {
        match error {
            DeserializationError::Json(error) => error.into(),
            DeserializationError::Utf8(_) => {
                Self::bad_request(ErrorKind::NotJson, "the request is not UTF-8")
            }
            DeserializationError::Query(error) => {
                let message = error.to_string();
                let kind = if message.contains("missing field") {
                    ErrorKind::MissingParam
                } else {
                    ErrorKind::InvalidParam
                };
                Self::bad_request(kind, message)
            }
            DeserializationError::Ident(error) => Self::invalid_param(error.to_string()),
            DeserializationError::Header(error) => Self::invalid_param(error.to_string()),
            DeserializationError::MultipartMixed(_) | _ => {
                Self::bad_request(ErrorKind::BadJson, "the request cannot be read")
            }
        }
    }
}

impl From<serde_json::Error> for ApiError {
    fn from(error: serde_json::Error) -> Self {
        let kind = match error.classify() {
            Category::Syntax | Category::Eof | Category::Io => ErrorKind::NotJson,
            Category::Data => ErrorKind::BadJson,
        };
        Self::bad_request(kind, error.to_string())
    }
}
