//! A `hearth` process on a database of its own.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, PgPool};

use super::ports::free_port;

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// The password of every account.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A running server; killed when dropped.
pub(crate) struct Hearth {
    child: Child,
    folder: PathBuf,
    port: u16,
    http: reqwest::Client,
}

impl Hearth {
    /// Starts a server on the database of `pool` and waits until it answers.
    pub(crate) async fn start(pool: &PgPool) -> Self {
        Self::start_with(pool, "", None).await
    }

    /// Starts a server with `more` in its configuration, from the section `[database]` on; with the signing key of `twin`, if it is the same server's.
    pub(crate) async fn start_with(pool: &PgPool, more: &str, twin: Option<&Self>) -> Self {
        let folder =
            std::env::temp_dir().join(format!("hearth-box-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(folder.join("data")).unwrap();
        if let Some(twin) = twin {
            let key = |folder: &Path| folder.join("data/signing.key");
            std::fs::copy(key(&twin.folder), key(&folder)).unwrap();
        }
        let port = free_port();
        let database = pool.connect_options().to_url_lossy();
        let config = format!(
            "server_name = \"localhost\"\ndata_dir = \"{}\"\n[[listen]]\nbind = \"127.0.0.1:{port}\"\n\
             [database]\nurl = \"{database}\"\n{more}[registration]\nenabled = true\n[limits]\nrate_limit = false\n",
            folder.join("data").display(),
        );
        std::fs::write(folder.join("hearth.toml"), config).unwrap();
        let mut hearth = Self {
            child: spawn(&folder),
            folder,
            port,
            http: client(),
        };
        hearth.wait().await;
        hearth
    }

    /// Ends the process without giving it a chance to finish anything.
    pub(crate) fn kill(&self) {
        kill_process(self.process(), Signal::KILL).unwrap();
    }

    /// The number of the process.
    pub(crate) fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Starts the process that was killed again, on the same data.
    pub(crate) async fn restart(&mut self) {
        self.child.wait().unwrap();
        self.child = spawn(&self.folder);
        self.wait().await;
    }

    /// Where clients find the server.
    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a request of the client-server API, `path` being what comes after `v3`.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Result<(u16, Value), reqwest::Error> {
        let url = format!("{}/_matrix/client/v3{path}", self.address());
        let mut request = self.http.request(method.parse().unwrap(), url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    /// Makes a request that must go well.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Value {
        let (status, answer) = self.request(method, path, token, body).await.unwrap();
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// Registers a user and gives the access token.
    pub(crate) async fn register(&self, name: &str) -> String {
        let body = json!({
            "username": name, "password": PASSWORD, "auth": { "type": "m.login.dummy" },
        });
        let answer = self.ask("POST", "/register", None, Some(body)).await;
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn wait(&mut self) {
        let url = format!("{}/_matrix/client/versions", self.address());
        let started = Instant::now();
        while self.http.get(&url).send().await.is_err() {
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "the server ended at once"
            );
            assert!(started.elapsed() < PATIENCE, "the server does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Hearth {
    fn drop(&mut self) {
        // It may have ended by itself, and a folder that stays harms nobody.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_hearth"))
        .args(["serve", "--config"])
        .arg(folder.join("hearth.toml"))
        .env("HEARTH_LOG__LEVEL", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Makes requests, and waits long for answers.
pub(crate) fn client() -> reqwest::Client {
    // There may be a provider already, from another test of this program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}
