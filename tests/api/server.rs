//! A server without sockets.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hearth::{
    client::{self, ClientState, Parts},
    federation::{self, FederationState, Outside},
    http::{Api, Drain, RateLimits, api::Route},
    push_gateways,
};
use hearth_core::{
    Clock, Identity,
    config::{Config, Federation, Limits, Registration, Secret},
    signing::ServerKey,
};
use hearth_store::Occupancy;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::redis::Redis;

/// When the mock clock starts: some day in 2025.
const START: u64 = 1_750_000_000_000;

/// The password of all users whom [`TestServer::register`] makes.
pub(crate) const PASSWORD: &str = "sUp3rs3kr1t";

/// Everything of a server but its sockets, on a database of its own and under a mock clock.
pub(crate) struct TestServer {
    router: Router,
    routes: BTreeSet<Route>,
    /// The services, for what no endpoint does.
    pub(crate) state: ClientState,
    stop: CancellationToken,
}

/// A user with a device.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// `@name:example.org`
    pub(crate) id: String,
    /// The access token.
    pub(crate) token: String,
    /// The device.
    pub(crate) device: String,
}

/// A status and a body.
pub(crate) type Answer = (StatusCode, Value);

impl TestServer {
    /// A server with open registration.
    pub(crate) async fn new(pool: PgPool) -> Self {
        let registration = Registration {
            enabled: true,
            ..Registration::default()
        };
        Self::with_registration(pool, registration).await
    }

    /// A server with the rules of `registration`.
    pub(crate) async fn with_registration(pool: PgPool, registration: Registration) -> Self {
        let limits = Limits {
            rate_limit: false,
            ..Limits::default()
        };
        let config = Config {
            server_name: ruma::server_name!("example.org").to_owned(),
            registration: Registration {
                shared_secret: Some(Secret::new("shared".to_owned())),
                ..registration
            },
            limits: limits.clone(),
            ..Config::default()
        };
        Self::with_config(pool, config).await
    }

    /// A server with open registration that knows no other servers.
    pub(crate) async fn alone(pool: PgPool) -> Self {
        let config = Config {
            server_name: ruma::server_name!("example.org").to_owned(),
            registration: Registration {
                enabled: true,
                ..Registration::default()
            },
            federation: Federation {
                enabled: false,
                ..Federation::default()
            },
            ..Config::default()
        };
        Self::with_config(pool, config).await
    }

    /// A server with `config`.
    pub(crate) async fn with_config(pool: PgPool, config: Config) -> Self {
        Self::with_occupancy(pool, config, Occupancy::alone()).await
    }

    /// One of several processes with open registration that share a database, and a Redis if there is one.
    pub(crate) async fn among_others(pool: PgPool, redis: Option<&Redis>) -> Self {
        let config = Config {
            server_name: ruma::server_name!("example.org").to_owned(),
            registration: Registration {
                enabled: true,
                ..Registration::default()
            },
            limits: Limits {
                rate_limit: false,
                ..Limits::default()
            },
            redis: redis.map(Redis::config),
            ..Config::default()
        };
        Self::with_occupancy(pool, config, Occupancy::shared()).await
    }

    async fn with_occupancy(pool: PgPool, config: Config, occupancy: Occupancy) -> Self {
        let stop = CancellationToken::new();
        let (clock, tasks) = (Clock::mock(START), TaskTracker::new());
        let identity = Arc::new(Identity {
            server_name: config.server_name.clone(),
            key: ServerKey::from_seed(&[7; 32]),
        });
        let outside = Outside::open(&config, &identity, pool.clone(), &clock, &tasks).unwrap();
        let gateways = push_gateways::open(&config.push).unwrap();
        let state = ClientState::start(Parts {
            gateways,
            limits: RateLimits::new(&config.limits),
            identity,
            config: Arc::new(config),
            pool: pool.clone(),
            occupancy,
            clock,
            drain: Drain::default(),
            tasks: tasks.clone(),
            stop: stop.clone(),
            outside,
        })
        .await
        .unwrap();
        let federated = match FederationState::new(&state, pool, tasks) {
            Some(state) => federation::api(state),
            None => Api::new(),
        };
        let api = client::api(state.clone()).merge(federated);
        let routes = api.routes().clone();
        Self {
            router: api.into_router(),
            routes,
            state,
            stop,
        }
    }

