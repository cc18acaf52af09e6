//! SIGTERM and SIGHUP.

use std::{io::Write as _, net::TcpStream, time::Duration};

use rustix::process::Signal;
use sqlx::PgPool;

use super::process::Scene;

#[sqlx::test(migrations = false)]
async fn sigterm_ends_the_server_within_ten_seconds_whatever_its_clients_do(pool: PgPool) {
    let scene = Scene::new(Some(&pool), "");
    let server = scene.serve();
    let _idle = TcpStream::connect(&server.address).unwrap();
    let mut slow = TcpStream::connect(&server.address).unwrap();
    // A body that does not come is a request that does not end.
    slow.write_all(
        b"POST /_matrix/client/v3/login HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
    )
    .unwrap();
    assert_eq!(server.ask("GET", "/health", "").0, 200);

    server.signal(Signal::TERM);

    server.wait_for_log("stopping");
    let (success, time) = server.wait();
    assert!(success);
    assert!(time < Duration::from_secs(10), "{time:?}");
}

#[sqlx::test(migrations = false)]
async fn sighup_takes_limits_and_log_level_into_force(pool: PgPool) {
    let strict = "[limits]\nlogin = { per_second = 0.001, burst = 1 }\n[log]\nlevel = \"error\"\n";
    let scene = Scene::new(Some(&pool), strict);
    let server = scene.serve();
    let login = || server.ask("POST", "/_matrix/client/v3/login", LOGIN).0;
    assert_eq!(login(), 403);
    assert_eq!(login(), 429);

    let lax = scene
        .configuration()
        .replace(strict, "[limits]\nrate_limit = false\n");
    scene.configure(&lax);
    server.signal(Signal::HUP);

    // This line is below the level that the server began with.
    server.wait_for_log("read log level, limits and certificates again");
    assert_eq!(login(), 403);

    scene.configure("nonsense = 1");
    server.signal(Signal::HUP);
    server.wait_for_log("the configuration stays as it is");
    assert_eq!(login(), 403);
}

const LOGIN: &str = r#"{"type":"m.login.password","password":"b",
    "identifier":{"type":"m.id.user","user":"nobody"}}"#;
