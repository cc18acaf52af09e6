//! Servers that mean no good.

use std::time::{Duration, Instant};

use hearth_core::config::Span;
use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::pair::{Pair, encode};

#[sqlx::test(migrations = false)]
async fn a_server_that_speaks_no_tls_is_no_server(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let bob = pair.guest.register("bob").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut begun = [0; 5];
        stream.read_exact(&mut begun).await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{}").await;
        // It begins with what a handshake begins with, and not with a request.
        assert_eq!(begun[0], 22);
    };
    let alias = encode(&format!("#tea:localhost:{port}"));
    let path = format!("/directory/room/{alias}");

    let (answer, ()) = tokio::join!(pair.guest.send(Some(&bob), "GET", &path, None), answering);

    assert_eq!(answer.0, StatusCode::BAD_GATEWAY, "{}", answer.1);
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn requests_do_not_reach_the_own_network(pool: PgPool) {
    let mut pair = Pair::start(pool).await;
    let bob = pair.guest.register("bob").await;
    let alice = pair.host.register("alice").await;
    let body = json!({ "preset": "public_chat", "room_alias_name": "tea" });
    pair.host.room(&alice, body).await;
    pair.guest.config.federation.allow_private_addresses = false;
    pair.guest.restart().await;

    let alias = encode(&format!("#tea:{}", pair.host.name));
    let path = format!("/directory/room/{alias}");
    let (status, body) = pair.guest.send(Some(&bob), "GET", &path, None).await;

    assert_eq!(status, StatusCode::BAD_GATEWAY, "{body}");
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn a_body_that_comes_byte_by_byte_is_given_up(pool: PgPool) {
    let mut pair = Pair::start(pool).await;
    pair.guest.config.limits.request_timeout = Span::from_secs(1);
    pair.guest.restart().await;
    let address = pair.guest.server.as_ref().unwrap().addresses()[0].to_string();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let destination = &pair.guest.name;
    let head = format!(
        "PUT /_matrix/federation/v1/send/1 HTTP/1.1\r\nHost: {destination}\r\nContent-Length: 1000\r\n\
         Authorization: X-Matrix origin=\"evil.example\",destination=\"{destination}\",key=\"ed25519:1\",sig=\"AAAA\"\r\n\r\n",
    );
    stream.write_all(head.as_bytes()).await.unwrap();

    let begun = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let mut pauses = tokio::time::interval(Duration::from_millis(50));
    let ended = async {
        loop {
            tokio::select! {
                read = reader.read_buf(&mut answer) => if read.unwrap_or(0) == 0 { break },
                _ = pauses.tick() => if writer.write_all(b" ").await.is_err() { break },
            }
        }
    };
    tokio::time::timeout(super::pair::PATIENCE, ended)
        .await
        .unwrap();

    // The connection is closed long before the body would be there.
    assert!(begun.elapsed() < Duration::from_secs(20));
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    assert!(
        answer.is_empty() || answer.contains("\"errcode\""),
        "{answer}"
    );
    pair.end().await;
}
