//! What is served that has nothing to do with Matrix: a page for people, an answer for monitors.

use std::time::Duration;

use axum::{
    extract::{FromRef, State},
    response::{Html, IntoResponse},
};
use hearth_core::config::Config;
use http::{Method, header};
use sqlx::{Connection as _, PgPool};

use super::{
    api::{Api, Authentication},
    error::ApiError,
};

/// How long the database may take to say that it lives.
const HEALTH_LIMIT: Duration = Duration::from_secs(3);

/// The page at `/`.
#[derive(Clone, Debug)]
pub struct Welcome(bytes::Bytes);

impl Welcome {
    /// The page of the server that `config` describes.
    #[must_use]
    pub fn new(config: &Config, address: &str) -> Self {
        let homeserver = config.client_baseurl().unwrap_or(address);
        let page = include_str!("welcome.html")
            .replace("@SERVER_NAME@", &escape(config.server_name.as_str()))
            .replace("@HOMESERVER@", &escape(homeserver));
        Self(page.into())
    }
}

#[derive(Clone, FromRef)]
struct SystemState {
    welcome: Welcome,
    pool: PgPool,
}

/// `/` and `/health`.
pub fn api(welcome: Welcome, pool: PgPool) -> Api {
    Api::new()
        .route(Method::GET, "/", Authentication::None, show_welcome)
        .route(Method::GET, "/health", Authentication::None, health)
        .with_state(SystemState { welcome, pool })
}

/// `GET /`
async fn show_welcome(State(Welcome(page)): State<Welcome>) -> impl IntoResponse {
    (
        [
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'unsafe-inline'",
            ),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        Html(page),
    )
}

/// `GET /health`
async fn health(State(pool): State<PgPool>) -> Result<&'static str, ApiError> {
    let ping = async { pool.acquire().await?.ping().await };
    match tokio::time::timeout(HEALTH_LIMIT, ping).await {
        Ok(Ok(())) => Ok("OK\n"),
        Ok(Err(error)) => {
            tracing::warn!("the database does not answer: {error}");
            Err(ApiError::unavailable())
        }
        Err(_) => Err(ApiError::unavailable()),
    }
}

/// `text` as it stands in HTML, in attributes too.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::{Request, StatusCode};
    use http_body_util::BodyExt as _;
    use sqlx::postgres::PgPoolOptions;
    use tower::ServiceExt as _;

    use super::*;

    async fn get(pool: PgPool, path: &str) -> (StatusCode, String) {
        let config = Config {
            public_baseurl: Some("https://a.example/<b>/".to_owned()),
            ..Config::default()
        };
        let welcome = Welcome::new(&config, "http://127.0.0.1:8008");
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = api(welcome, pool)
            .into_router()
            .oneshot(request)
            .await
            .unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[sqlx::test(migrator = "hearth_store::MIGRATOR")]
    async fn a_person_finds_the_server_name_and_the_address(pool: PgPool) {
        let (status, page) = get(pool, "/").await;

        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("localhost"));
        assert!(page.contains("https://a.example/&lt;b&gt;<"), "{page}");
    }

    #[sqlx::test(migrator = "hearth_store::MIGRATOR")]
    async fn the_server_is_healthy_while_the_database_answers(pool: PgPool) {
        assert_eq!(get(pool, "/health").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn the_server_is_unhealthy_without_a_database() {
        let pool = PgPoolOptions::new()
            .acquire_timeout(Duration::from_millis(300))
            .connect_lazy("postgres://nobody@127.0.0.1:1/nothing")
            .unwrap();

        let (status, body) = get(pool, "/health").await;

        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("M_UNKNOWN"));
    }
}
