//! The commit-ordered log: group commit, positions, fan-out.
//!
//! Everything durable that a client or a peer may wait for is written through [`Journal`], gets a position from one log
//! in commit order, and is announced. Nothing here knows what an event means.

mod announcement;
mod batch;
mod error;
mod head;
mod journal;
mod prune;
mod writer;

pub use self::{
    announcement::{Announcement, Entry, Kind, Origin},
    error::{StartError, WriteError},
    journal::{Journal, Pending, Written},
    prune::Pruner,
};
