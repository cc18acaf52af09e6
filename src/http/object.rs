//! Requests that are more lenient, or of more shapes, than `ruma` reads them.

use axum::extract::{FromRequest, Request};
use serde_json::{Map, Value};

use super::{
    error::ApiError,
    ruma::{path_arguments, read},
};

/// A request's path and the object that is its body, as the last argument of a handler.
#[derive(Clone, Debug)]
pub struct Object {
    /// What the path says, decoded.
    pub arguments: Vec<String>,
    /// The body.
    pub body: Map<String, Value>,
}

impl Object {
    /// A part of the path, counted from 0.
    ///
    /// # Errors
    ///
    /// 400 `M_INVALID_PARAM` when it is no `T`.
    pub fn argument<'a, T>(&'a self, index: usize) -> Result<T, ApiError>
    where
        T: TryFrom<&'a str>,
        T::Error: std::fmt::Display,
    {
        let argument = self.arguments.get(index).map_or("", String::as_str);
        T::try_from(argument).map_err(|error| ApiError::invalid_param(error.to_string()))
    }
}

impl<S: Send + Sync> FromRequest<S> for Object {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let arguments = path_arguments(&mut parts, state).await?;
        let (_, body) = read(Request::from_parts(parts, body), state).await?;
        // Only requests that have no body come through without one.
        let body = if body.is_empty() {
            Map::new()
        } else {
            serde_json::from_slice(&body)?
        };
        Ok(Self { arguments, body })
    }
}
