//! Servers that mean no good.

use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
