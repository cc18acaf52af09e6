//! What a request may cost.

use std::time::Duration;

/// How long a request may take and how large its answer may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Until the answer is there, all of it.
    pub time: Duration,
    /// In bytes.
    pub size: usize,
}

impl Bounds {
    /// For questions with small answers.
    pub const SMALL: Self = Self {
        time: Duration::from_secs(20),
        size: 1024 * 1024,
    };
    /// For pages of events.
    pub const PAGE: Self = Self {
        time: Duration::from_secs(60),
        size: 8 * 1024 * 1024,
    };
    /// For long lists.
    pub const LARGE: Self = Self {
        time: Duration::from_secs(60),
        size: 32 * 1024 * 1024,
    };
    /// For transactions, which the other server may take long to work through.
    pub const TRANSACTION: Self = Self {
        time: Duration::from_secs(60),
        size: 1024 * 1024,
    };
    /// For the whole state of a room with its auth chain.
    pub const ROOM: Self = Self {
        time: Duration::from_secs(180),
        size: 128 * 1024 * 1024,
    };
}
