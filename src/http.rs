//! HTTP: errors, endpoints, layers, listeners.

pub mod api;
pub mod client_address;
pub mod drain;
mod erased;
pub mod error;
pub mod interactive;
pub mod layers;
pub mod limit;
pub mod listen;
pub mod live;
pub mod object;
pub mod observe;
pub mod paired;
pub mod query;
pub mod ruma;
pub mod signed;
mod socket;
pub mod system;
pub mod tls;

pub use self::{
    api::{Api, Authentication, Route},
    client_address::ClientAddress,
    drain::Drain,
    error::ApiError,
    interactive::{Authenticated, Interactive},
    limit::{Action, RateLimits},
    object::Object,
    paired::Paired,
    ruma::{Ruma, WithBody},
    signed::Signed,
};
