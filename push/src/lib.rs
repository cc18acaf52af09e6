//! Push rules, unread counts, pushers.
//!
//! # What lives here
//!
//! - [`PushRules`]: the rules of users, as they read and change them.
//! - [`Settings`]: the same in memory, for those who evaluate; with the users that a user ignores.
//! - [`Evaluator`]: what the rules of a user say to an event.
//! - [`UnreadCounts`], [`Notifications`]: how many events a user has not read, and which.
//! - [`Pushers`]: through whom users want to be told.
//! - [`Pushing`]: tells push gateways what notifies.
//! - [`Successions`]: what users take along when a room is replaced.
//! - [`ReadState`]: how far users have read, as their clients tell it.
//!
//! # What may not
//!
//! A row per user and message. What a user has not read is computed from events and receipts when somebody asks, and kept
//! in memory; an event in a large room costs only those of its members who sync.

mod context;
mod defaults;
mod evaluator;
mod following;
mod gateway;
mod notifications;
mod pushers;
mod pushing;
mod read_state;
pub mod rules;
mod settings;
mod successions;
pub mod threads;
mod unread;

pub use self::{
    evaluator::{Evaluator, Verdict, Viewer},
    gateway::{GatewayError, Gateways},
    notifications::{Notification, NotificationPage, Notifications, NotificationsError, Wanted},
    pushers::{OthersPushers, Pushers, Schemes, SetPusherError},
    pushing::{Parts as PushingParts, Pushing},
    read_state::{ReadError, ReadState, ReceiptTarget},
    rules::{ChangeRuleError, PushRules},
    settings::{Settings, UserSettings},
    successions::{SuccessionError, Successions},
    unread::{Count, Counts, UnreadCounts},
};
