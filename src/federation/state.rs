//! What the handlers work with.

use std::sync::Arc;

use axum::extract::FromRef;
use hearth_core::{Clock, Identity, config::Config};
use hearth_federation::{
    Authenticator, Client, Inbound, Keys, Others, Outbound, discovery::address::Reach, inbound,
    keys::KeyParts, trust::TrustError,
};
use hearth_rooms::{Directory, Rooms};
use hearth_users::{Accounts, OpenIds, Profiles};
use sqlx::PgPool;
use tokio_util::task::TaskTracker;

use crate::{client::ClientState, http::RateLimits};

/// What connects this server with others.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Makes requests.
    pub client: Client,
    /// Knows the keys of servers.
    pub keys: Keys,
    /// Checks the requests of others.
    pub authenticator: Authenticator,
    /// Asks others.
    pub others: Others,
}

impl Outside {
    /// Gets ready to talk with other servers, if this one may.
    ///
    /// # Errors
    ///
    /// When the additional root certificate cannot be used.
    pub fn open(
        config: &Config,
        identity: &Arc<Identity>,
        pool: PgPool,
        clock: &Clock,
        tasks: &TaskTracker,
    ) -> Result<Option<Self>, TrustError> {
        let federation = &config.federation;
        if !federation.enabled {
            return Ok(None);
        }
        let reach = match federation.allow_private_addresses {
            true => Reach::Anywhere,
            false => Reach::Public,
        };
        let client = Client::new(Arc::clone(identity), reach, federation.ca_file.as_deref())?;
        let keys = Keys::new(KeyParts {
            pool,
            clock: clock.clone(),
            client: client.clone(),
            identity: Arc::clone(identity),
            old_keys: federation.old_verify_keys.clone(),
            notaries: federation.trusted_key_servers.clone(),
        });
        Ok(Some(Self {
            authenticator: Authenticator::new(keys.clone(), Arc::clone(identity), clock.clone()),
            others: Others::new(client.clone(), keys.clone(), tasks.clone()),
            client,
            keys,
        }))
    }
}

/// What the handlers of the server-server API work with. Each takes the two or three parts that it needs.
#[derive(Clone, Debug, FromRef)]
pub struct FederationState {
    /// The configuration.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Clock,
    /// Checks who makes a request.
    pub authenticator: Authenticator,
    /// The keys of servers.
    pub keys: Keys,
    /// Who has an account.
    pub accounts: Accounts,
    /// What users tell about themselves.
    pub profiles: Profiles,
    /// Rate limits.
    pub limits: RateLimits,
    /// Tokens for third parties.
    pub openids: OpenIds,
    /// Rooms.
    pub rooms: Rooms,
    /// Finds rooms.
    pub directory: Directory,
    /// Takes transactions in.
    pub inbound: Inbound,
    /// Sends to other servers.
    pub outbound: Outbound,
}

impl FederationState {
    /// Serves others with the services that serve clients; `None` when this server does not federate.
    #[must_use]
    pub fn new(client: &ClientState, pool: PgPool, tasks: TaskTracker) -> Option<Self> {
        let outside = client.outside.as_ref()?;
        let inbound = Inbound::new(inbound::Parts {
            pool,
            clock: client.clock.clone(),
            rooms: client.rooms.clone(),
            interner: client.interner.clone(),
            typing: client.typing.clone(),
            presence: client.presence.clone(),
            receipts: client.receipts.clone(),
            to_device: client.to_device.clone(),
            tasks,
        });
        Some(Self {
            inbound,
            outbound: client.outbound.clone()?,
            config: Arc::clone(&client.config),
            clock: client.clock.clone(),
            authenticator: outside.authenticator.clone(),
            keys: outside.keys.clone(),
            accounts: client.accounts.clone(),
            profiles: client.profiles.clone(),
            limits: client.limits.clone(),
            openids: client.openids.clone(),
            rooms: client.rooms.clone(),
            directory: client.directory.clone(),
        })
    }
}
