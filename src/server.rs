//! The start and the end of a server.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use hearth_core::{
    Clock, Identity,
    config::{Bind, Config, Role},
};
use hearth_federation::trust::TrustError;
use hearth_store::{Claim, Database, Keeper, Occupancy, OccupyError, OpenError};
use metrics_exporter_prometheus::{BuildError, PrometheusHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    client::{self, ClientState, Parts},
    federation::{self, FederationState, Outside},
    http::{
        api::Api,
        layers,
        limit::RateLimits,
        listen::{ListenError, Listener, Serving},
        system::{self, Welcome},
        tls::{Certificate, TlsError},
    },
    identity::{self, KeyError},
    metrics, push_gateways,
};

/// How long requests may take that were under way when the server was told to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// How long background work may take to end after that. With the database it is less than 10 s.
const BACKGROUND_LIMIT: Duration = Duration::from_secs(2);

/// How often figures and limits are tidied up.
const LIMITS_UPKEEP: Duration = Duration::from_mins(1);

/// Starts servers.
#[derive(Clone, Copy, Debug)]
pub struct Server;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made.
    #[error("cannot make the data folder {folder}: {source}", folder = .folder.display())]
    DataDir {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// Another process uses the database.
    #[error(transparent)]
    Occupied(#[from] OccupyError),
    /// The log cannot be read.
    #[error(transparent)]
    Journal(#[from] hearth_journal::StartError),
    /// Other servers cannot be trusted.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// There is no signing key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An address cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Figures cannot be recorded.
    #[error("cannot record figures: {0}")]
    Metrics(#[from] BuildError),
}

/// A server that answers requests.
#[derive(Debug)]
pub struct RunningServer {
    addresses: Vec<Bind>,
    metrics_address: Option<Bind>,
    certificates: Vec<Arc<Certificate>>,
    rate_limits: RateLimits,
    serving: Serving,
    background: Background,
    database: Database,
}

impl Server {
    /// Starts a server; when this returns, it answers.
    ///
    /// # Errors
    ///
    /// A sentence for the operator. Nothing of the server is left running.
    pub async fn start(config: Config) -> Result<RunningServer, StartError> {
        make_data_dir(&config).await?;
        // Addresses are opened first, since they are cheap and most likely to be taken.
        let listeners = Listeners::open(&config).await?;
        let handle = metrics::record()?;
        let identity = Arc::new(identity::load(&config).await?);
        let (database, keeper) = open_database(&config).await?;
        let serving = Serving::new(&config.limits);
        let background = Background::default();
        let rate_limits = RateLimits::new(&config.limits);
        let services = Services {
            config: &config,
            identity,
            database: &database,
            occupancy: keeper.occupancy(),
            limits: rate_limits.clone(),
            serving: &serving,
            background: &background,
        };
        let served = services.start().await;
        background.tasks.spawn(keeper.run(background.stop.clone()));
        let served = match served {
            Ok(served) => served,
            Err(error) => {
                background.end().await;
                database.close().await;
                return Err(error);
            }
        };
        let welcome = Welcome::new(&config, &web_address(&listeners.addresses()));
        let api = served.merge(system::api(welcome, database.pool().clone()));
        let router = layers::wrap(api.into_router(), Arc::clone(&serving.live));

        let server = RunningServer {
            addresses: listeners.addresses(),
            metrics_address: listeners.metrics_address(),
            certificates: listeners.certificates(),
            rate_limits,
            serving,
            background,
            database,
        };
        server.tidy_up(handle.clone());
        for listener in listeners.clients {
            server.serving.serve(listener, router.clone());
        }
        if let Some(listener) = listeners.metrics {
            let router = metrics::router(handle, server.database.pool().clone());
            server.serving.serve(listener, router);
        }
        Ok(server)
    }
}

async fn make_data_dir(config: &Config) -> Result<(), StartError> {
    let made = tokio::fs::create_dir_all(&config.data_dir).await;
    made.map_err(|source| StartError::DataDir {
        folder: config.data_dir.clone(),
        source,
    })
}

/// Opens the database and takes it for this process.
async fn open_database(config: &Config) -> Result<(Database, Keeper), StartError> {
    let database = Database::open(&config.database, &config.data_dir, &config.server_name).await?;
    let claim = match config.redis {
        Some(_) => Claim::Shared,
        None => Claim::Alone,
    };
    match database.occupy(claim).await {
        Ok(keeper) => Ok((database, keeper)),
        Err(error) => {
            database.close().await;
            Err(error.into())
        }
    }
}

/// What the services are made of.
struct Services<'a> {
    config: &'a Config,
    identity: Arc<Identity>,
    database: &'a Database,
    occupancy: Occupancy,
    limits: RateLimits,
    serving: &'a Serving,
    background: &'a Background,
}

impl Services<'_> {
    /// Starts the services; returns what they serve to clients and to other servers.
    async fn start(self) -> Result<Api, StartError> {
        let (pool, clock) = (self.database.pool().clone(), Clock::system());
        let Background { tasks, stop } = self.background;
        let identity = &self.identity;
        let outside = Outside::open(self.config, identity, pool.clone(), &clock, tasks)?;
        let state = ClientState::start(Parts {
            config: Arc::new(self.config.clone()),
            identity: self.identity,
            pool: pool.clone(),
            occupancy: self.occupancy,
            clock,
            limits: self.limits,
            drain: self.serving.drain.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
            outside,
            gateways: push_gateways::open(&self.config.push)?,
        })
        .await?;
        let api = match FederationState::new(&state, pool, tasks.clone()) {
            Some(state) => federation::api(state),
            None => Api::new(),
        };
        Ok(api.merge(client::api(state)))
    }
}

/// Work that goes on while the server runs, and ends after its last request.
#[derive(Debug, Default)]
pub(crate) struct Background {
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Background {
    /// Ends the work, and waits for its end a short while.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(BACKGROUND_LIMIT, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some background work did not end in time");
        }
    }
}

