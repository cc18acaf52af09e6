//! Every line of SQL, the pool and the private `PostgreSQL`.
//!
//! # What lives here
//!
//! - One module per table (or close family of tables): free functions, the connection first, one
//!   statement each, ruma identifiers in and out, checked by sqlx at compile time.
//! - [`Database`]: the start. It connects to the configured server or runs a private one
//!   ([`private`]), refuses a database that this binary must not touch and applies [`MIGRATOR`]
//!   ([`schema`]).
//! - [`retry()`] for transactions that lose against others, and [`is_connection_error`] for callers
//!   that answer differently while the database is away.
//!
//! # What may not
//!
//! Rules of the specification, transactions (a service begins and commits them), caches, HTTP,
//! Redis. A function here knows no service and decides nothing; it says what it found or did.

pub mod access_token;
pub mod account;
pub mod account_data;
pub mod append;
pub mod current_state;
mod database;
pub mod destination;
pub mod device;
pub mod device_list_change;
pub mod device_transaction;
pub mod event;
pub mod filter;
pub mod inbound;
pub mod intern;
pub mod lease;
pub mod log;
pub mod log_mark;
pub mod log_tail;
pub mod login_token;
pub mod membership;
pub mod missing_previous;
mod occupancy;
pub mod openid_token;
pub mod outbox;
pub mod pending_redaction;
pub mod private;
pub mod profile;
pub mod profile_update;
pub mod push_queue;
pub mod pusher;
pub mod receipt;
pub mod refresh_token;
pub mod registration_token;
pub mod relation;
pub mod report;
mod retry;
pub mod room;
pub mod room_alias;
pub mod room_directory;
pub mod room_members;
pub mod schema;
pub mod sent_event;
pub mod sequence;
pub mod server_key;
pub mod server_notice_room;
pub mod shared_room;
pub mod snapshot;
pub mod state_key;
pub mod timeline;
pub mod to_device;
mod token_table;
pub mod uia_session;
pub mod unused_snapshot;
pub mod user_directory;
pub mod user_event;
pub mod user_id;
pub mod user_word;
pub mod write;

pub use database::{Database, OpenError};
pub use occupancy::{Claim, Keeper, Occupancy, OccupyError};
pub use retry::{
    is_conflict, is_connection_error, is_timeout, is_unique_violation, is_unstorable_text, retry,
};

/// The schema, applied at start and before every database test.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");
