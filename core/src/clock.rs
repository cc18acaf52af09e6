//! What time it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ruma::{MilliSecondsSinceUnixEpoch, UInt};

/// Tells the time: the system's, or in tests one that is moved by hand.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `millis` since the Unix epoch until [`Clock::advance`] moves it.
    #[must_use]
    pub fn mock(millis: u64) -> Self {
        Self(Some(Arc::new(AtomicU64::new(millis))))
    }

    /// Moves a mock clock forward; the system's clock cannot be moved.
    pub fn advance(&self, by: Duration) {
        if let Some(mock) = &self.0 {
            mock.fetch_add(millis(by), Ordering::Relaxed);
        }
    }

    /// Milliseconds since the Unix epoch, as stored in tables.
    #[must_use]
    pub fn millis(&self) -> i64 {
        let now = match &self.0 {
            Some(mock) => mock.load(Ordering::Relaxed),
            None => millis(system_time()),
        };
        i64::try_from(now).unwrap_or(i64::MAX)
    }

    /// The time as events carry it.
    #[must_use]
    pub fn now(&self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(UInt::try_from(self.millis()).unwrap_or_default())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is the Clock")]
fn system_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mock_clock_moves_only_by_hand() {
        let clock = Clock::mock(1_000);

        clock.advance(Duration::from_secs(2));

        assert_eq!(clock.millis(), 3_000);
    }
}
