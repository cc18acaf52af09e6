//! Responses in the form that version 1 of some endpoints between servers has.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use ruma::api::{OutgoingResponse, OutgoingResponseExt as _};

use super::error::ApiError;

/// A response of `ruma` as the second part of a pair, of which the first is the status: `[200, {…}]`.
#[derive(Clone, Debug)]
pub struct Paired<T>(pub T);

impl<T: OutgoingResponse> IntoResponse for Paired<T> {
    fn into_response(self) -> Response {
        match self.0.try_into_http_response::<BytesMut>() {
            Ok(response) => {
                let status = response.status().as_u16();
                response.map(|body| pair(status, &body)).into_response()
            }
            Err(error) => ApiError::internal(error).into_response(),
        }
    }
}

fn pair(status: u16, body: &[u8]) -> Body {
    let status = format!("[{status},");
    Body::from([status.as_bytes(), body, b"]"].concat())
}
