//! A push gateway.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, extract::State, routing::post};
use hearth_core::config::{Config, Limits, Push, Registration};
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::net::TcpListener;

use super::server::{TestServer, User};

/// How long a notification may take to come.
const LIMIT: Duration = Duration::from_secs(20);

/// A push gateway that takes note of what it is told.
#[derive(Clone)]
pub(crate) struct Gateway {
    /// Where it is.
    pub(crate) url: String,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    told: Mutex<Vec<Value>>,
    answer: Mutex<Option<(StatusCode, Value)>>,
    heard: tokio::sync::Notify,
}

impl Gateway {
    /// Starts one, which takes everything.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::<Inner>::default();
        let router = Router::new()
            .route("/_matrix/push/v1/notify", post(notify))
            .with_state(Arc::clone(&inner));
        #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url: format!("http://{address}/_matrix/push/v1/notify"),
            inner,
        }
    }

    /// What it answers from now on.
    pub(crate) fn answer(&self, status: StatusCode, body: Value) {
        *self.inner.answer.lock().unwrap() = Some((status, body));
    }

    /// Waits for `count` notifications since the last time, and gives them.
    pub(crate) async fn told(&self, count: usize) -> Vec<Value> {
        let waiting = async {
            loop {
                let heard = self.inner.heard.notified();
                {
                    let mut told = self.inner.told.lock().unwrap();
                    if told.len() >= count {
                        return std::mem::take(&mut *told);
                    }
                }
                heard.await;
            }
        };
        let told = tokio::time::timeout(LIMIT, waiting).await;
        told.unwrap_or_else(|_| panic!("not {count}: {:?}", self.inner.told.lock().unwrap()))
    }

    /// Waits for one notification, which is the only one.
    pub(crate) async fn next(&self) -> Value {
        let told = self.told(1).await;
        assert_eq!(told.len(), 1, "{told:?}");
        told.into_iter().next().unwrap()
    }

    /// A pusher that tells this gateway.
    pub(crate) fn pusher(&self, pushkey: &str) -> Value {
        json!({
            "kind": "http",
            "app_id": "com.example.app",
            "pushkey": pushkey,
            "app_display_name": "App",
            "device_display_name": "Phone",
            "profile_tag": "tag",
            "lang": "en",
            "data": { "url": self.url, "custom": { "key": 1 } },
        })
    }

    /// Sets a pusher for a user.
    pub(crate) async fn tell(&self, server: &TestServer, user: &User, pushkey: &str) {
        let (status, body) = server
            .post(user, "/pushers/set", self.pusher(pushkey))
            .await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
}

async fn notify(
    State(inner): State<Arc<Inner>>,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    inner
        .told
        .lock()
        .unwrap()
        .push(body["notification"].clone());
    inner.heard.notify_waiters();
    let answer = inner.answer.lock().unwrap().clone();
    let (status, body) = answer.unwrap_or((StatusCode::OK, json!({ "rejected": [] })));
    (status, Json(body))
}

/// A configuration that reaches gateways on this machine.
pub(crate) fn config() -> Config {
    Config {
        server_name: ruma::server_name!("example.org").to_owned(),
        registration: Registration {
            enabled: true,
            ..Registration::default()
        },
        limits: Limits {
            rate_limit: false,
            ..Limits::default()
        },
        push: Push {
            allow_http: true,
            allow_private_addresses: true,
            ca_file: None,
        },
        ..Config::default()
    }
}

/// A server that reaches gateways on this machine.
pub(crate) async fn server(pool: PgPool) -> TestServer {
    TestServer::with_config(pool, config()).await
}
