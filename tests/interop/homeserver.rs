//! A homeserver in a process of its own, whichever program it is.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::Url;
use rustix::process::{Pid, Signal, kill_process};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{
    certificates::{Authority, Certificate},
    hearth,
    link::Link,
    ports::free_port,
    synapse,
};

/// How long a server may take until it answers, or until it has stopped.
const PATIENCE: Duration = Duration::from_secs(60);

/// The programs that can play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Hearth,
    Synapse,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Hearth => "hearth",
            Self::Synapse => "synapse",
        })
    }
}

/// Where a program keeps what it knows, when there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    /// Whatever starts soonest.
    Quick,
    /// What its operators are told to use.
    PostgreSql,
}

/// What a program needs to know to be a server of the test.
pub(crate) struct Plan {
    /// The server's name, with the port that peers use.
    pub(crate) name: String,
    /// Where all of its files go.
    pub(crate) folder: PathBuf,
    /// The port of the client-server API, without TLS.
    pub(crate) client_port: u16,
    /// The port to which the link leads, with TLS.
    pub(crate) peer_port: u16,
    pub(crate) certificate: Certificate,
    pub(crate) database: Database,
    /// The authority that the servers trust, a PEM file.
    pub(crate) authority: PathBuf,
}

/// A server, running or not; killed when dropped.
pub(crate) struct Homeserver {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) link: Link,
    folder: PathBuf,
    client_port: u16,
    http: reqwest::Client,
    child: Mutex<Option<Child>>,
    users: AtomicUsize,
}

impl Homeserver {
    /// Makes a server that is known as `host`, its files in `folder`, and starts it.
    pub(crate) async fn new(
        (kind, database): (Kind, Database),
        host: &str,
        folder: &Path,
        authority: &Authority,
    ) -> Self {
        // Whatever a former run left there.
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder).unwrap();
        let peer_port = free_port();
        let link = Link::to(peer_port).await;
        let plan = Plan {
            name: format!("{host}:{}", link.port),
            folder: folder.to_owned(),
            client_port: free_port(),
            peer_port,
            certificate: authority.certify(host, folder),
            database,
            authority: authority.file.clone(),
        };
        match kind {
            Kind::Hearth => hearth::prepare(&plan).await,
            Kind::Synapse => synapse::prepare(&plan).await,
        }
        let server = Self {
            kind,
            name: plan.name,
            link,
            folder: plan.folder,
            client_port: plan.client_port,
            http: client(authority),
            child: Mutex::default(),
            users: AtomicUsize::default(),
        };
        server.start().await;
        server
    }

    /// Starts the process and waits until it answers.
    pub(crate) async fn start(&self) {
        let mut command = match self.kind {
            Kind::Hearth => hearth::command(&self.folder),
            Kind::Synapse => synapse::command(&self.folder),
        };
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        *self.child() = Some(command.spawn().unwrap());
        let url = format!("{}/_matrix/client/versions", self.address());
        let started = Instant::now();
        while self.http.get(&url).send().await.is_err() {
            let ended = self
                .child()
                .as_mut()
                .is_none_or(|child| child.try_wait().unwrap().is_some());
            assert!(!ended, "{} ended at once: see its log", self.name);
            assert!(
                started.elapsed() < PATIENCE,
                "{} does not answer",
                self.name
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks the process to end and waits until it has.
    pub(crate) async fn stop(&self) {
        let mut child = self.child().take().expect("it runs");
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::TERM).unwrap();
        let asked = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(asked.elapsed() < PATIENCE, "{} does not stop", self.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the process without giving it a chance to finish anything.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Where clients find the server.
    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// The name without the port.
    pub(crate) fn host(&self) -> &str {
        self.name.split_once(':').expect("the name has a port").0
    }

    /// The client to ask it with; it trusts the authority.
    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// A localpart that begins with `name` and that nobody has.
    pub(crate) fn new_name(&self, name: &str) -> String {
        format!("{name}{}", self.users.fetch_add(1, Ordering::Relaxed))
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        // A case that failed leaves it as it is.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Homeserver {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The address of a new database for the server whose files are in `folder`.
pub(crate) async fn new_database(folder: &Path) -> Url {
    let url = std::env::var("DATABASE_URL").expect("scripts/with-postgres sets DATABASE_URL");
    let folder = folder.file_name().expect("it has a name").display();
    let name = format!("hearth_interop_{folder}");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for statement in [
        format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
        format!("CREATE DATABASE {name}"),
    ] {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    let mut address = Url::parse(&url).unwrap();
    address.set_path(&name);
    address
}

/// Runs a command that must go well.
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn client(authority: &Authority) -> reqwest::Client {
    // The other server's client came first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(Duration::from_secs(120))
        .tls_certs_only([authority.root()])
        .build()
        .unwrap()
}
