//! Opening connections to other servers.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use ruma::ServerName;
use rustls::pki_types;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::discovery::{
    address::Reach,
    dns::{Dns, Target},
};

/// How long one address may take to accept a connection.
const ADDRESS_LIMIT: Duration = Duration::from_secs(5);

/// How long it may take altogether until a connection is open and its certificate checked.
const CONNECT_LIMIT: Duration = Duration::from_secs(12);

/// The ports of servers that name none.
const FEDERATION_PORT: u16 = 8448;
const WEB_PORT: u16 = 443;

/// The port of those that are reached without encryption.
const PLAIN_PORT: u16 = 80;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Requests between servers: the authority of a request is what discovery says belongs into its `Host` header. It
    /// says as well where the server is: the port, or else the SRV records of the host, or else port 8448.
    Federation,
    /// Requests to a web server: for well-known files, and to gateways.
    Web,
    /// The same, also without encryption.
    PlainWeb,
}

/// Opens connections.
#[derive(Clone)]
pub struct Connector(Arc<Inner>);

struct Inner {
    purpose: Purpose,
    /// That of servers that name none.
    port: u16,
    reach: Reach,
    dns: Dns,
    tls: TlsConnector,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("purpose", &self.0.purpose)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// Connections for `purpose` to hosts within `reach`.
    #[must_use]
    pub fn new(purpose: Purpose, reach: Reach, dns: Dns, tls: Arc<rustls::ClientConfig>) -> Self {
        let port = match purpose {
            Purpose::Federation => FEDERATION_PORT,
            Purpose::Web | Purpose::PlainWeb => WEB_PORT,
        };
        Self(Arc::new(Inner {
            purpose,
            port,
            reach,
            dns,
            tls: TlsConnector::from(tls),
        }))
    }

    /// The same with another port for servers that name none.
    #[cfg(test)]
    pub(crate) fn with_port(mut self, port: u16) -> Self {
        Arc::get_mut(&mut self.0).expect("it is new").port = port;
        self
    }

    async fn open(self, uri: Uri) -> io::Result<TokioIo<Stream>> {
        let authority = uri.authority().ok_or(io::ErrorKind::InvalidInput)?;
        let name = <&ServerName>::try_from(authority.as_str()).map_err(io::Error::other)?;
        let opening = async {
            let is_plain = uri.scheme() == Some(&Scheme::HTTP);
            if is_plain && self.0.purpose != Purpose::PlainWeb {
                return Err(io::ErrorKind::Unsupported.into());
            }
            let stream = self.reach_server(name, is_plain).await?;
            stream.set_nodelay(true)?;
            if is_plain {
                return Ok(Stream::Plain(stream));
            }
            let host = name.host().trim_matches(['[', ']']).to_owned();
            // For an address the certificate must be for that address, and no name is sent.
            let host = pki_types::ServerName::try_from(host).map_err(io::Error::other)?;
            let stream = self.0.tls.connect(host, stream).await?;
            Ok(Stream::Encrypted(Box::new(stream)))
        };
        match timeout(CONNECT_LIMIT, opening).await {
            Ok(stream) => stream.map(TokioIo::new),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn reach_server(&self, name: &ServerName, is_plain: bool) -> io::Result<TcpStream> {
        let host = name.host();
        let default = match is_plain {
            true => PLAIN_PORT,
            false => self.0.port,
        };
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return self.dial(&[address], name.port().unwrap_or(default)).await;
        }
        if let Some(port) = name.port() {
            return self.dial_host(host, port).await;
        }
        let targets = match self.0.purpose {
            Purpose::Federation => self.0.dns.matrix_service(host).await,
            Purpose::Web | Purpose::PlainWeb => Vec::new(),
        };
        let mut failure = None;
        for Target { host, port } in &targets {
            match self.dial_host(host, *port).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => self.dial_host(host, default).await,
        }
    }

    async fn dial_host(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let addresses = self.0.dns.addresses(host).await?;
        self.dial(&addresses, port).await
    }

    /// Opens a connection to the first address that accepts one.
    ///
    /// Addresses are judged here, after the name was resolved and right before they are used, so that no answer of the
    /// DNS leads into the own network.
    async fn dial(&self, addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            if !self.0.reach.allows(*address) {
                failure = io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "the address is not on the internet",
                );
                continue;
            }
            let connecting = TcpStream::connect(SocketAddr::new(*address, port));
            match timeout(ADDRESS_LIMIT, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(failure)
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().open(uri))
    }
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Encrypted.
    Encrypted(Box<TlsStream<TcpStream>>),
    /// Open to whoever listens.
    Plain(TcpStream),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Encrypted(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            Self::Encrypted(_) | Self::Plain(_) => Connected::new(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Encrypted(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Encrypted(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
