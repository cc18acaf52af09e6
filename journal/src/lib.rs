//! The commit-ordered log: group commit, positions, fan-out.
//!
//! Everything durable that a client or a peer may wait for is written through [`Journal`], gets a position from one log
//! in commit order, and is announced. Nothing here knows what an event means.
//!
//! # What lives here
//!
//! - The writer: it takes all writes that wait, decides who lost, and commits the rest in one transaction.
//! - The head: how far the log is known without holes, whatever the order in which commits and announcements arrive.
//! - [`Consumer`]: what follows the log from a durable cursor, one process for all ([`Lead`]).
//! - The ways to hear of other processes: Redis, and a look at the log once a second.
//!
//! # What may not
//!
//! SQL (that is in `store/`), rules of the specification, what consumers do.

mod announcement;
mod batch;
mod consumer;
mod epoch;
mod error;
mod exchange;
mod fanout;
mod follow;
mod head;
mod journal;
mod lead;
mod message;
mod prune;
mod rejected;
mod rows;
mod writer;

pub use self::{
    announcement::{Announcement, Entry, Kind, Origin},
    consumer::{Consumer, Due, Moved, consume, retry},
    error::{StartError, WriteError},
    exchange::{Exchange, Heard, Outgoing},
    journal::{Journal, Parts, Pending, Written},
    lead::{Lead, Processes},
    prune::Pruner,
};
