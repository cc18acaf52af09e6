//! How many clients wait.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// Counts clients that wait for something new.
#[derive(Clone, Debug)]
pub(crate) struct Waiting(Arc<AtomicU32>);

impl Waiting {
    /// Nobody waits.
    pub(crate) fn nobody() -> Self {
        show(0);
        Self(Arc::default())
    }

    /// Counts one more while the guard lives.
    pub(crate) fn enter(&self) -> Guard {
        show(self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1));
        Guard(Arc::clone(&self.0))
    }
}

/// A client that waits.
#[derive(Debug)]
pub(crate) struct Guard(Arc<AtomicU32>);

impl Drop for Guard {
    fn drop(&mut self) {
        show(self.0.fetch_sub(1, Ordering::Relaxed).saturating_sub(1));
    }
}

fn show(count: u32) {
    metrics::gauge!("hearth_sync_waiting").set(f64::from(count));
}
