//! A `PostgreSQL` of Hearth's own, for when the configuration names none.
//!
//! # Where
//!
//! In `postgres/` in the data folder: `cluster` (`PGDATA`), `run` (the socket) and `log`. When
//! Hearth runs as root, all of that belongs to the account `postgres`; when that account cannot
//! enter the data folder (below `/root`, say), the folder lies in `/var/lib/hearth` and `postgres`
//! is a symbolic link to it. `cluster/hearth.conf` is rewritten before every start; an operator's
//! own settings go into `cluster/operator.conf`.
//!
//! # Who gets in
//!
//! The cluster listens on no network address. Its socket has mode 0700 and lies in a folder of mode
//! 0700, so that only its account and root reach it; `PostgreSQL` itself then trusts them.
//!
//! # When it runs
//!
//! Any number of Hearth processes may use one data folder. Each holds a shared lock on `run` while
//! it lives, and whoever starts or stops the cluster holds an exclusive lock on the folder of the
//! cluster meanwhile. The first process starts the cluster, the others adopt it; **the last one that
//! stops in an orderly way stops it**. The kernel frees the locks of a process that is killed: its
//! cluster goes on running, and the next start adopts it. Each process watches the cluster over a
//! connection of its own, and when that breaks, the first to notice starts the cluster again; the
//! pool reconnects by itself.
//!
//! `PostgreSQL` has a process group of its own, so Ctrl-C at the terminal stops Hearth first. Under
//! systemd that needs `KillMode=mixed`.

mod account;
mod installation;
mod place;
mod postmaster;
mod server;
mod settings;

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::postgres::PgConnectOptions;
use tokio::{task, time::sleep};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::{error, info, warn};

use self::{account::Account, installation::Installation, place::Place, server::Server};

/// The longest pause between attempts to start a cluster that does not start.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// This process's share in a running private cluster.
#[derive(Debug)]
pub struct Cluster {
    server: Arc<Server>,
    share: File,
    socket: PathBuf,
    watching: DropGuard,
    tasks: TaskTracker,
}

/// Why the private `PostgreSQL` cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nothing suitable is installed.
    #[error(
        "PostgreSQL 15 or newer is not installed (found: {found}); install it (Debian: apt install postgresql) or set database.url"
    )]
    NotInstalled {
        /// The newest version that was found.
        found: String,
    },
    /// The version that made the cluster is not there any more.
    #[error(
        "the database in {} was made by PostgreSQL {version}, which is not installed; install it, or convert the database with pg_upgrade",
        cluster.display()
    )]
    VersionGone {
        /// The cluster.
        cluster: PathBuf,
        /// Its version.
        version: String,
    },
    /// Root cannot run `PostgreSQL`, and there is no other account for it.
    #[error(
        "PostgreSQL cannot run as root and there is no account \"postgres\"; create it, or start Hearth as an ordinary user"
    )]
    NoAccount,
    /// The cluster belongs to somebody else.
    #[error(
        "the database in {} belongs to the account with number {uid}, and Hearth runs as {me}; start Hearth as that account, or give the folder to another one than root (chown -R)",
        base.display()
    )]
    Owner {
        /// The folder.
        base: PathBuf,
        /// Its owner.
        uid: u32,
        /// The account of this process.
        me: u32,
    },
    /// The account of the cluster cannot enter its folder.
    #[error(
        "the account of PostgreSQL cannot reach its folder {}; let it pass through the folders above (chmod o+x), or move the data",
        base.display()
    )]
    Unreachable {
        /// The folder.
        base: PathBuf,
    },
    /// A file or folder could not be made, read or written.
    #[error("cannot use {}", path.display())]
    Files {
        /// The file or folder.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// `initdb` failed.
    #[error("initdb could not make the database in {}", cluster.display())]
    Initialise {
        /// The cluster.
        cluster: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The server ended or hung while it started.
    #[error("PostgreSQL did not start; {} ends with:\n{tail}", log.display())]
    Start {
        /// Its log.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },
    /// The server runs, but the database could not be made in it.
    #[error("the private PostgreSQL runs, but the database \"hearth\" cannot be made in it")]
    Database(#[source] sqlx::Error),
}

impl ClusterError {
    fn files(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Files { path, source }
    }
}

impl Cluster {
    /// Makes the cluster in `data_dir` run: adopts, starts or creates it.
    ///
    /// # Errors
    ///
    /// A sentence for the operator.
    pub async fn start(data_dir: &Path) -> Result<Self, ClusterError> {
        let server = Arc::new(Server::new(Place::prepare(data_dir).await?));
        let starting = lock(server.base()).await?;
        let share = share(&server.base().join("run"))?;
        let socket = match server.open().await {
            Ok(socket) => socket,
            Err(error) => {
                leave(&server, &share).await;
                return Err(error);
            }
        };
        drop(starting);

        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let watched = watch(Arc::clone(&server), socket.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(watched));
        tasks.close();
        Ok(Self {
            server,
            share,
            socket,
            watching: stop.drop_guard(),
            tasks,
        })
    }

    /// How to reach the database `hearth` in it.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        server::options(&self.socket)
            .username(server::NAME)
            .database(server::NAME)
    }

    /// Gives up this process's share; the last process stops the cluster.
    pub async fn stop(self) {
        drop(self.watching);
        self.tasks.wait().await;
        match lock(self.server.base()).await {
            Ok(_stopping) => leave(&self.server, &self.share).await,
            Err(error) => error!(
                error = &error as &dyn std::error::Error,
                "cannot lock the private PostgreSQL, so it goes on running"
            ),
        }
    }
}

/// Waits until no other process starts or stops the cluster; the file holds the lock.
async fn lock(base: &Path) -> Result<File, ClusterError> {
    let failed = |error| ClusterError::files(base, error);
    let file = File::open(base).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
        Err(TryLockError::WouldBlock) => {}
    }
    info!("waiting for another process that starts or stops the private PostgreSQL");
    task::spawn_blocking(move || file.lock().map(|()| file))
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(failed)
}

/// Takes a share. Only a process that stops the cluster excludes others, under the lock of [`lock`].
fn share(run: &Path) -> Result<File, ClusterError> {
    let open = || {
        let file = File::open(run)?;
        file.lock_shared()?;
        Ok(file)
    };
    open().map_err(|error| ClusterError::files(run, error))
}

/// Gives back `share` and stops the cluster if nobody else has one; needs the lock of [`lock`].
async fn leave(server: &Server, share: &File) {
    let last = share.unlock().is_ok() && share.try_lock().is_ok();
    if last {
        server.stop().await;
    } else {
        info!("other processes use the private PostgreSQL, so it goes on running");
    }
}

/// Starts the cluster again whenever it is lost. Does not end by itself.
async fn watch(server: Arc<Server>, socket: PathBuf) {
    loop {
        server.wait_for_loss(&socket).await;
        let mut pause = Duration::from_secs(1);
        while let Err(error) = revive(&server).await {
            error!(
                error = &error as &dyn std::error::Error,
                "cannot start the private PostgreSQL again, trying later"
            );
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

async fn revive(server: &Server) -> Result<(), ClusterError> {
    let _starting = lock(server.base()).await?;
    if server.is_ready().await {
        return Ok(());
    }
    warn!("the private PostgreSQL has stopped, starting it again");
    server.open().await?;
    Ok(())
}
