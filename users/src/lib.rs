//! Accounts, devices, tokens, profiles, keys, to-device, presence.
//!
//! # What lives here
//!
//! - [`Accounts`]: who has an account, with which password, in which standing.
//! - [`Sessions`]: which access token stands for whom; logging in, refreshing, logging out.
//! - [`Devices`], [`Profiles`], [`OpenIds`]: what belongs to an account.
//! - [`Uia`]: user-interactive authentication, for all who need it.
//!
//! # What may not
//!
//! SQL (it is in `store/`), HTTP statuses and error codes (they are beside the handlers), rooms: whoever changes a
//! user's rooms with the account (a new display name, a closed account) asks both crates from above.

pub mod accounts;
pub mod devices;
pub mod openid;
pub mod password;
pub mod profiles;
pub mod secret;
pub mod sessions;
pub mod throttle;
pub mod turn;
pub mod uia;
pub mod username;

pub use self::{
    accounts::Accounts,
    devices::Devices,
    openid::OpenIds,
    profiles::Profiles,
    sessions::{Session, Sessions},
    uia::Uia,
};
