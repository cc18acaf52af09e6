//! The client-server API: one file per module of `ruma::api::client`.
//!
//! A module has a function `api` that lists its endpoints; [`api`] lists the modules.

mod account;
mod admin;
mod device;
mod discovery;
mod membership;
mod requester;
mod room;
mod room_error;
mod send;
mod session;
mod state;
mod voip;

pub use self::{
    requester::{AnyRequester, OptionalRequester, Requester},
    state::{ClientState, Parts},
};
use crate::http::Api;

/// All endpoints of the client-server API.
pub fn api(state: ClientState) -> Api {
    [
        account::api(),
        admin::api(),
        device::api(),
        discovery::api(),
        membership::api(),
        room::api(),
        send::api(),
        session::api(),
        voip::api(),
    ]
    .into_iter()
    .fold(Api::new(), Api::merge)
    .with_state(state)
}
