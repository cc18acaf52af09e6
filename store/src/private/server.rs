//! Starting, reaching and stopping the server of the private cluster.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgSslMode},
    raw_sql,
};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::{
    ClusterError, Installation, Place,
    account::succeed,
    place::PORT,
    postmaster::{self, Postmaster},
    settings::{self, settings},
};

/// The role and the database that Hearth uses. The role is no superuser.
pub(super) const NAME: &str = "hearth";

/// The superuser and the database that every cluster has.
const ADMIN: &str = "postgres";

/// Held while the role and the database are made; the session's end frees it.
const CREATION_LOCK: i64 = 1;

/// How long a server may take to recover from a crash.
const START_TIMEOUT: Duration = Duration::from_mins(10);

/// How long a stop is waited for; the server goes on stopping without us.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a running server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause between two looks at a server that is starting or stopping.
const TICK: Duration = Duration::from_millis(20);

/// The server of one cluster, whether it runs or not.
///
/// Whoever calls [`Server::open`] or [`Server::stop`] must hold the cluster's lock.
#[derive(Debug)]
pub(super) struct Server {
    place: Place,
}

/// What a look at the server finds.
enum Found {
    /// It answers on the socket in this folder.
    Ready(PathBuf),
    /// It is starting, recovering, stopping or stuck.
    Busy,
    /// It does not run.
    Absent,
}

impl Server {
    pub(super) fn new(place: Place) -> Self {
        Self { place }
    }

    /// The folder of the cluster.
    pub(super) fn base(&self) -> &Path {
        &self.place.base
    }

    /// Makes the server run and the database exist; returns the folder of the socket.
    pub(super) async fn open(&self) -> Result<PathBuf, ClusterError> {
        let socket = match self.settle().await? {
            Some(socket) => {
                info!("using the private PostgreSQL that is running already");
                socket
            }
            None => self.start().await?,
        };
        create_database(&socket)
            .await
            .map_err(ClusterError::Database)?;
        Ok(socket)
    }

    /// Whether the server answers.
    pub(super) async fn is_ready(&self) -> bool {
        matches!(self.look().await, Found::Ready(_))
    }

    /// Returns when the connection to the server was lost, or could not be made for a second.
    pub(super) async fn wait_for_loss(&self, socket: &Path) {
        match listen(socket).await {
            Ok(mut listener) => while let Ok(Some(_)) = listener.try_recv().await {},
            Err(error) => {
                debug!(%error, "cannot watch the private PostgreSQL");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Stops the server, and waits a moment for it.
    pub(super) async fn stop(&self) {
        let Some(postmaster) = Postmaster::find(&self.place.cluster()) else {
            return;
        };
        if !postmaster.is_alive() {
            return;
        }
        postmaster.interrupt();
        let gone = async {
            while postmaster.is_alive() {
                sleep(TICK).await;
            }
        };
        if timeout(STOP_TIMEOUT, gone).await.is_ok() {
            info!("the private PostgreSQL has stopped");
        } else {
            warn!("the private PostgreSQL is still stopping, leaving it to itself");
        }
    }

    /// Waits until a server that is starting or stopping has done so; none when it does not run.
    async fn settle(&self) -> Result<Option<PathBuf>, ClusterError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match self.look().await {
                Found::Ready(socket) => return Ok(Some(socket)),
                Found::Absent => return Ok(None),
                Found::Busy if Instant::now() >= deadline => return Err(self.failure().await),
                Found::Busy => sleep(TICK).await,
            }
        }
    }

    async fn look(&self) -> Found {
        let Some(postmaster) = Postmaster::find(&self.place.cluster()) else {
            return Found::Absent;
        };
        let unanswered = if postmaster.is_alive() {
            Found::Busy
        } else {
            Found::Absent
        };
        let Some(socket) = postmaster.socket else {
            return unanswered;
        };
        match timeout(ANSWER_TIMEOUT, admin(&socket).connect()).await {
            Ok(Ok(conn)) => {
                hang_up(conn).await;
                Found::Ready(socket)
            }
            // "Cannot connect now": starting up or shutting down.
            Ok(Err(sqlx::Error::Database(error))) if error.code().as_deref() == Some("57P03") => {
                Found::Busy
            }
            Ok(Err(sqlx::Error::Database(_))) => Found::Ready(socket),
            Ok(Err(_)) | Err(_) => unanswered,
        }
    }

    async fn start(&self) -> Result<PathBuf, ClusterError> {
        let Place { account, .. } = self.place;
        let cluster = self.place.cluster();
        let installation = Installation::find(account, &cluster).await?;
        if !cluster.exists() {
            self.initialise(&installation, &cluster).await?;
        }
        let socket = self.place.socket_folder()?;
        self.clear(&cluster, &socket).await?;

        let text = settings(&socket);
        account.write(&cluster.join("hearth.conf"), &text).await?;
        account
            .write(&cluster.join("pg_hba.conf"), settings::ACCESS)
            .await?;
        self.spawn(&installation.program("postgres")).await
    }

    /// Makes the cluster beside its place and moves it there, so that it is whole or absent.
    ///
    /// The name is this process's own: the `initdb` of a Hearth that was killed may still be at work.
    async fn initialise(
        &self,
        installation: &Installation,
        cluster: &Path,
    ) -> Result<(), ClusterError> {
        info!("creating the database in {}", cluster.display());
        let account = self.place.account;
        let new = cluster.with_extension(format!("new-{}", std::process::id()));
        // Removing fails while such an `initdb` writes; it gives up when its files are gone.
        let line = "for i in 1 2 3 4 5; do rm -rf \"$0\".new-* && break; sleep 0.2; done";
        account.run(line, cluster).await?;
        let mut made = Ok(());
        // Letters beyond ASCII have cases only in the first; not every system has it.
        for character_types in ["C.UTF-8", "C"] {
            let output = account
                .command(&installation.program("initdb"))
                .args(["--username", ADMIN, "--auth", "trust"])
                .args(["--encoding", "UTF8", "--locale", "C"])
                .args(["--lc-ctype", character_types])
                .args(["--data-checksums", "--no-instructions", "--pgdata"])
                .arg(&new)
                .output()
                .await;
            made = succeed(output);
            if made.is_ok() {
                break;
            }
        }
        made.map_err(|source| ClusterError::Initialise {
            cluster: cluster.to_owned(),
            source,
        })?;

        account
            .append(&new.join("postgresql.conf"), settings::INCLUDES)
            .await?;
        let moved = account.shell("mv \"$0\" \"$1\"", &[&new, cluster]).output();
        succeed(moved.await).map_err(|error| ClusterError::files(cluster, error))?;
        File::open(self.base())
            .and_then(|folder| folder.sync_all())
            .map_err(|error| ClusterError::files(self.base(), error))
    }

    /// Clears away what a server that was killed left and what would keep the next from starting.
    async fn clear(&self, cluster: &Path, socket: &Path) -> Result<(), ClusterError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        while postmaster::is_inhabited(cluster) && Instant::now() < deadline {
            sleep(TICK).await;
        }
        let account = self.place.account;
        if !postmaster::is_inhabited(cluster) {
            for file in postmaster::misleading_files(cluster, socket) {
                account.run("rm -f \"$0\"", &file).await?;
            }
        }
        let line = "if [ -f \"$0\" ] && [ \"$(wc -c <\"$0\")\" -gt 10000000 ]; then mv \"$0\" \"$0.old\"; fi";
        account.run(line, &self.place.log()).await
    }

