use std::{fs, path::Path, time::Instant};

use axum::{extract::State, routing::get};
use hearth_core::config::{Span, Tls};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    sync::Notify,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;

/// How long anything in these tests may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

const FIRST: [&str; 2] = [
    include_str!("../fixtures/first.pem"),
    include_str!("../fixtures/first.key"),
];
const SECOND: [&str; 2] = [
    include_str!("../fixtures/second.pem"),
    include_str!("../fixtures/second.key"),
];

fn router() -> Router {
    Router::new().route("/", get(|| async { "hello" })).route(
        "/who",
        get(|client: ClientAddress| async move { format!("{:?}", client.ip()) }),
    )
}

fn listener(bind: &str, tls: Option<Tls>) -> config::Listener {
    config::Listener {
        bind: bind.parse().unwrap(),
        tls,
        forwarded: false,
    }
}

/// Serves [`router`] on a port that the system chose.
async fn start(serving: &Serving) -> String {
    let listener = Listener::open(&listener("127.0.0.1:0", None))
        .await
        .unwrap();
    let address = listener.address().to_string();
    serving.serve(listener, router());
    address
}

/// Sends one request and reads until the server closes the connection.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, more: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server may end a TLS connection without a farewell.
    let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_tcp_port_is_served() {
    let serving = Serving::new(&Limits::default());
    let address = start(&serving).await;

    let stream = TcpStream::connect(&address).await.unwrap();
    let answer = ask(stream, "/", "").await;

    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with("hello"));
}

#[tokio::test]
async fn http2_is_served_without_tls_to_those_who_know() {
    let serving = Serving::new(&Limits::default());
    let address = start(&serving).await;
    // The client wants a provider for all of the process, even without TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();

    let answer = client
        .get(format!("http://{address}/"))
        .send()
        .await
        .unwrap();

    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn a_proxy_is_believed_only_when_configured() {
    let serving = Serving::new(&Limits::default());
    let header = "X-Forwarded-For: 10.0.0.1, 192.0.2.7\r\n";
    for (forwarded, expected) in [(false, "Some(127.0.0.1)"), (true, "Some(192.0.2.7)")] {
        let config = config::Listener {
            forwarded,
            ..listener("127.0.0.1:0", None)
        };
        let listener = Listener::open(&config).await.unwrap();
        let address = listener.address().to_string();
        serving.serve(listener, router());

        let stream = TcpStream::connect(&address).await.unwrap();
        let answer = ask(stream, "/who", header).await;

        assert!(answer.ends_with(expected), "{answer}");
    }
}

#[tokio::test]
async fn a_unix_socket_takes_the_place_of_a_dead_one_and_goes_away_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hearth.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the dead socket is there");
    let bind = format!("unix:{}", path.display());
    let serving = Serving::new(&Limits::default());

    let open = Listener::open(&listener(&bind, None)).await.unwrap();
    serving.serve(open, router());
    let answer = ask(UnixStream::connect(&path).await.unwrap(), "/who", "").await;
    assert!(answer.ends_with("None"), "{answer}");

    let taken = Listener::open(&listener(&bind, None)).await;
    assert!(
        matches!(taken, Err(ListenError::Bind { .. })),
        "the living one is left alone"
    );

    serving.drain.begin();
    serving.tasks.close();
    tokio::time::timeout(LIMIT, serving.tasks.wait())
        .await
        .unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter");
    fs::write(&path, "dear").unwrap();

    let result = Listener::open(&listener(&format!("unix:{}", path.display()), None)).await;

    assert!(result.is_err());
    assert_eq!(fs::read_to_string(path).unwrap(), "dear");
}

fn write_pair(folder: &Path, [certificate, key]: [&str; 2]) -> Tls {
    let tls = Tls {
        cert: folder.join("cert.pem"),
        key: folder.join("key.pem"),
    };
    fs::write(&tls.cert, certificate).unwrap();
    fs::write(&tls.key, key).unwrap();
    tls
}

fn certificate(pair: [&str; 2]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair[0].as_bytes()).unwrap()
}

