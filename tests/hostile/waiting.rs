//! Servers that take their time.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hearth_core::{Identity, signing::ServerKey};
use hearth_federation::{Bounds, Client, RequestError, discovery::address::Reach};
use http::Response;
use ruma::{
    OwnedServerName, ServerName, api::federation::discovery::get_server_version::v1 as version,
    server_name,
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;

use super::{
    certificates::Authority,
    peer::{Peer, acceptor, reply},
};

/// How long answers may take, and how long it may take to give them up on a busy machine.
const SHORT: Bounds = Bounds {
    time: Duration::from_millis(400),
    size: 1024,
};
const LIMIT: Duration = Duration::from_secs(10);

/// Between two bytes of a server that takes its time.
const PAUSE: Duration = Duration::from_millis(50);

fn client(authority: &Authority) -> Client {
    let identity = Identity {
        server_name: server_name!("here.example").to_owned(),
        key: ServerKey::from_seed(&[1; 32]),
    };
    Client::new(Arc::new(identity), Reach::Anywhere, Some(&authority.file)).unwrap()
}

async fn ask(client: &Client, server: &ServerName) -> Result<(), RequestError> {
    let asked = client.ask(server, version::Request::new(), SHORT);
    asked.await.map(drop)
}

/// Asks a server that is too slow; it must be given up in time.
async fn is_given_up(client: &Client, server: &ServerName) {
    let begun = Instant::now();
    let error = ask(client, server).await.unwrap_err();
    assert!(matches!(error, RequestError::TooLong), "{error}");
    assert!(begun.elapsed() < LIMIT);
}

/// A server that writes `begin` and then `drop` after `drop` as long as somebody listens; the task ends when nobody does.
async fn dripping(
    authority: &Authority,
    folder: &std::path::Path,
    (begin, drop): (&'static str, &'static str),
) -> (OwnedServerName, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = acceptor(authority, folder, &[b"http/1.1"]);
    let serving = TaskTracker::new().spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        drip(stream, begin, drop).await;
    });
    (
        ServerName::parse(format!("localhost:{port}")).unwrap(),
        serving,
    )
}

async fn drip(stream: impl AsyncRead + AsyncWrite, begin: &str, drop: &str) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut request = [0; 4_096];
    let mut open = reader.read(&mut request).await.is_ok();
    open &= writer.write_all(begin.as_bytes()).await.is_ok();
    while open {
        tokio::select! {
            read = reader.read(&mut request) => open = read.is_ok_and(|length| length > 0),
            () = sleep(PAUSE) => open = writer.write_all(drop.as_bytes()).await.is_ok(),
        }
    }
}

#[tokio::test]
async fn an_answer_that_comes_byte_by_byte_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let client = client(&authority);
    let in_the_body =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
    let in_pieces = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    for dripped in [
        ("HTTP/1.1 200 OK\r\nX-Tea: ", "a"),
        ("HTTP/1.1 200 OK\r\n", "X-Tea: a\r\n"),
        ("", "HTTP/1.1 102 Processing\r\n\r\n"),
        (in_the_body, " "),
        (in_pieces, "1\r\n \r\n"),
        ("HTTP/1.1 500 Oh\r\nContent-Length: 1000\r\n\r\n{", " "),
    ] {
        let (server, serving) = dripping(&authority, folder.path(), dripped).await;
        is_given_up(&client, &server).await;
        // The connection is closed, so nobody goes on listening.
        tokio::time::timeout(LIMIT, serving).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_head_without_end_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let client = client(&authority);
    let line: &'static str = format!("X-Tea: {}\r\n", "a".repeat(8_000)).leak();
    let begin: &'static str = format!("HTTP/1.1 200 OK\r\n{}", line.repeat(200)).leak();
    let (server, serving) = dripping(&authority, folder.path(), (begin, line)).await;

    let error = ask(&client, &server).await.unwrap_err();

    assert!(matches!(error, RequestError::Unreachable(_)), "{error}");
    tokio::time::timeout(LIMIT, serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_is_silent_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let client = client(&authority);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = ServerName::parse(format!("localhost:{port}")).unwrap();

    is_given_up(&client, &server).await;

    let (mut stream, _) = listener.accept().await.unwrap();
    let mut greeting = Vec::new();
    let reading = stream.read_to_end(&mut greeting);
    // It reads to the end, since the connection is closed.
    let _ = tokio::time::timeout(LIMIT, reading).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let client = client(&authority);
    let peer = Peer::start(&authority, folder.path()).await;
    peer.answer(|_| Some(reply(&json!({ "server": { "name": "x".repeat(2_000) } }))));

    let error = ask(&client, &peer.name).await.unwrap_err();

    assert!(matches!(error, RequestError::TooLarge), "{error}");
}

#[tokio::test]
async fn a_connection_on_which_an_answer_did_not_come_is_not_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let client = client(&authority);
    let peer = Peer::start(&authority, folder.path()).await;
    let asked = AtomicUsize::new(0);
    peer.answer(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        1 => {
            let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{"))]);
            let never = first.chain(stream::pending());
            Some(Response::new(Body::from_stream(never)))
        }
        _ => Some(reply(&json!({ "server": {} }))),
    });

    ask(&client, &peer.name).await.unwrap();
    assert_eq!(peer.connections(), 1);
    is_given_up(&client, &peer.name).await;
    assert_eq!(peer.connections(), 1);
    ask(&client, &peer.name).await.unwrap();

    assert_eq!(peer.connections(), 2);
}
