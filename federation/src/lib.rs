//! The server-server protocol: who other servers are, and how to talk with them.
//!
//! # What lives here
//!
//! - [`Client`]: signed requests to other servers; [`discovery`] finds them, within bounds of time, size and address.
//! - [`Keys`]: the keys that other servers sign with, and our own for them; [`authentication`] checks their requests.
//! - [`Others`]: what the crates below ask of other servers, by the traits that they declare.
//! - [`Web`]: requests to web servers whose addresses users give, within the same bounds.
//! - [`Inbound`] takes the transactions of other servers in, [`Outbound`] sends ours to them.
//!
//! # What may not
//!
//! Rules about rooms (they are in `rooms/`, whoever asks), SQL, HTTP routes (they are beside the handlers).

pub mod authentication;
mod bounded;
mod canonical;
pub mod client;
pub mod connect;
pub mod discovery;
pub mod inbound;
mod intake;
pub mod keys;
pub mod others;
pub mod outbound;
mod stream;
pub mod trust;
pub mod web;

pub use self::{
    authentication::Authenticator,
    client::{Bounds, Client, RequestError},
    inbound::Inbound,
    keys::Keys,
    others::Others,
    outbound::Outbound,
    web::Web,
};

/// How requests to other servers introduce themselves.
pub(crate) const USER_AGENT: &str = concat!("Hearth/", env!("CARGO_PKG_VERSION"));
