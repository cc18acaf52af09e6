//! Two servers that know of each other.

use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use hearth::server::{RunningServer, Server};
use hearth_core::config::{Config, Listener, Secret, Tls};
use http::StatusCode;
use ruma::ServerName;
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, PgPool};
use tempfile::TempDir;

use super::{certificates::Authority, ports::free_port};

/// How long something may take that goes from one server to the other.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Two servers.
pub(crate) struct Pair {
    /// Where rooms are made.
    pub(crate) host: Side,
    /// Where users come from.
    pub(crate) guest: Side,
    pool: PgPool,
    _folder: TempDir,
}

/// One of the servers.
pub(crate) struct Side {
    /// `localhost:…`
    pub(crate) name: String,
    /// The configuration.
    pub(crate) config: Config,
    /// The server, while it runs.
    pub(crate) server: Option<RunningServer>,
    database: String,
    http: reqwest::Client,
}

/// A user.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// `@name:localhost:…`
    pub(crate) id: String,
    token: String,
}

/// The text as it stands in a path or a query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => write!(encoded, "%{other:02X}").unwrap(),
        }
    }
    encoded
}

impl Pair {
    /// Starts two servers, each on a database of its own.
    pub(crate) async fn start(pool: PgPool) -> Self {
        // What goes wrong inside of a server is told with the test that fails.
        let _ = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_test_writer()
            .try_init();
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path());
        let host = Side::start(&pool, &authority, &folder.path().join("host")).await;
        let guest = Side::start(&pool, &authority, &folder.path().join("guest")).await;
        Self {
            host,
            guest,
            pool,
            _folder: folder,
        }
    }

    /// Stops both, and takes their databases away.
    pub(crate) async fn end(mut self) {
        for side in [&mut self.host, &mut self.guest] {
            side.stop().await;
            let drop = format!("DROP DATABASE \"{}\" WITH (FORCE)", side.database);
            sqlx::raw_sql(sqlx::AssertSqlSafe(drop))
                .execute(&self.pool)
                .await
                .unwrap();
        }
    }
}

impl Side {
    /// Runs a statement on the server's database.
    pub(crate) async fn execute(&self, pool: &PgPool, statement: &'static str) {
        let options = pool.connect_options().as_ref().clone();
        let mut conn = options.database(&self.database).connect().await.unwrap();
        sqlx::raw_sql(statement).execute(&mut conn).await.unwrap();
    }

    async fn start(pool: &PgPool, authority: &Authority, folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let database = format!("federation_{:016x}", rand::random::<u64>());
        let create = format!("CREATE DATABASE \"{database}\"");
        sqlx::raw_sql(sqlx::AssertSqlSafe(create))
            .execute(pool)
            .await
            .unwrap();
        let options = pool.connect_options().as_ref().clone().database(&database);
        let port = free_port();
        let (cert, key) = authority.certify("localhost", folder);
        let name = format!("localhost:{port}");
        let mut config = Config {
            server_name: ServerName::parse(&name).unwrap(),
            data_dir: folder.join("data"),
            listen: vec![
                Listener {
                    bind: "127.0.0.1:0".parse().unwrap(),
                    ..Listener::default()
                },
                Listener {
                    bind: format!("127.0.0.1:{port}").parse().unwrap(),
                    tls: Some(Tls { cert, key }),
                    ..Listener::default()
                },
            ],
            ..Config::default()
        };
        config.database.url = Some(Secret::new(options.to_url_lossy().to_string()));
        config.database.max_connections = 8;
        config.registration.enabled = true;
        config.limits.rate_limit = false;
        config.federation.ca_file = Some(authority.file.clone());
        config.federation.allow_private_addresses = true;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = Server::start(config.clone()).await.unwrap();
        Self {
            name,
            config,
            server: Some(server),
            database,
            http: reqwest::Client::builder().build().unwrap(),
        }
    }

