//! What happens to every request, whatever it asks for.

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, Method, StatusCode, header};
use tower_http::{
    CompressionLevel,
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer, Predicate as _,
        predicate::{NotForContentType, SizeAbove},
    },
};

use super::{
    error::ApiError,
    live::Live,
    observe::{Numbers, observe},
};

/// Smaller answers are sent as they are.
const COMPRESS_ABOVE: u64 = 1024;

/// How long a request may take whose purpose is to wait.
const LONG_POLL_LIMIT: Duration = Duration::from_mins(15);

/// Puts all layers around `router`, the outermost last.
pub fn wrap(router: Router, live: Arc<Live>) -> Router {
    let worth_it = SizeAbove::new(COMPRESS_ABOVE)
        .and(NotForContentType::IMAGES)
        .and(NotForContentType::const_new("video/"))
        .and(NotForContentType::const_new("audio/"))
        .and(NotForContentType::const_new("application/octet-stream"));
    router
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(live, limit))
        .layer(
            CompressionLayer::new()
                .gzip(true)
                .quality(CompressionLevel::Fastest)
                .compress_when(worth_it),
        )
        .layer(from_fn(allow_origins))
        .layer(from_fn_with_state(Arc::new(Numbers::default()), observe))
}

/// Answers `OPTIONS` without any logic, and lets web pages of any origin read all answers.
///
/// See "Web Browser Clients" in the client-server specification.
async fn allow_origins(request: Request, next: Next) -> Response {
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::OK.into_response(),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, POST, PUT, DELETE, OPTIONS",
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "X-Requested-With, Content-Type, Authorization",
        ),
        (
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "X-Request-Id, Retry-After",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Limits the size of the body, unless the route has a limit of its own, and the time.
async fn limit(State(live): State<Arc<Live>>, mut request: Request, next: Next) -> Response {
    let limits = live.limits();
    DefaultBodyLimit::max(limits.max_body.bytes()).apply(&mut request);
    let time = match request.extensions().get::<MatchedPath>() {
        Some(path) if waits(path.as_str()) => LONG_POLL_LIMIT,
        Some(_) | None => limits.request_timeout.duration(),
    };
    if let Ok(response) = tokio::time::timeout(time, next.run(request)).await {
        response
    } else {
        tracing::warn!("the request took longer than {time:?}");
        ApiError::took_too_long().into_response()
    }
}

/// Whether the purpose of the route is to wait.
fn waits(path: &str) -> bool {
    path.ends_with("/sync") || path.ends_with("/events")
}

/// What a client is told when a handler panics. The panic itself is logged by the hook.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        ruma::api::error::ErrorKind::Unknown,
        "internal error",
    )
    .into_response()
}

#[cfg(test)]
mod tests;
