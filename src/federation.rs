//! The server-server API: one file per module of `ruma::api::federation`.
//!
//! A module has a function `api` that lists its endpoints; [`api`] lists the modules.

mod authorization;
mod backfill;
mod directory;
mod discovery;
mod event;
mod membership;
mod openid;
mod peer_error;
mod query;
mod space;
mod state;
mod thirdparty;
mod transactions;

pub use self::state::{FederationState, Outside};
use crate::http::Api;

/// All endpoints of the server-server API.
pub fn api(state: FederationState) -> Api {
    [
        authorization::api(),
        backfill::api(),
        directory::api(),
        discovery::api(),
        event::api(),
        membership::api(),
        openid::api(),
        query::api(),
        space::api(),
        thirdparty::api(),
        transactions::api(),
    ]
    .into_iter()
    .fold(Api::new(), Api::merge)
    .with_state(state)
}
