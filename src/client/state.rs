//! What the handlers work with, and how it is put together.

use std::sync::Arc;

use axum::extract::FromRef;
use hearth_core::{Clock, Identity, config::Config};
use hearth_journal::{Journal, StartError};
use hearth_rooms::{Departures, Live, Rooms};
use hearth_store::intern::{Blocks, Interner};
use hearth_users::{
    AccountData, Accounts, Devices, OpenIds, Profiles, Sessions, Uia, accounts::AccountsParts,
    sessions::Processes,
};
use sqlx::PgPool;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::http::{Drain, RateLimits};

/// What the handlers of the client-server API work with. Each takes the two or three parts that it needs.
#[derive(Clone, Debug, FromRef)]
pub struct ClientState {
    /// The configuration.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Clock,
    /// Rate limits.
    pub limits: RateLimits,
    /// Tells those who wait that the server stops.
    pub drain: Drain,
    /// The numbers of users and state keys.
    pub interner: Interner,
    /// The log.
    pub journal: Journal,
    /// Who has an account.
    pub accounts: Accounts,
    /// Whom access tokens stand for.
    pub sessions: Sessions,
    /// The devices of users.
    pub devices: Devices,
    /// What users tell about themselves.
    pub profiles: Profiles,
    /// What users keep on the server.
    pub account_data: AccountData,
    /// Tokens for third parties.
    pub openids: OpenIds,
    /// User-interactive authentication.
    pub uia: Uia,
    /// Rooms.
    pub rooms: Rooms,
    /// Leaving all rooms at once.
    pub departures: Departures,
    /// What happens, once it is in memory.
    pub live: Live,
}

/// What the services are made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The configuration.
    pub config: Arc<Config>,
    /// Who signs events.
    pub identity: Arc<Identity>,
    /// The database.
    pub pool: PgPool,
    /// The time.
    pub clock: Clock,
    /// Rate limits.
    pub limits: RateLimits,
    /// Tells requests that wait that the server stops.
    pub drain: Drain,
    /// Where background work is started.
    pub tasks: TaskTracker,
    /// When it has to end, which is after the last request.
    pub stop: CancellationToken,
}

impl ClientState {
    /// Starts the services; their background work ends with `parts.stop`.
    ///
    /// # Errors
    ///
    /// When the head of the log cannot be read.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts {
            config,
            identity,
            pool,
            clock,
            limits,
            drain,
            tasks,
            stop,
        } = parts;
        let interner = Interner::new(pool.clone());
        let blocks = Blocks::new(pool.clone());
        let journal = Journal::start(pool.clone(), blocks.clone(), &tasks, stop.clone()).await?;
        let rooms = Rooms::new(hearth_rooms::Parts {
            pool: pool.clone(),
            journal: journal.clone(),
            interner: interner.clone(),
            blocks,
            identity,
            clock: clock.clone(),
        });
        let live = rooms.follow(&tasks, stop.clone());
        let departures = Departures::start(rooms.clone(), tasks.clone(), stop.clone());
        let processes = match config.redis {
            Some(_) => Processes::Many,
            None => Processes::One,
        };
        let sessions = Sessions::new(pool.clone(), journal.clone(), clock.clone(), processes);
        tasks.spawn(sessions.clone().run(stop));
        let accounts = Accounts::new(AccountsParts {
            pool: pool.clone(),
            interner: interner.clone(),
            clock: clock.clone(),
            server_name: config.server_name.clone(),
            sessions: sessions.clone(),
        });
        let registration = config.registration.clone();

        Ok(Self {
            devices: Devices::new(pool.clone(), journal.clone(), sessions.clone()),
            profiles: Profiles::new(pool.clone()),
            account_data: AccountData::new(pool.clone(), journal.clone()),
            openids: OpenIds::new(pool.clone(), clock.clone()),
            uia: Uia::new(pool, clock.clone(), accounts.clone(), registration),
            config,
            clock,
            limits,
            drain,
            interner,
            journal,
            accounts,
            sessions,
            rooms,
            departures,
            live,
        })
    }
}
