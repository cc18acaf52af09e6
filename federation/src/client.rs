//! Signed requests to other servers.

mod bounds;
mod error;

use std::{error::Error, fmt, path::Path, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use hearth_core::Identity;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{
        self,
        connect::{CaptureConnection, capture_connection},
    },
    rt::{TokioExecutor, TokioTimer},
};
use moka::sync::Cache;
use ruma::{
    OwnedServerName, OwnedServerSigningKeyId, ServerName,
    api::{
        IncomingResponse, Metadata, OutgoingBody, OutgoingRequest,
        auth_scheme::NoAuthentication,
        error::StandardErrorBody,
        federation::authentication::{ServerSignatures, XMatrix},
        path_builder::SinglePath,
    },
    serde::Base64,
    signatures::KeyPair as _,
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

pub use self::{bounds::Bounds, error::RequestError};
use crate::{
    connect::{Connector, Purpose},
    discovery::{Discovery, WellKnown, address::Reach, dns::Dns},
    intake::{Intake, Space},
    trust::{self, TrustError},
};

/// How many idle connections to one server are kept, and for how long.
const IDLE_CONNECTIONS: usize = 4;
const IDLE_TIME: Duration = Duration::from_secs(60);

/// How many servers are remembered that answered, and for how long.
const ANSWERED: u64 = 20_000;
const ANSWERED_TIME: Duration = Duration::from_hours(1);

/// The largest error that is read.
const LARGEST_ERROR: usize = 64 * 1024;

/// Makes requests to other servers.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    identity: Arc<Identity>,
    discovery: Discovery,
    intake: Intake,
    answered: Cache<OwnedServerName, ()>,
    http: legacy::Client<Connector, Full<Bytes>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// A request of `ruma` that another server checks the signature of.
pub trait SignedRequest:
    OutgoingRequest + Metadata<Authentication = ServerSignatures, PathBuilder = SinglePath>
{
}

impl<R> SignedRequest for R where
    R: OutgoingRequest + Metadata<Authentication = ServerSignatures, PathBuilder = SinglePath>
{
}

/// A request of `ruma` that needs no signature.
pub trait OpenRequest:
    OutgoingRequest + Metadata<Authentication = NoAuthentication, PathBuilder = SinglePath>
{
}

impl<R> OpenRequest for R where
    R: OutgoingRequest + Metadata<Authentication = NoAuthentication, PathBuilder = SinglePath>
{
}

impl Client {
    /// Requests signed by `identity` to servers within `reach`, whose certificates the system trusts or `ca_file`.
    ///
    /// # Errors
    ///
    /// When `ca_file` cannot be used.
    pub fn new(
        identity: Arc<Identity>,
        reach: Reach,
        ca_file: Option<&Path>,
    ) -> Result<Self, TrustError> {
        let tls = trust::client_config(ca_file)?;
        let dns = Dns::of_system();
        let web = Connector::new(Purpose::Web, reach, dns.clone(), Arc::clone(&tls));
        let matrix = Connector::new(Purpose::Federation, reach, dns, tls);
        Ok(Self::over(identity, web, matrix))
    }

    /// Requests over connections to web servers, for well-known files, and to Matrix servers.
    pub(crate) fn over(identity: Arc<Identity>, web: Connector, matrix: Connector) -> Self {
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_max_buf_size(256 * 1024)
            .build(matrix);
        Self(Arc::new(Inner {
            identity,
            discovery: Discovery::new(WellKnown::new(web)),
            intake: Intake::new(),
            answered: Cache::builder()
                .max_capacity(ANSWERED)
                .time_to_live(ANSWERED_TIME)
                .build(),
            http,
        }))
    }

    /// Sends a signed request.
    ///
    /// # Errors
    ///
    /// See [`RequestError`].
    pub async fn send<R: SignedRequest>(
        &self,
        destination: &ServerName,
        request: R,
        bounds: Bounds,
    ) -> Result<R::IncomingResponse, RequestError> {
        let request = self.sign(build(request)?, destination)?;
        let (response, _space) = self.perform(destination, request, bounds).await?;
        read(&response)
    }

    /// Sends a signed request, and reads of the answer only what `T` has.
    ///
    /// # Errors
    ///
    /// See [`RequestError`].
    pub async fn read<T: DeserializeOwned>(
        &self,
        destination: &ServerName,
        request: impl SignedRequest,
        bounds: Bounds,
    ) -> Result<T, RequestError> {
        let request = self.sign(build(request)?, destination)?;
        let (response, _space) = self.perform(destination, request, bounds).await?;
        serde_json::from_slice(response.body())
            .map_err(|error| RequestError::Malformed(error.to_string()))
    }

    /// Whether a server answered a request in the last hour, whatever it said.
    #[must_use]
    pub fn has_answered(&self, server: &ServerName) -> bool {
        self.0.answered.contains_key(server)
    }

    /// Sends a request without a signature.
    ///
    /// # Errors
    ///
    /// See [`RequestError`].
    pub async fn ask<R: OpenRequest>(
        &self,
        destination: &ServerName,
        request: R,
        bounds: Bounds,
    ) -> Result<R::IncomingResponse, RequestError> {
        let (response, _space) = self.perform(destination, build(request)?, bounds).await?;
        read(&response)
    }

    /// Sends a signed request whose answer is read piece by piece; errors of the other server are read already.
    ///
    /// # Errors
    ///
    /// See [`RequestError`].
    pub async fn open<R: SignedRequest>(
        &self,
        destination: &ServerName,
        request: R,
        time: Duration,
    ) -> Result<Response<Incoming>, RequestError> {
        let request = self.sign(build(request)?, destination)?;
        let (mut request, deadline) = self.address(destination, request, time).await?;
        let connection = capture_connection(&mut request);
        match timeout_at(deadline, self.begin(destination, request)).await {
            Ok(response) => response,
            Err(_) => Err(given_up(&connection)),
        }
    }

    async fn perform(
        &self,
        destination: &ServerName,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Result<(Response<Bytes>, Space), RequestError> {
        let (mut request, deadline) = self.address(destination, request, bounds.time).await?;
        let connection = capture_connection(&mut request);
        let performing = async {
            let response = self.begin(destination, request).await?;
            let (parts, body) = response.into_parts();
            let (body, space) = self.0.intake.collect(body, bounds.size).await?;
            Ok((Response::from_parts(parts, body), space))
        };
        match timeout_at(deadline, performing).await {
            Ok(response) => response,
            Err(_) => Err(given_up(&connection)),
        }
    }

    /// The space for answers that are read piece by piece.
    pub(crate) fn intake(&self) -> &Intake {
        &self.0.intake
    }

    /// Finds out where a request goes, and until when its answer must be there.
    async fn address(
        &self,
        destination: &ServerName,
        request: Request<Bytes>,
        time: Duration,
    ) -> Result<(Request<Full<Bytes>>, Instant), RequestError> {
        if destination == self.0.identity.server_name {
            return Err(RequestError::Ourselves);
        }
        let deadline = Instant::now() + time;
        let host = timeout_at(deadline, self.0.discovery.host_of(destination)).await;
        let host = host.map_err(|_| RequestError::TooLong)?;
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = Uri::builder()
            .scheme("https")
            .authority(host.as_str())
            .path_and_query(path)
            .build()
            .map_err(|error| RequestError::BadRequest(error.to_string()))?;
        // The client would leave out the ports that are usual.
        let host = HeaderValue::from_str(host.as_str())
            .map_err(|error| RequestError::BadRequest(error.to_string()))?;
        parts.headers.insert(header::HOST, host);
        let agent = HeaderValue::from_static(crate::USER_AGENT);
        parts.headers.insert(header::USER_AGENT, agent);
        Ok((Request::from_parts(parts, Full::new(body)), deadline))
    }

    /// Sends a request and waits for the head of a successful answer.
    async fn begin(
        &self,
        destination: &ServerName,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, RequestError> {
        let response = self.0.http.request(request).await;
        let response = response.map_err(|error| RequestError::Unreachable(causes(&error)))?;
        self.0.answered.insert(destination.to_owned(), ());
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body();
        let (body, _space) = self.0.intake.collect(body, LARGEST_ERROR).await?;
        let error = serde_json::from_slice::<StandardErrorBody>(&body).ok();
        Err(RequestError::Refused {
            status,
            message: error
                .as_ref()
                .map_or_else(String::new, |error| error.message.clone()),
            kind: error.map(|error| error.kind),
        })
    }

    /// Adds the `Authorization` header.
    fn sign(
        &self,
        mut request: Request<Bytes>,
        destination: &ServerName,
    ) -> Result<Request<Bytes>, RequestError> {
        let Identity { server_name, key } = &*self.0.identity;
        let malformed = |error: &dyn Error| RequestError::BadRequest(error.to_string());
        let object = XMatrix::request_object(&request, server_name, destination)
            .map_err(|error| malformed(&error))?;
        let bytes = serde_json::to_vec(&object).map_err(|error| malformed(&error))?;
        let signature = key.sign(&bytes);
        let key_id = OwnedServerSigningKeyId::try_from(key.id()).map_err(|e| malformed(&e))?;
        let header = XMatrix::new(
            server_name.clone(),
            destination.to_owned(),
            key_id,
            Base64::new(signature.as_bytes().to_vec()),
        );
        let header = HeaderValue::from(&header);
        request.headers_mut().insert(header::AUTHORIZATION, header);
        Ok(request)
    }
}

/// The request with a path for an address.
fn build<R>(request: R) -> Result<Request<Bytes>, RequestError>
where
    R: OutgoingRequest + Metadata<PathBuilder = SinglePath>,
{
    let malformed = |error: &dyn Error| RequestError::BadRequest(error.to_string());
    let (mut parts, body) = request
        .try_into_http_request_inner("", ())
        .map_err(|error| malformed(&error))?
        .into_parts();
    if let Some(kind) = body.content_type() {
        parts.headers.entry(header::CONTENT_TYPE).or_insert(kind);
    }
    let body: BytesMut = body
        .try_into_buf()
        .map_err(|error| malformed(&Into::<ruma::api::error::IntoHttpError>::into(error)))?;
    Ok(Request::from_parts(parts, body.freeze()))
}

fn read<T: IncomingResponse>(response: &Response<Bytes>) -> Result<T, RequestError> {
    let borrowed = Response::builder()
        .status(response.status())
        .body(&**response.body());
    let mut borrowed = borrowed.expect("a status makes a response");
    borrowed.headers_mut().clone_from(response.headers());
    T::try_from_http_response_inner(borrowed)
        .map_err(|error| RequestError::Malformed(error.to_string()))
}

/// A request was given up. Its connection may be dead without anybody having said so, and is used for no other.
pub(crate) fn given_up(connection: &CaptureConnection) -> RequestError {
    if let Some(connection) = &*connection.connection_metadata() {
        connection.poison();
    }
    RequestError::TooLong
}

/// An error with its causes.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
