//! The library, as other programs and tests use it.

use hearth::server::Server;
use hearth_core::config::{Bind, Config, Listener, Secret};
use sqlx::{ConnectOptions as _, PgPool};

fn any_port() -> Bind {
    "127.0.0.1:0".parse().unwrap()
}

async fn get(address: &Bind, path: &str) -> (u16, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().build().unwrap();
    let url = format!("http://{address}{path}");
    let response = client.get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[sqlx::test(migrations = false)]
async fn a_server_serves_people_monitors_and_prometheus(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config {
        data_dir: folder.path().join("data"),
        listen: vec![Listener {
            bind: any_port(),
            ..Listener::default()
        }],
        ..Config::default()
    };
    let url = pool.connect_options().to_url_lossy().to_string();
    config.database.url = Some(Secret::new(url));
    config.metrics.bind = Some(any_port());

    let server = Server::start(config).await.unwrap();
    let address = server.addresses()[0].clone();
    let metrics = server.metrics_address().unwrap().clone();

    let (status, page) = get(&address, "/").await;
    assert_eq!(status, 200);
    assert!(page.contains(&format!("http://{address}")), "{page}");
    assert_eq!(get(&address, "/health").await.0, 200);
    assert_eq!(get(&address, "/_matrix/client/versions").await.0, 200);
    let (status, body) = get(&address, "/_matrix/key/v7/nothing").await;
    assert_eq!(status, 404);
    assert!(body.contains("M_UNRECOGNIZED"));
    assert_eq!(get(&address, "/metrics").await.0, 404);

    let (status, figures) = get(&metrics, "/metrics").await;
    assert_eq!(status, 200);
    for part in [
        "hearth_http_request_duration_seconds_bucket{method=\"GET\",route=\"/health\",status=\"200\"",
        "route=\"unmatched\",status=\"404\"",
        "hearth_database_connections ",
        "hearth_database_connections_idle ",
        "hearth_stream_position ",
        "hearth_sync_waiting ",
    ] {
        assert!(figures.contains(part), "{part} is not in {figures}");
    }
    assert_eq!(get(&metrics, "/_matrix/client/versions").await.0, 404);

    server.shutdown().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().build().unwrap();
    assert!(
        client
            .get(format!("http://{address}/"))
            .send()
            .await
            .is_err()
    );
}