    async fn spawn(&self, postgres: &Path) -> Result<PathBuf, ClusterError> {
        let (cluster, log) = (self.place.cluster(), self.place.log());
        let line = "umask 077; exec \"$0\" -D \"$1\" >>\"$2\" 2>&1";
        let mut child = self
            .place
            .account
            .shell(line, &[postgres, &cluster, &log])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| ClusterError::files(postgres, error))?;

        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
            if let Found::Ready(socket) = self.look().await {
                info!("the private PostgreSQL in {} is running", cluster.display());
                return Ok(socket);
            }
            sleep(TICK).await;
        }
        // It gives way to one that a process started which was killed right afterwards.
        match self.settle().await? {
            Some(socket) => Ok(socket),
            None => Err(self.failure().await),
        }
    }

    /// Says that the server did not start, with the end of its log.
    async fn failure(&self) -> ClusterError {
        let log = self.place.log();
        let output = self
            .place
            .account
            .shell("tail -n 8 \"$0\"", &[&log])
            .output();
        let tail = output.await.map(|output| output.stdout).unwrap_or_default();
        ClusterError::Start {
            tail: String::from_utf8_lossy(&tail).trim_end().to_owned(),
            log,
        }
    }
}

/// How to reach the server whose socket is in `folder`.
pub(super) fn options(folder: &Path) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(folder)
        .port(PORT)
        .ssl_mode(PgSslMode::Disable)
        .application_name(NAME)
        .disable_statement_logging()
}

fn admin(folder: &Path) -> PgConnectOptions {
    options(folder).username(ADMIN).database(ADMIN)
}

async fn listen(socket: &Path) -> sqlx::Result<PgListener> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(ANSWER_TIMEOUT)
        .connect_with(admin(socket))
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    Ok(listener)
}

/// Makes the role and the database of Hearth unless they exist.
async fn create_database(socket: &Path) -> sqlx::Result<()> {
    let mut conn = admin(socket).connect().await?;
    // The session of a process that was killed just now may still be making them.
    sqlx::query!("SELECT pg_advisory_lock($1)", CREATION_LOCK)
        .fetch_one(&mut conn)
        .await?;
    let there = sqlx::query!(
        r#"SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hearth') AS "role!",
                  EXISTS (SELECT FROM pg_database WHERE datname = 'hearth') AS "database!""#
    )
    .fetch_one(&mut conn)
    .await?;
    if !there.role {
        raw_sql("CREATE ROLE hearth LOGIN")
            .execute(&mut conn)
            .await?;
    }
    if !there.database {
        raw_sql("CREATE DATABASE hearth OWNER hearth")
            .execute(&mut conn)
            .await?;
    }
    hang_up(conn).await;
    Ok(())
}

async fn hang_up(conn: PgConnection) {
    if let Err(error) = conn.close().await {
        debug!(%error, "closing a connection failed");
    }
}