async fn connect_tls(address: &str, protocols: &[&str]) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(FIRST)).unwrap();
    roots.add(certificate(SECOND)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

fn seen(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let certificates = stream.get_ref().1.peer_certificates().unwrap();
    certificates[0].clone().into_owned()
}

#[tokio::test]
async fn tls_offers_http2_and_http1_and_reloads_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let tls = write_pair(folder.path(), FIRST);
    let serving = Serving::new(&Limits::default());
    let open = Listener::open(&listener("127.0.0.1:0", Some(tls)))
        .await
        .unwrap();
    let address = open.address().to_string();
    let reloadable = open.certificate().unwrap();
    serving.serve(open, router());

    let stream = connect_tls(&address, &["http/1.1"]).await;
    assert_eq!(seen(&stream), certificate(FIRST));
    assert!(ask(stream, "/", "").await.ends_with("hello"));
    let stream = connect_tls(&address, &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));

    write_pair(folder.path(), [FIRST[0], SECOND[1]]);
    assert!(reloadable.reload().is_err(), "the key does not fit");
    assert_eq!(seen(&connect_tls(&address, &[]).await), certificate(FIRST));

    write_pair(folder.path(), SECOND);
    reloadable.reload().unwrap();
    assert_eq!(seen(&connect_tls(&address, &[]).await), certificate(SECOND));
}

#[tokio::test]
async fn a_drain_finishes_the_request_under_way_and_takes_no_more() {
    let serving = Serving::new(&Limits::default());
    let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let wait = |State([arrived, go_on]): State<[Arc<Notify>; 2]>| async move {
        arrived.notify_one();
        go_on.notified().await;
        "finished"
    };
    let router = Router::new()
        .route("/", get(wait))
        .with_state([Arc::clone(&arrived), Arc::clone(&go_on)]);
    let open = Listener::open(&listener("127.0.0.1:0", None))
        .await
        .unwrap();
    let address = open.address().to_string();
    serving.serve(open, router);

    let mut under_way = TcpStream::connect(&address).await.unwrap();
    under_way
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    arrived.notified().await;
    serving.drain.begin();
    serving.tasks.close();
    let refused = async {
        while TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, refused).await.unwrap();
    go_on.notify_one();

    let mut answer = String::new();
    let end = under_way.read_to_string(&mut answer);
    tokio::time::timeout(LIMIT, end).await.unwrap().unwrap();
    assert!(answer.ends_with("finished"), "{answer}");
    tokio::time::timeout(LIMIT, serving.tasks.wait())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_cut_ends_what_does_not_end_by_itself() {
    let serving = Serving::new(&Limits::default());
    let open = Listener::open(&listener("127.0.0.1:0", None))
        .await
        .unwrap();
    let address = open.address().to_string();
    serving.serve(
        open,
        Router::new().route("/", get(std::future::pending::<()>)),
    );
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();

    serving.drain.begin();
    serving.cut.cancel();
    serving.tasks.close();

    tokio::time::timeout(LIMIT, serving.tasks.wait())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_is_closed() {
    let serving = Serving::new(&Limits {
        header_timeout: Span::from_secs(1),
        ..Limits::default()
    });
    let address = start(&serving).await;
    let start = Instant::now();

    // The beginning of what HTTP/2 begins with keeps the server guessing.
    for beginning in ["", "PRI * HT", "GET / HTTP/1.1\r\nHo"] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer))
            .await
            .unwrap();
    }

    assert!(start.elapsed() < LIMIT);
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_their_turn() {
    let serving = Serving::new(&Limits {
        max_connections: 1,
        ..Limits::default()
    });
    let address = start(&serving).await;
    let mut first = TcpStream::connect(&address).await.unwrap();
    first
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();

    let second = TcpStream::connect(&address).await.unwrap();
    let second = serving.tasks.spawn(ask(second, "/", ""));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!second.is_finished());
    drop(first);

    let answer = tokio::time::timeout(LIMIT, second).await.unwrap().unwrap();
    assert!(answer.ends_with("hello"));
}
