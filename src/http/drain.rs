//! The end of waiting.

use tokio_util::sync::CancellationToken;

/// Tells requests whose purpose is to wait that the server stops, so that they answer at once.
#[derive(Clone, Debug, Default)]
pub struct Drain(CancellationToken);

impl Drain {
    /// Returns when the server stops.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }

    /// The same as a token.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.0
    }

    /// Begins.
    pub fn begin(&self) {
        self.0.cancel();
    }
}
