//! Signed requests to other servers.

use std::{error::Error, fmt, path::Path, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use hearth_core::Identity;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use ruma::{
    OwnedServerSigningKeyId, ServerName,
    api::{
        IncomingResponse, Metadata, OutgoingBody, OutgoingRequest,
        auth_scheme::NoAuthentication,
        error::{ErrorKind, StandardErrorBody},
        federation::authentication::{ServerSignatures, XMatrix},
        path_builder::SinglePath,
    },
    serde::Base64,
    signatures::KeyPair as _,
};

use crate::{
    connect::{Connector, Purpose},
    discovery::{Discovery, WellKnown, address::Reach, dns::Dns},
    trust::{self, TrustError},
};

/// How many idle connections to one server are kept, and for how long.
const IDLE_CONNECTIONS: usize = 4;
const IDLE_TIME: Duration = Duration::from_secs(60);

/// The largest error that is read.
const LARGEST_ERROR: usize = 64 * 1024;

/// How long a request may take and how large its answer may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Until the answer is there, all of it.
    pub time: Duration,
    /// In bytes.
    pub size: usize,
}

impl Bounds {
    /// For questions with small answers.
    pub const SMALL: Self = Self {
        time: Duration::from_secs(20),
        size: 1024 * 1024,
    };
    /// For lists of events.
    pub const LARGE: Self = Self {
        time: Duration::from_secs(60),
        size: 32 * 1024 * 1024,
    };
    /// For transactions, which the other server may take long to work through.
    pub const TRANSACTION: Self = Self {
        time: Duration::from_secs(60),
        size: 1024 * 1024,
    };
    /// For the whole state of a room with its auth chain.
    pub const ROOM: Self = Self {
        time: Duration::from_secs(180),
        size: 128 * 1024 * 1024,
    };
}

/// Makes requests to other servers.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    identity: Arc<Identity>,
    discovery: Discovery,
    http: legacy::Client<Connector, Full<Bytes>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Why a request had no success.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It was meant for ourselves.
    #[error("this is our own name")]
    Ourselves,
    /// The server cannot be reached.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("the server took too long")]
    TooLong,
    /// The answer is too large.
    #[error("the answer is too large")]
    TooLarge,
    /// The other server answers with an error.
    #[error("the server says {status}: {message}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The error code, if there is one.
        kind: Option<ErrorKind>,
        /// What it says to people.
        message: String,
    },
    /// The answer is not what it should be.
    #[error("the answer is malformed: {0}")]
    Malformed(String),
    /// The request cannot be written.
    #[error("the request is malformed: {0}")]
    BadRequest(String),
}

impl RequestError {
    /// Whether the server is there and understood what it was asked, and says no: another attempt makes no sense.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { status, .. } => {
                status.is_client_error() && *status != StatusCode::TOO_MANY_REQUESTS
            }
            Self::Ourselves | Self::BadRequest(_) => true,
            Self::Unreachable(_) | Self::TooLong | Self::TooLarge | Self::Malformed(_) => false,
        }
    }

    /// The error code that the other server gave.
    #[must_use]
    pub fn kind(&self) -> Option<&ErrorKind> {
        match self {
            Self::Refused { kind, .. } => kind.as_ref(),
            Self::Ourselves
            | Self::BadRequest(_)
            | Self::Unreachable(_)
            | Self::TooLong
            | Self::TooLarge
            | Self::Malformed(_) => None,
        }
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
        let well_known = WellKnown::new(reach, dns.clone(), Arc::clone(&tls));
        let connector = Connector::new(Purpose::Federation, reach, dns, tls);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_max_buf_size(256 * 1024)
            .build(connector);
        Ok(Self(Arc::new(Inner {
            identity,
            discovery: Discovery::new(well_known),
            http,
        })))
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
        let response = self.perform(destination, request, bounds).await?;
        read(&response)
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
        let response = self.perform(destination, build(request)?, bounds).await?;
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
        let opening = self.begin(destination, request);
        match tokio::time::timeout(time, opening).await {
            Ok(response) => response,
            Err(_) => Err(RequestError::TooLong),
        }
    }

    async fn perform(
        &self,
        destination: &ServerName,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Result<Response<Bytes>, RequestError> {
        let performing = async {
            let response = self.begin(destination, request).await?;
            let (parts, body) = response.into_parts();
            Ok(Response::from_parts(
                parts,
                collect(body, bounds.size).await?,
            ))
        };
        match tokio::time::timeout(bounds.time, performing).await {
            Ok(response) => response,
            Err(_) => Err(RequestError::TooLong),
        }
    }

    /// Sends a request and waits for the head of a successful answer.
    async fn begin(
        &self,
        destination: &ServerName,
        request: Request<Bytes>,
    ) -> Result<Response<Incoming>, RequestError> {
        if destination == self.0.identity.server_name {
            return Err(RequestError::Ourselves);
        }
        let host = self.0.discovery.host_of(destination).await;
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
        let request = Request::from_parts(parts, Full::new(body));
        let response = self.0.http.request(request).await;
        let response = response.map_err(|error| RequestError::Unreachable(causes(&error)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = collect(response.into_body(), LARGEST_ERROR).await?;
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

/// Takes a body in, as long as it is no larger than `size`.
pub(crate) async fn collect(body: Incoming, size: usize) -> Result<Bytes, RequestError> {
    match Limited::new(body, size).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(RequestError::TooLarge),
        Err(error) => Err(RequestError::Unreachable(error.to_string())),
    }
}

/// An error with its causes.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