    /// What is served.
    pub(crate) fn routes(&self) -> BTreeSet<Route> {
        self.routes.clone()
    }

    /// Lets time go by.
    pub(crate) fn advance(&self, by: Duration) {
        self.state.clock.advance(by);
    }

    /// Makes a request; `path` begins after `/_matrix/client/v3` unless it begins with `/_` or `/.`.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Value,
    ) -> Answer {
        let uri = if path.starts_with("/_") || path.starts_with("/.") {
            path.to_owned()
        } else {
            format!("/_matrix/client/v3{path}")
        };
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        self.answer(request.body(body).unwrap()).await
    }

    /// Makes any request.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (
            status,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        )
    }

    /// `GET` by a user.
    pub(crate) async fn get(&self, user: &User, path: &str) -> Answer {
        self.send(Method::GET, path, Some(&user.token), Value::Null)
            .await
    }

    /// `POST` by a user.
    pub(crate) async fn post(&self, user: &User, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(&user.token), body).await
    }

    /// `PUT` by a user.
    pub(crate) async fn put(&self, user: &User, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(&user.token), body).await
    }

    /// `DELETE` by a user.
    pub(crate) async fn delete(&self, user: &User, path: &str, body: Value) -> Answer {
        self.send(Method::DELETE, path, Some(&user.token), body)
            .await
    }

    /// `GET` by nobody.
    pub(crate) async fn get_anonymously(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, Value::Null).await
    }

    /// `POST` by nobody.
    pub(crate) async fn post_anonymously(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, None, body).await
    }

    /// The page at `path`, which begins after `/_matrix/client/v3`.
    pub(crate) async fn page(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(format!("/_matrix/client/v3{path}"));
        self.html(request.body(Body::empty()).unwrap()).await
    }

    /// The page that comes when a form is sent.
    pub(crate) async fn submit(&self, path: &str, form: &str) -> (StatusCode, String) {
        let request = Request::post(format!("/_matrix/client/v3{path}"))
            .header("content-type", "application/x-www-form-urlencoded");
        self.html(request.body(Body::from(form.to_owned())).unwrap())
            .await
    }

    async fn html(&self, request: Request<Body>) -> (StatusCode, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// Registers a user with [`PASSWORD`].
    pub(crate) async fn register(&self, name: &str) -> User {
        let body = json!({
            "username": name,
            "password": PASSWORD,
            "auth": { "type": "m.login.dummy" },
        });
        let (status, body) = self.post_anonymously("/register", body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        User::from_answer(&body)
    }

    /// Registers a user with [`PASSWORD`] who administers the server.
    pub(crate) async fn register_admin(&self, name: &str) -> User {
        use hearth_users::accounts::{Kind, NewAccount, NewPassword};

        let new = NewAccount {
            username: Some(name.to_owned()),
            password: Some(NewPassword::Plain(PASSWORD.to_owned())),
            kind: Kind::Admin,
            registration_token: None,
        };
        self.state.accounts.register(new).await.unwrap();
        self.log_in(name).await
    }

    /// Logs a user in who has [`PASSWORD`], with a new device.
    pub(crate) async fn log_in(&self, name: &str) -> User {
        let (status, body) = self.post_anonymously("/login", login(name)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        User::from_answer(&body)
    }

    /// Sends an event into a room; gives its id.
    pub(crate) async fn send_event(
        &self,
        user: &User,
        room: &str,
        kind: &str,
        content: Value,
    ) -> String {
        let transaction: u64 = rand::random();
        let path = format!("/rooms/{room}/send/{kind}/{transaction}");
        let (status, body) = self.put(user, &path, content).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["event_id"].as_str().unwrap().to_owned()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl User {
    /// The user whom the answer to a login or a registration is about.
    pub(crate) fn from_answer(body: &Value) -> Self {
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        Self {
            id: text("user_id"),
            token: text("access_token"),
            device: text("device_id"),
        }
    }

    /// `auth` with the user's password.
    pub(crate) fn auth(&self) -> Value {
        login(&self.id)
    }
}

/// A login with [`PASSWORD`], which has the form of `auth` as well.
pub(crate) fn login(name: &str) -> Value {
    json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": name },
        "password": PASSWORD,
    })
}
