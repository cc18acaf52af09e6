//! The client-server API: one file per module of `ruma::api::client`.
//!
//! A module has a function `api` that lists its endpoints; [`api`] lists the modules.

mod account;
mod admin;
mod context;
mod device;
mod discovery;
mod membership;
mod message;
mod peeking;
mod reader;
mod relations;
mod requester;
mod room;
mod room_error;
mod room_event;
mod room_state;
mod send;
mod session;
mod state;
mod threads;
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
        context::api(),
        device::api(),
        discovery::api(),
        membership::api(),
        message::api(),
        peeking::api(),
        relations::api(),
        room::api(),
        room_event::api(),
        room_state::api(),
        send::api(),
        session::api(),
        threads::api(),
        voip::api(),
    ]
    .into_iter()
    .fold(Api::new(), Api::merge)
    .with_state(state)
}
