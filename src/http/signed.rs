//! Requests of other servers.

use axum::extract::{FromRef, FromRequest, Request};
use bytes::Bytes;
use hearth_federation::{
    Authenticator, Outbound,
    authentication::{AuthenticationError, Claim, Content},
};
use http::{Method, StatusCode};
use ruma::{
    OwnedServerName,
    api::{IncomingRequest, IncomingRequestExt as _, error::ErrorKind},
};

use super::{error::ApiError, limit::RateLimits, ruma::path_arguments};

/// A request of `ruma` that another server signed, as the last argument of a handler.
///
/// Nothing of it is looked at before its signature is checked. Then it is counted: `limits.federation`.
#[derive(Clone, Debug)]
pub struct Signed<T> {
    /// The server that makes the request.
    pub origin: OwnedServerName,
    /// The request.
    pub request: T,
}

impl<T: IncomingRequest, S: Send + Sync> FromRequest<S> for Signed<T>
where
    Authenticator: FromRef<S>,
    Outbound: FromRef<S>,
    RateLimits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let arguments = path_arguments(&mut parts, state).await?;
        let claim = Claim::read(&parts.headers)?;
        let body = match parts.method {
            Method::GET | Method::HEAD => Bytes::new(),
            _ => Bytes::from_request(Request::from_parts(parts.clone(), body), state).await?,
        };
        let content = Content {
            method: &parts.method,
            uri: &parts.uri,
            body: &body,
        };
        let origin = Authenticator::from_ref(state)
            .check(&claim, content)
            .await?;
        RateLimits::from_ref(state).check_server(&origin)?;
        Outbound::from_ref(state).heard_from(&origin).await?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let request = T::try_from_http_request(Request::from_parts(parts, &*body), &arguments)?;
        Ok(Self { origin, request })
    }
}

impl From<AuthenticationError> for ApiError {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::Missing
            | AuthenticationError::Malformed(_)
            | AuthenticationError::OtherDestination
            | AuthenticationError::Ourselves
            | AuthenticationError::UnknownKey
            | AuthenticationError::WrongSignature => Self::new(
                StatusCode::UNAUTHORIZED,
                ErrorKind::Unauthorized,
                error.to_string(),
            ),
            AuthenticationError::Body(error) => error.into(),
            AuthenticationError::Keys(error) => error.into(),
        }
    }
}
