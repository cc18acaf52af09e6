//! `/.well-known/matrix/server` of other hosts.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, Error},
    rt::{TokioExecutor, TokioTimer},
};
use ruma::{OwnedServerName, ServerName};
use serde::Deserialize;

use crate::connect::Connector;

/// How many redirects are followed.
const MOST_REDIRECTS: usize = 5;

/// The largest file that is read.
const LARGEST: usize = 64 * 1024;

/// How long everything may take.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// How long a file is kept that does not say it, and the shortest and the longest time otherwise.
const DEFAULT_LIFETIME: Duration = Duration::from_hours(24);
const SHORTEST_LIFETIME: Duration = Duration::from_mins(5);
const LONGEST_LIFETIME: Duration = Duration::from_hours(48);

/// Reads well-known files.
#[derive(Clone, Debug)]
pub(crate) struct WellKnown {
    http: Client<Connector, Empty<Bytes>>,
}

/// Why there is no well-known file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WellKnownError {
    #[error("the host cannot be reached: {0}")]
    Unreachable(#[from] Error),
    #[error("it took too long")]
    TooLong,
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the redirect leads nowhere")]
    Redirect,
    #[error("the file is too large or ends early")]
    Body,
    #[error("the file is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "m.server")]
    server: OwnedServerName,
}

impl WellKnown {
    /// Reads them over these connections.
    pub(crate) fn new(connector: Connector) -> Self {
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Self { http }
    }

    /// Reads the file of a host, and how long it may be kept.
    pub(crate) async fn fetch(
        &self,
        host: &ServerName,
    ) -> Result<(OwnedServerName, Duration), WellKnownError> {
        match tokio::time::timeout(TIME_LIMIT, self.follow(host)).await {
            Ok(found) => found,
            Err(_) => Err(WellKnownError::TooLong),
        }
    }

    async fn follow(
        &self,
        host: &ServerName,
    ) -> Result<(OwnedServerName, Duration), WellKnownError> {
        let mut uri: Uri = format!("https://{host}/.well-known/matrix/server")
            .parse()
            .map_err(|_| WellKnownError::Redirect)?;
        for _ in 0..=MOST_REDIRECTS {
            let request = Request::get(uri.clone())
                .header(header::USER_AGENT, crate::USER_AGENT)
                .body(Empty::new())
                .map_err(|_| WellKnownError::Redirect)?;
            let response = self.http.request(request).await?;
            let status = response.status();
            if status.is_redirection() {
                uri = redirect(&uri, response.headers()).ok_or(WellKnownError::Redirect)?;
                continue;
            }
            if status != StatusCode::OK {
                return Err(WellKnownError::Status(status));
            }
            let lifetime = lifetime(response.headers());
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            let body = body.map_err(|_| WellKnownError::Body)?.to_bytes();
            let file: File = serde_json::from_slice(&body)?;
            return Ok((file.server, lifetime));
        }
        Err(WellKnownError::Redirect)
    }
}

/// Where a redirect leads: an absolute `https` address, or a path on the same host.
fn redirect(from: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    let uri: Uri = location.parse().ok()?;
    match uri.scheme_str() {
        Some("https") => Some(uri),
        None if location.starts_with("//") => format!("https:{location}").parse().ok(),
        None if location.starts_with('/') => format!("https://{}{location}", from.authority()?)
            .parse()
            .ok(),
        Some(_) | None => None,
    }
}

/// How long an answer may be kept, by its `Cache-Control`.
fn lifetime(headers: &HeaderMap) -> Duration {
    let values = headers.get_all(header::CACHE_CONTROL);
    let directives = values.iter().filter_map(|value| value.to_str().ok());
    for directive in directives.flat_map(|value| value.split(',')).map(str::trim) {
        if directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache")
        {
            return SHORTEST_LIFETIME;
        }
        let Some((name, value)) = directive.split_once('=') else {
            continue;
        };
        if name.trim().eq_ignore_ascii_case("max-age")
            && let Ok(seconds) = value.trim().trim_matches('"').parse()
        {
            return Duration::from_secs(seconds).clamp(SHORTEST_LIFETIME, LONGEST_LIFETIME);
        }
    }
    DEFAULT_LIFETIME
}

#[cfg(test)]
mod tests;
