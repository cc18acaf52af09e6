//! The start: reach the database, refuse it or migrate it, and open the pool.

use std::{fmt, path::Path, str::FromStr as _, time::Duration};

use hearth_core::config;
use ruma::ServerName;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
    raw_sql,
};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::{
    MIGRATOR, is_connection_error,
    occupancy::{Claim, Keeper, Occupancy, OccupyError},
    private::{Cluster, ClusterError},
    schema::{self, SchemaError},
};

/// How long a start waits for a configured server that does not answer (yet).
const PATIENCE: Duration = Duration::from_secs(15);

/// How long [`Database::close`] waits for connections that are in use.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Prepared statements that each connection keeps; more than the crate has.
const STATEMENTS: usize = 500;

/// A connection that was used this short a time ago is used again without asking whether it lives: the question costs
/// a round trip, and each connection is asked anyway when it comes back to the pool.
const FRESH: Duration = Duration::from_secs(1);

/// Time limits of every connection of the pool.
///
/// A frozen process must not stop the others: it loses its transaction, and with it the log's lock and its rooms' rows,
/// before those who wait for them give up. Set by a statement, because poolers refuse options at connect.
const LIMITS: &str = "SET statement_timeout = '30s'; SET lock_timeout = '15s'; \
                      SET idle_in_transaction_session_timeout = '10s'";

/// The database of this server: a pool, and the private `PostgreSQL` if there is one.
///
/// Dropping it without [`Database::close`] is like `kill -9`: a private cluster goes on running and
/// the next start adopts it.
pub struct Database {
    pool: PgPool,
    direct: PgConnectOptions,
    cluster: Option<Cluster>,
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An address in the configuration is malformed; the text does not repeat it.
    #[error("{0} is not an address of the form postgres://user:password@host:port/database")]
    Address(&'static str),
    /// The configured server cannot be reached or refuses the login.
    #[error("cannot connect to the database at {host}:{port}")]
    Connect {
        /// The host or the socket's folder.
        host: String,
        /// The port.
        port: u16,
        /// What happened.
        #[source]
        source: sqlx::Error,
    },
    /// The private `PostgreSQL` cannot be run.
    #[error(transparent)]
    Private(#[from] ClusterError),
    /// The database must not be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options hold the password.
        f.debug_struct("Database")
            .field("pool", &self.pool)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Connects to `config.url`, or to a private `PostgreSQL` under `data_dir`, and brings the
    /// schema up to date.
    ///
    /// # Errors
    ///
    /// A sentence for the operator, see [`OpenError`]. Nothing was changed in a database that is
    /// refused, and a private cluster that this call started is stopped again.
    pub async fn open(
        config: &config::Database,
        data_dir: &Path,
        server_name: &ServerName,
    ) -> Result<Self, OpenError> {
        let (cluster, options) = if let Some(url) = &config.url {
            (None, parse(url.expose(), "database.url")?)
        } else {
            let cluster = Cluster::start(data_dir).await?;
            let options = cluster.connect_options();
            (Some(cluster), options)
        };
        let direct = match (&config.url, &config.direct_url) {
            (Some(_), Some(url)) => parse(url.expose(), "database.direct_url")?,
            _ => options.clone(),
        };

        match connect(config, tune(options), tune(direct.clone()), server_name).await {
            Ok(pool) => Ok(Self {
                pool,
                direct: tune(direct),
                cluster,
            }),
            Err(error) => {
                if let Some(cluster) = cluster {
                    cluster.stop().await;
                }
                Err(error)
            }
        }
    }

    /// The connections that all share.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Opens a connection of its own, past any pooler, for what needs a session (`LISTEN`).
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub async fn connect_direct(&self) -> sqlx::Result<PgConnection> {
        self.direct.connect().await
    }

    /// Takes the database for this process, alone or with others that share Redis.
    ///
    /// # Errors
    ///
    /// [`OccupyError::Occupied`], after a while in which a process that is about to end may do so.
    pub async fn occupy(&self, claim: Claim) -> Result<Keeper, OccupyError> {
        Occupancy::claim(self.direct.clone(), claim).await
    }

    /// Closes all connections and leaves the private `PostgreSQL`: the last process stops it.
    pub async fn close(self) {
        if timeout(CLOSE_TIMEOUT, self.pool.close()).await.is_err() {
            warn!("connections to the database are still in use, leaving them");
        }
        if let Some(cluster) = self.cluster {
            cluster.stop().await;
        }
    }
}

fn parse(url: &str, key: &'static str) -> Result<PgConnectOptions, OpenError> {
    PgConnectOptions::from_str(url).map_err(|_| OpenError::Address(key))
}

fn tune(options: PgConnectOptions) -> PgConnectOptions {
    options
        .application_name("hearth")
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging()
}

async fn connect(
    config: &config::Database,
    options: PgConnectOptions,
    direct: PgConnectOptions,
    server_name: &ServerName,
) -> Result<PgPool, OpenError> {
    let mut conn = connect_patiently(&direct).await?;
    schema::prepare(&mut conn, &MIGRATOR, server_name).await?;
    schema::close(conn).await;

    pool_options()
        .max_connections(config.max_connections)
        .acquire_timeout(config.acquire_timeout.duration())
        .connect_with(options.clone())
        .await
        .map_err(|source| unreachable_server(&options, source))
}

fn pool_options() -> PgPoolOptions {
    PgPoolOptions::new()
        .after_connect(|conn, _| {
            Box::pin(async move {
                raw_sql(LIMITS).execute(conn).await?;
                Ok(())
            })
        })
        .test_before_acquire(false)
        .before_acquire(|conn, meta| {
            Box::pin(async move {
                if meta.idle_for >= FRESH {
                    conn.ping().await?;
                }
                Ok(true)
            })
        })
}

/// Connects, and waits a little for a server that is being started at the same time.
async fn connect_patiently(options: &PgConnectOptions) -> Result<PgConnection, OpenError> {
    let deadline = Instant::now() + PATIENCE;
    let mut told = false;
    loop {
        let attempt = timeout(PATIENCE, options.connect()).await;
        let error = match attempt.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(conn) => return Ok(conn),
            Err(error) => error,
        };
        if !is_connection_error(&error) || Instant::now() >= deadline {
            return Err(unreachable_server(options, error));
        }
        if !told {
            info!("waiting for the database at {}", options.get_host());
            told = true;
        }
        sleep(Duration::from_millis(250)).await;
    }
}

fn unreachable_server(options: &PgConnectOptions, source: sqlx::Error) -> OpenError {
    let socket = options.get_socket().map(|path| path.display().to_string());
    OpenError::Connect {
        host: socket.unwrap_or_else(|| options.get_host().to_owned()),
        port: options.get_port(),
        source,
    }
}
