//! The client-server API: one file per module of `ruma::api::client`.
//!
//! A module has a function `api` that lists its endpoints; [`api`] lists the modules.

mod account;
mod admin;
mod device;
mod discovery;
mod requester;
mod session;
mod voip;

use std::sync::Arc;

use axum::extract::FromRef;
use hearth_core::{Clock, config::Config};
use hearth_users::{Accounts, Devices, OpenIds, Profiles, Sessions, Uia};

pub use self::requester::{AnyRequester, OptionalRequester, Requester};
use crate::http::{Api, RateLimits};

/// What the handlers of the client-server API work with. Each takes the two or three parts that it needs.
#[derive(Clone, Debug, FromRef)]
pub struct ClientState {
    /// The configuration.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Clock,
    /// Rate limits.
    pub limits: RateLimits,
    /// Who has an account.
    pub accounts: Accounts,
    /// Whom access tokens stand for.
    pub sessions: Sessions,
    /// The devices of users.
    pub devices: Devices,
    /// What users tell about themselves.
    pub profiles: Profiles,
    /// Tokens for third parties.
    pub openids: OpenIds,
    /// User-interactive authentication.
    pub uia: Uia,
}

/// All endpoints of the client-server API.
pub fn api(state: ClientState) -> Api {
    [
        account::api(),
        admin::api(),
        device::api(),
        discovery::api(),
        session::api(),
        voip::api(),
    ]
    .into_iter()
    .fold(Api::new(), Api::merge)
    .with_state(state)
}