impl RunningServer {
    /// Where clients and peers are served, in the order of the configuration, with the ports that
    /// the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[Bind] {
        &self.addresses
    }

    /// Where Prometheus is served.
    #[must_use]
    pub fn metrics_address(&self) -> Option<&Bind> {
        self.metrics_address.as_ref()
    }

    /// The first address as clients enter it.
    #[must_use]
    pub fn web_address(&self) -> String {
        web_address(&self.addresses)
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Takes limits into force, and reads certificates again.
    ///
    /// # Errors
    ///
    /// The certificates that cannot be used. Everything else is in force nevertheless.
    pub fn reload(&self, config: &Config) -> Result<(), Vec<TlsError>> {
        self.serving.live.reload(config.limits.clone());
        self.rate_limits.reload(&config.limits);
        let errors: Vec<_> = self
            .certificates
            .iter()
            .filter_map(|certificate| certificate.reload().err())
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    /// Finishes the requests that are under way, and stops.
    pub async fn shutdown(self) {
        self.serving.drain.begin();
        self.serving.tasks.close();
        let requests = self.serving.tasks.wait();
        if tokio::time::timeout(DRAIN_LIMIT, requests).await.is_err() {
            tracing::warn!("cutting off the connections that are still open");
            self.serving.cut.cancel();
            self.serving.tasks.wait().await;
        }
        self.background.end().await;
        self.database.close().await;
    }

    /// Keeps what grows in memory small.
    fn tidy_up(&self, handle: PrometheusHandle) {
        let stop = self.background.stop.clone();
        let limits = self.rate_limits.clone();
        self.background.tasks.spawn(async move {
            let mut figures = tokio::time::interval(metrics::UPKEEP);
            let mut counts = tokio::time::interval(LIMITS_UPKEEP);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = figures.tick() => handle.run_upkeep(),
                    _ = counts.tick() => limits.forget_idle(),
                }
            }
        });
    }
}

/// The addresses of a configuration, open.
struct Listeners {
    clients: Vec<Listener>,
    metrics: Option<Listener>,
}

impl Listeners {
    async fn open(config: &Config) -> Result<Self, ListenError> {
        let mut clients = Vec::new();
        if config.does(Role::Http) {
            for listener in &config.listen {
                clients.push(Listener::open(listener).await?);
            }
        }
        let metrics = match &config.metrics.bind {
            None => None,
            Some(bind) => Some(
                Listener::open(&hearth_core::config::Listener {
                    bind: bind.clone(),
                    tls: None,
                    forwarded: false,
                })
                .await?,
            ),
        };
        Ok(Self { clients, metrics })
    }

    fn addresses(&self) -> Vec<Bind> {
        let addresses = self.clients.iter().map(Listener::address);
        addresses.cloned().collect()
    }

    fn metrics_address(&self) -> Option<Bind> {
        self.metrics
            .as_ref()
            .map(|listener| listener.address().clone())
    }

    fn certificates(&self) -> Vec<Arc<Certificate>> {
        self.clients
            .iter()
            .filter_map(Listener::certificate)
            .collect()
    }
}

/// How a client on this machine reaches the first of `addresses`.
fn web_address(addresses: &[Bind]) -> String {
    match addresses.first() {
        Some(Bind::Tcp(address)) if address.ip().is_unspecified() => {
            format!("http://localhost:{}", address.port())
        }
        Some(bind @ Bind::Tcp(_)) => format!("http://{bind}"),
        Some(bind @ Bind::Unix(_)) => bind.to_string(),
        None => "nowhere".to_owned(),
    }
}
