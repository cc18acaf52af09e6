//! One diff engine behind `/sync` and the faces to come.
//!
//! # What lives here
//!
//! - [`Sync`]: answers requests, at once or when there is something new. What wakes them is in memory: no polling.
//! - The engine: what happened in rooms between two places of the log for one user, and the user's own streams. Its
//!   result, [`Response`], knows nothing of how it is written.
//! - [`v3`]: writes it as `GET /_matrix/client/v3/sync` has it, [`initial`] as `GET /_matrix/client/v3/initialSync`.
//!
//! # What may not
//!
//! SQL (it is in `store/`), rules about who sees which event (they are in `rooms/`), HTTP.

mod active;
mod change;
mod difference;
mod engine;
mod ephemeral;
mod filter;
mod follow;
mod hub;
pub mod initial;
mod lazy;
mod plan;
pub mod response;
mod service;
mod state;
mod streams;
mod summary;
mod timeline;
mod unread;
pub mod v3;
mod view;
mod waiting;

pub use self::{
    filter::SyncFilter,
    response::Response,
    service::{Parts, Sync, SyncError},
    view::{FullState, Request, StateMode},
};
