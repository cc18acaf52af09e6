//! Listeners and connections.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use hearth_core::config::{self, Bind, Limits};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    client_address::ClientAddress,
    drain::Drain,
    live::Live,
    socket::Socket,
    tls::{Certificate, TlsError},
};

/// How long the exchange of keys may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// The most that one HTTP/1 connection buffers, which bounds the head of a request as well.
///
/// Buffers begin with 8 KiB, and an idle connection has no more than that.
const LARGEST_BUFFER: usize = 64 * 1024;

/// How many requests one HTTP/2 connection may have under way.
const LARGEST_STREAM_COUNT: u32 = 200;

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be used.
    #[error("cannot listen on {bind}: {source}")]
    Bind {
        /// The address.
        bind: Bind,
        /// What the system says.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error("cannot serve TLS on {bind}: {source}")]
    Tls {
        /// The address.
        bind: Bind,
        /// What is wrong.
        source: TlsError,
    },
}

/// An address that is open and not served yet.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Bind,
    certificate: Option<Arc<Certificate>>,
    is_forwarded: bool,
}

impl Listener {
    /// Opens an address.
    ///
    /// # Errors
    ///
    /// When the address is taken or not this machine's, or the certificate cannot be used.
    pub async fn open(listener: &config::Listener) -> Result<Self, ListenError> {
        let bind = &listener.bind;
        let certificate = match &listener.tls {
            None => None,
            Some(files) => {
                let certificate = Certificate::read(files.clone());
                Some(Arc::new(certificate.map_err(|source| {
                    ListenError::Tls {
                        bind: bind.clone(),
                        source,
                    }
                })?))
            }
        };
        let failed = |source| ListenError::Bind {
            bind: bind.clone(),
            source,
        };
        let socket = Socket::open(bind).await.map_err(failed)?;
        Ok(Self {
            address: socket.address().map_err(failed)?,
            socket,
            certificate,
            is_forwarded: listener.forwarded,
        })
    }

    /// The address, with the port that the system chose.
    #[must_use]
    pub fn address(&self) -> &Bind {
        &self.address
    }

    /// The certificate, to be reloaded.
    #[must_use]
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        self.certificate.clone()
    }
}

/// What all listeners of a server share.
#[derive(Clone, Debug)]
pub struct Serving {
    /// The limits in force.
    pub live: Arc<Live>,
    /// How many more connections there may be.
    pub slots: Arc<Semaphore>,
    /// Where tasks are counted, so that the end waits for them.
    pub tasks: TaskTracker,
    /// When it begins, requests are finished and no more are taken.
    pub drain: Drain,
    /// When it is cancelled, connections are cut off.
    pub cut: CancellationToken,
}

impl Serving {
    /// Serves nothing yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let slots = limits.max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            live: Arc::new(Live::new(limits.clone())),
            slots: Arc::new(Semaphore::new(slots)),
            tasks: TaskTracker::new(),
            drain: Drain::default(),
            cut: CancellationToken::new(),
        }
    }

    /// Serves `router` on `listener` from now on.
    pub fn serve(&self, listener: Listener, router: Router) {
        self.tasks.spawn(accept(self.clone(), listener, router));
    }
}

async fn accept(serving: Serving, listener: Listener, router: Router) {
    loop {
        let next = async {
            let slots = Arc::clone(&serving.slots);
            let slot = slots.acquire_owned().await.expect("never closed");
            (slot, listener.socket.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = serving.drain.begun() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = Connection {
                    serving: serving.clone(),
                    router: router.clone(),
                    peer: ClientAddress::new(peer),
                    is_forwarded: listener.is_forwarded,
                    slot,
                };
                match &listener.certificate {
                    None => serving.tasks.spawn(connection.run(stream)),
                    Some(certificate) => {
                        let acceptor = certificate.acceptor();
                        serving.tasks.spawn(connection.run_tls(acceptor, stream))
                    }
                };
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                // Mostly there are too many open files, which does not end at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

struct Connection {
    serving: Serving,
    router: Router,
    peer: ClientAddress,
    is_forwarded: bool,
    slot: OwnedSemaphorePermit,
}

impl Connection {
    async fn run_tls(
        self,
        acceptor: tokio_rustls::TlsAcceptor,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) {
        let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream));
        let drain = self.serving.drain.clone();
        let stream = tokio::select! {
            () = drain.begun() => return,
            stream = handshake => stream,
        };
        match stream {
            // The box keeps the state of TLS out of the connections that have none.
            Ok(Ok(stream)) => Box::pin(self.run(stream)).await,
            Ok(Err(error)) => tracing::debug!("no TLS connection: {error}"),
            Err(_) => tracing::debug!("no TLS connection: it took too long"),
        }
    }

    async fn run(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self {
            serving,
            router,
            peer,
            is_forwarded,
            slot,
        } = self;
        let head_limit = serving.live.limits().header_timeout.duration();
        let has_begun = Arc::new(AtomicBool::new(false));
        let begun = Arc::clone(&has_begun);
        let service = service_fn(move |mut request: Request<Incoming>| {
            begun.store(true, Ordering::Relaxed);
            let client = if is_forwarded {
                ClientAddress::forwarded(request.headers(), peer)
            } else {
                peer
            };
            request.extensions_mut().insert(client);
            router.clone().oneshot(request.map(Body::new))
        });
        let builder = builder(head_limit);
        let mut connection =
            pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let mut first = pin!(tokio::time::sleep(head_limit));
        let mut is_draining = false;
        let mut is_young = true;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::trace!("the connection broke: {error}");
                    }
                    break;
                }
                () = serving.drain.begun(), if !is_draining => {
                    is_draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = serving.cut.cancelled() => break,
                () = first.as_mut(), if is_young => {
                    is_young = false;
                    if !has_begun.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
        }
        drop(slot);
    }
}

fn builder(head_limit: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_limit)
        .max_buf_size(LARGEST_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(LARGEST_STREAM_COUNT)
        .max_header_list_size(16 * 1024)
        .keep_alive_interval(Some(Duration::from_mins(1)))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

#[cfg(test)]
mod tests;
