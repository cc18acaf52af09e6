//! Settings that change while the server runs.

use std::sync::{Arc, PoisonError, RwLock};

use hearth_core::config::Limits;

/// The limits in force.
#[derive(Debug)]
pub struct Live(RwLock<Arc<Limits>>);

impl Live {
    /// Begins with `limits`.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(RwLock::new(Arc::new(limits)))
    }

    /// What is in force.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes `limits` into force.
    pub fn reload(&self, limits: Limits) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
    }
}
