//! The client-server API: one file per module of `ruma::api::client`.
//!
//! A module has a function `api` that lists its endpoints; [`api`] lists the modules.

mod account;
mod admin;
mod alias;
mod config;
mod context;
mod device;
mod directory;
mod discovery;
mod filter;
mod guests;
mod initial_sync;
mod membership;
mod message;
mod patience;
mod peeking;
mod presence;
mod profile;
mod push;
mod reader;
mod receipt;
mod relations;
mod reporting;
mod requester;
mod room;
mod room_error;
mod room_event;
mod room_state;
mod send;
mod session;
mod space;
mod state;
mod sync;
mod tag;
mod threads;
mod to_device;
mod typing;
mod uiaa;
mod upgrade;
mod user_directory;
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
        alias::api(),
        config::api(),
        context::api(),
        device::api(),
        directory::api(),
        discovery::api(),
        filter::api(),
        initial_sync::api(),
        membership::api(),
        message::api(),
        peeking::api(),
        presence::api(),
        profile::api(),
        push::api(),
        receipt::api(),
        relations::api(),
        reporting::api(),
        room::api(),
        room_event::api(),
        room_state::api(),
        send::api(),
        session::api(),
        sync::api(),
        space::api(),
        tag::api(),
        threads::api(),
        to_device::api(),
        typing::api(),
        uiaa::api(),
        upgrade::api(),
        user_directory::api(),
        voip::api(),
    ]
    .into_iter()
    .fold(Api::new(), Api::merge)
    .with_state(state)
}
