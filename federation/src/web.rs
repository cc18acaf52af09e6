//! Requests to web servers whose addresses users give.

use std::{fmt, path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{self, connect::capture_connection},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;

use crate::{
    client::{Bounds, RequestError, causes, given_up},
    connect::{Connector, Purpose},
    discovery::{address::Reach, dns::Dns},
    intake::Intake,
    trust::{self, TrustError},
};

/// How many idle connections to one server are kept, and for how long.
const IDLE_CONNECTIONS: usize = 4;
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Whether requests may go without encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// They may not.
    Required,
    /// They may, to `http` addresses.
    Optional,
}

/// Makes requests to web servers.
#[derive(Clone)]
pub struct Web {
    intake: Intake,
    http: legacy::Client<Connector, Full<Bytes>>,
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").finish_non_exhaustive()
    }
}

impl Web {
    /// Requests to servers within `reach`, whose certificates the system trusts or `ca_file`.
    ///
    /// # Errors
    ///
    /// When `ca_file` cannot be used.
    pub fn new(
        reach: Reach,
        encryption: Encryption,
        ca_file: Option<&Path>,
    ) -> Result<Self, TrustError> {
        let tls = trust::client_config(ca_file)?;
        let purpose = match encryption {
            Encryption::Required => Purpose::Web,
            Encryption::Optional => Purpose::PlainWeb,
        };
        let connector = Connector::new(purpose, reach, Dns::of_system(), tls);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_max_buf_size(64 * 1024)
            .build(connector);
        Ok(Self {
            intake: Intake::new(),
            http,
        })
    }

    /// Sends JSON to `url` and gives the body of a successful answer. Redirects are not followed.
    ///
    /// # Errors
    ///
    /// See [`RequestError`].
    pub async fn post_json(
        &self,
        url: &str,
        body: Vec<u8>,
        bounds: Bounds,
    ) -> Result<Bytes, RequestError> {
        let uri: Uri = url
            .parse()
            .map_err(|_| RequestError::BadRequest("the address is malformed".to_owned()))?;
        let request = Request::post(uri)
            .header(header::USER_AGENT, crate::USER_AGENT)
            .header(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            )
            .body(Full::new(Bytes::from(body)));
        let mut request = request.map_err(|error| RequestError::BadRequest(error.to_string()))?;
        let connection = capture_connection(&mut request);
        let performing = async {
            let response = self.http.request(request).await;
            let response = response.map_err(|error| RequestError::Unreachable(causes(&error)))?;
            let status = response.status();
            let (body, _space) = self
                .intake
                .collect(response.into_body(), bounds.size)
                .await?;
            if status.is_success() {
                return Ok(body);
            }
            Err(RequestError::Refused {
                status,
                kind: None,
                message: String::new(),
            })
        };
        match timeout(bounds.time, performing).await {
            Ok(answer) => answer,
            Err(_) => Err(given_up(&connection)),
        }
    }
}
