//! A number for every request, its log line and its figures.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderName, HeaderValue, Method};
use tracing::Instrument as _;

/// The header of the answer that bears the number under which the log knows the request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The histogram of request times, by method, route and status.
pub const REQUEST_DURATION: &str = "hearth_http_request_duration_seconds";

/// Gives out the numbers of requests.
///
/// They are counted and then hashed with a key of this process, so that two processes differ.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    count: AtomicU64,
    process: RandomState,
}

impl Numbers {
    fn next(&self) -> String {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}", self.process.hash_one(number))
    }
}

/// Runs the request within a span, and says afterwards how it went.
///
/// The log bears the template of the route, not the path, so that neither tokens in the query
/// nor the names of users and rooms end up there.
pub(super) async fn observe(
    State(numbers): State<Arc<Numbers>>,
    request: Request,
    next: Next,
) -> Response {
    let id = numbers.next();
    let start = Instant::now();
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let name = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let span = tracing::info_span!("request", id, method, route = name);

    let mut response = next.run(request).instrument(span.clone()).await;

    let time = start.elapsed();
    let status = response.status();
    span.in_scope(|| tracing::debug!(status = status.as_u16(), ?time, "answered {status}"));
    metrics::histogram!(
        REQUEST_DURATION,
        "method" => method,
        "route" => name.to_owned(),
        "status" => status.as_str().to_owned(),
    )
    .record(time);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A name from a short list, since strangers may invent methods.
fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
