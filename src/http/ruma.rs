//! Requests and responses as `ruma` defines them.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts as _, Path, Request},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use ruma::{
    CanonicalJsonObject,
    api::{
        IncomingRequest, IncomingRequestExt as _, OutgoingResponse, OutgoingResponseExt as _,
        error::ErrorKind, path_builder::PathBuilder as _,
    },
};

use super::error::ApiError;

/// A request, as the last argument of a handler, or its response.
#[derive(Clone, Debug)]
pub struct Ruma<T>(pub T);

impl<T: IncomingRequest, S: Send + Sync> FromRequest<S> for Ruma<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        decode(request, state)
            .await
            .map(|(request, _)| Self(request))
    }
}

/// A request with all that its body says, also what `ruma` does not know, as the last argument of a handler.
#[derive(Clone, Debug)]
pub struct WithBody<T> {
    /// The request.
    pub request: T,
    /// Its body.
    pub body: CanonicalJsonObject,
}

impl<T: IncomingRequest, S: Send + Sync> FromRequest<S> for WithBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (request, body) = decode(request, state).await?;
        let body = serde_json::from_slice(&body)?;
        Ok(Self { request, body })
    }
}

async fn decode<T: IncomingRequest, S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<(T, Bytes), ApiError> {
    let (mut parts, body) = request.into_parts();
    let mut args = path_arguments(&mut parts, state).await?;
    if args.len() + 1 == parameters::<T>() {
        // The state key is empty, and the path ends before it.
        args.push(String::new());
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let request = Request::from_parts(parts, body);
    let (parts, body) = read(request, state).await?;
    let request = T::try_from_http_request(Request::from_parts(parts, &*body), &args)?;
    Ok((request, body))
}

/// What the path says, decoded.
pub(super) async fn path_arguments<S: Send + Sync>(
    parts: &mut http::request::Parts,
    state: &S,
) -> Result<Vec<String>, ApiError> {
    Path::<Vec<String>>::from_request_parts(parts, state)
        .await
        .map(|Path(args)| args)
        .map_err(|_| ApiError::invalid_param("the path is not UTF-8"))
}

/// How many parameters the path of `T` has.
fn parameters<T: IncomingRequest>() -> usize {
    let history = T::PATH_BUILDER;
    let path = history.all_paths().next();
    path.map_or(0, |path| path.matches('{').count())
}

/// Takes the body in, up to the limit of the route, and looks whether it is an object.
pub(super) async fn read<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<(http::request::Parts, Bytes), ApiError> {
    let (parts, body) = request.into_parts();
    if parts.method == Method::GET || parts.method == Method::HEAD {
        return Ok((parts, Bytes::new()));
    }
    let mut whole = Request::from_parts(parts.clone(), body);
    *whole.headers_mut() = http::HeaderMap::new();
    let body = Bytes::from_request(whole, state).await?;
    if parts.uri.path().starts_with("/_matrix/media/") {
        return Ok((parts, body));
    }
    if body.is_empty() && parts.method != Method::PUT {
        return Ok((parts, Bytes::from_static(b"{}")));
    }
    if body.trim_ascii_start().first() != Some(&b'{') {
        serde_json::from_slice::<serde::de::IgnoredAny>(&body)?;
        return Err(ApiError::bad_request(
            ErrorKind::BadJson,
            "the body must be a JSON object",
        ));
    }
    Ok((parts, body))
}

impl<T: OutgoingResponse> IntoResponse for Ruma<T> {
    fn into_response(self) -> Response {
        match self.0.try_into_http_response::<BytesMut>() {
            Ok(response) => response.map(|body| Body::from(body.freeze())),
            Err(error) => {
                let mut response = ApiError::internal(error).into_response();
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
        }
    }
}
