//! Accounts, devices, tokens, profiles, keys, to-device, presence.
//!
//! # What lives here
//!
//! - [`Accounts`]: who has an account, with which password, in which standing.
//! - [`Sessions`]: which access token stands for whom; logging in, refreshing, logging out.
//! - [`Devices`], [`Profiles`], [`OpenIds`]: what belongs to an account.
//! - [`AccountData`], [`RoomTags`], [`Filters`]: what clients keep on the server.
//! - [`Receipts`], [`ToDevice`], [`Reports`], [`UserDirectory`]: what users have read, sent to devices, reported; whom
//!   they find.
//! - [`Typing`], [`Presence`]: who types, who is there; in memory, counted by [`Ephemeral`].
//! - [`Uia`]: user-interactive authentication, for all who need it.
//!
//! # What may not
//!
//! SQL (it is in `store/`), HTTP statuses and error codes (they are beside the handlers), rooms: whoever changes a
//! user's rooms with the account (a new display name, a closed account) asks both crates from above.

pub mod account_data;
pub mod accounts;
pub mod devices;
pub mod ephemeral;
pub mod filters;
pub mod openid;
pub mod password;
pub mod presence;
pub mod profiles;
pub mod receipts;
pub mod reports;
pub mod secret;
pub mod sessions;
pub mod tags;
pub mod throttle;
pub mod to_device;
pub mod turn;
pub mod typing;
pub mod uia;
pub mod user_directory;
pub mod username;

pub use self::{
    account_data::AccountData,
    accounts::Accounts,
    devices::Devices,
    ephemeral::Ephemeral,
    filters::Filters,
    openid::OpenIds,
    presence::Presence,
    profiles::Profiles,
    receipts::Receipts,
    reports::Reports,
    sessions::{Session, Sessions},
    tags::RoomTags,
    to_device::ToDevice,
    typing::Typing,
    uia::Uia,
    user_directory::UserDirectory,
};