    /// Stops the server, if it runs.
    pub(crate) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown().await;
        }
    }

    /// Starts the server again.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.server = Some(Server::start(self.config.clone()).await.unwrap());
    }

    /// Makes a request; `path` is what comes after `/_matrix/client/v3`.
    pub(crate) async fn send(
        &self,
        user: Option<&User>,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let address = &self.server.as_ref().unwrap().addresses()[0];
        let prefix = match path.starts_with("/_") {
            true => "",
            false => "/_matrix/client/v3",
        };
        let url = format!("http://{address}{prefix}{path}");
        let mut request = self.http.request(method.parse().unwrap(), url);
        if let Some(user) = user {
            request = request.bearer_auth(&user.token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    /// Makes a request that must go well.
    pub(crate) async fn ask(
        &self,
        user: &User,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let (status, answer) = self.send(Some(user), method, path, body).await;
        assert_eq!(status, StatusCode::OK, "{method} {path}: {answer}");
        answer
    }

    /// Registers a user.
    pub(crate) async fn register(&self, name: &str) -> User {
        let body = json!({
            "username": name, "password": "correct horse battery", "auth": { "type": "m.login.dummy" },
        });
        let (status, answer) = self.send(None, "POST", "/register", Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        User {
            id: text("user_id"),
            token: text("access_token"),
        }
    }

    /// Makes a room.
    pub(crate) async fn room(&self, user: &User, body: Value) -> String {
        let answer = self.ask(user, "POST", "/createRoom", Some(body)).await;
        answer["room_id"].as_str().unwrap().to_owned()
    }

    /// Sends a text; gives the event's id.
    pub(crate) async fn say(&self, user: &User, room: &str, text: &str) -> String {
        let transaction: u64 = rand::random();
        let path = format!("/rooms/{}/send/m.room.message/{transaction}", encode(room));
        let body = json!({ "msgtype": "m.text", "body": text });
        let answer = self.ask(user, "PUT", &path, Some(body)).await;
        answer["event_id"].as_str().unwrap().to_owned()
    }

    /// Joins a room with the help of `via`.
    pub(crate) async fn join(&self, user: &User, room: &str, via: &str) {
        let path = format!("/join/{}?via={}", encode(room), encode(via));
        self.ask(user, "POST", &path, Some(json!({}))).await;
    }

    /// Acts on another user's membership: `invite`, `kick`, `ban`.
    pub(crate) async fn act(&self, user: &User, room: &str, action: &str, on: &User) {
        let path = format!("/rooms/{}/{action}", encode(room));
        let body = json!({ "user_id": on.id });
        self.ask(user, "POST", &path, Some(body)).await;
    }

    /// Leaves a room.
    pub(crate) async fn leave(&self, user: &User, room: &str) {
        let path = format!("/rooms/{}/leave", encode(room));
        self.ask(user, "POST", &path, Some(json!({}))).await;
    }

    /// Waits until a response of `/sync` is as `wanted` says, and gives it.
    pub(crate) async fn sync_until(
        &self,
        user: &User,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        self.sync_from(user, None, what, wanted).await
    }

    /// Like [`Side::sync_until`], from the end of an earlier response on.
    pub(crate) async fn sync_from(
        &self,
        user: &User,
        earlier: Option<&Value>,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let next =
            |response: &Value| format!("&since={}", response["next_batch"].as_str().unwrap());
        let begun = Instant::now();
        let mut since = earlier.map(next).unwrap_or_default();
        loop {
            let path = format!("/sync?timeout=1000{since}");
            let response = self.ask(user, "GET", &path, None).await;
            if wanted(&response) {
                return response;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {response:#}");
            since = next(&response);
        }
    }

    /// Waits until the user sees an event in the room's timeline.
    pub(crate) async fn sees(&self, user: &User, room: &str, event_id: &str) {
        self.sync_until(user, &format!("{event_id} in {room}"), |response| {
            let events = &response["rooms"]["join"][room]["timeline"]["events"];
            has(events, |event| event["event_id"] == event_id)
        })
        .await;
    }

    /// Waits until the user's membership of the room, as `/sync` groups it, is `group`; gives the response that says so.
    pub(crate) async fn is_in(&self, user: &User, room: &str, group: &str) -> Value {
        self.sync_until(user, &format!("{room} in {group}"), |response| {
            response["rooms"][group].get(room).is_some()
        })
        .await
    }
}

/// Whether a list has something that is as `wanted` says.
pub(crate) fn has(list: &Value, wanted: impl Fn(&Value) -> bool) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(wanted))
}
