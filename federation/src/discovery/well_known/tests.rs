use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::HeaderValue;
use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    connect::Purpose,
    discovery::{address::Reach, dns::Dns},
};

fn kept(value: &'static str) -> Duration {
    let value = HeaderValue::from_static(value);
    lifetime(&HeaderMap::from_iter([(header::CACHE_CONTROL, value)]))
}

#[test]
fn a_file_is_kept_as_long_as_it_says_within_limits() {
    assert_eq!(kept("public, max-age=3600"), Duration::from_hours(1));
    assert_eq!(kept("max-age=1"), SHORTEST_LIFETIME);
    assert_eq!(kept("max-age=99999999"), LONGEST_LIFETIME);
    assert_eq!(kept("no-store"), SHORTEST_LIFETIME);
    assert_eq!(kept("max-age=-1"), DEFAULT_LIFETIME);
    assert_eq!(lifetime(&HeaderMap::new()), DEFAULT_LIFETIME);
}

#[test]
fn redirects_stay_encrypted() {
    let from = Uri::from_static("https://a.example/x");
    let to = |location: &'static str| {
        let value = HeaderValue::from_static(location);
        let headers = HeaderMap::from_iter([(header::LOCATION, value)]);
        redirect(&from, &headers).map(|uri| uri.to_string())
    };

    assert_eq!(to("/y").as_deref(), Some("https://a.example/y"));
    assert_eq!(
        to("https://b.example/").as_deref(),
        Some("https://b.example/")
    );
    assert_eq!(to("http://b.example/"), None);
}

/// A web server that gives one answer to everything.
struct Host {
    name: OwnedServerName,
    tls: Arc<ClientConfig>,
    connections: Arc<AtomicUsize>,
}

impl Host {
    async fn start(answer: String) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let (acceptor, count) = (
            TlsAcceptor::from(Arc::new(server)),
            Arc::clone(&connections),
        );
        TaskTracker::new().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut request = [0; 4_096];
                let _ = stream.read(&mut request).await;
                // Who asks may have gone.
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self {
            name: ServerName::parse(format!("localhost:{port}")).unwrap(),
            tls: Arc::new(tls),
            connections,
        }
    }

    async fn fetch(&self, reach: Reach) -> Result<OwnedServerName, WellKnownError> {
        let tls = Arc::clone(&self.tls);
        let connector = Connector::new(Purpose::Web, reach, Dns::of_system(), tls);
        let well_known = WellKnown::new(connector);
        let (server, _) = well_known.fetch(&self.name).await?;
        Ok(server)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn file(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn leads_to(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn a_file_says_where_the_server_is() {
    let host = Host::start(file("{\"m.server\":\"matrix.example:443\"}")).await;

    let server = host.fetch(Reach::Anywhere).await.unwrap();

    assert_eq!(server, "matrix.example:443");
}

#[tokio::test]
async fn redirects_in_a_ring_end() {
    let host = Host::start(leads_to("/.well-known/matrix/server")).await;

    let error = host.fetch(Reach::Anywhere).await.unwrap_err();

    assert!(matches!(error, WellKnownError::Redirect), "{error}");
    assert_eq!(host.connections(), MOST_REDIRECTS + 1);
}

#[tokio::test]
async fn a_file_that_is_too_large_or_none_says_nothing() {
    let large = format!(
        "{{\"m.server\":\"a.example\",\"x\":\"{}\"}}",
        "x".repeat(LARGEST)
    );
    let large = Host::start(file(&large)).await;
    let rubbish = Host::start(file("{\"m.server\":\"a b\"}")).await;

    let error = large.fetch(Reach::Anywhere).await.unwrap_err();
    assert!(matches!(error, WellKnownError::Body), "{error}");
    let error = rubbish.fetch(Reach::Anywhere).await.unwrap_err();
    assert!(matches!(error, WellKnownError::Malformed(_)), "{error}");
}

#[tokio::test]
async fn no_connection_is_opened_into_the_own_network() {
    let host = Host::start(file("{\"m.server\":\"a.example\"}")).await;

    let error = host.fetch(Reach::Public).await.unwrap_err();

    assert!(matches!(error, WellKnownError::Unreachable(_)), "{error}");
    assert_eq!(host.connections(), 0);
}
