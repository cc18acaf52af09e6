//! What is known of gateways, so that one that is dead stands in nobody's way.
//!
//! Requests wait for two turns: one at the gateway, and one among those of its kind. Gateways that answered lately have
//! turns of their own, which no unknown or dead one takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many requests one gateway gets at once.
const AT_ONE: usize = 32;

/// How many requests are under way at once, to gateways that answered lately, and to others.
const ANSWERING: usize = 512;
const OTHERS: usize = 64;

/// How many gateways are remembered, and how long after they were last used.
const CACHED: u64 = 10_000;
const REMEMBERED: Duration = Duration::from_hours(1);

/// How long a gateway that cannot be reached gets no requests, in milliseconds.
const QUIET: i64 = 5_000;

/// What is known of gateways.
#[derive(Debug)]
pub(super) struct Known {
    gateways: Cache<String, Arc<Gateway>>,
    answering: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

/// A gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    turns: Arc<Semaphore>,
    answers: AtomicBool,
    /// Until then it gets no requests.
    quiet_until: AtomicI64,
}

/// The turns of one request, until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _at_gateway: OwnedSemaphorePermit,
    _among_all: OwnedSemaphorePermit,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            gateways: Cache::builder()
                .max_capacity(CACHED)
                .time_to_idle(REMEMBERED)
                .build(),
            answering: Arc::new(Semaphore::new(ANSWERING)),
            others: Arc::new(Semaphore::new(OTHERS)),
        }
    }
}

impl Known {
    /// The gateway at `url`.
    pub(super) fn at(&self, url: &str) -> Arc<Gateway> {
        let host = url.split('/').nth(2).unwrap_or_default();
        self.gateways.get_with_by_ref(host, || {
            Arc::new(Gateway {
                turns: Arc::new(Semaphore::new(AT_ONE)),
                answers: AtomicBool::new(false),
                quiet_until: AtomicI64::new(0),
            })
        })
    }

    /// Waits for the turns of a request.
    pub(super) async fn turn(&self, gateway: &Gateway) -> Turn {
        let at_gateway = Arc::clone(&gateway.turns).acquire_owned().await;
        let kind = match gateway.answers.load(Ordering::Acquire) {
            true => &self.answering,
            false => &self.others,
        };
        let among_all = Arc::clone(kind).acquire_owned().await;
        Turn {
            _at_gateway: at_gateway.expect("never closed"),
            _among_all: among_all.expect("never closed"),
        }
    }
}

impl Gateway {
    /// Whether it could not be reached a moment ago.
    pub(super) fn is_quiet(&self, now: i64) -> bool {
        self.quiet_until.load(Ordering::Acquire) > now
    }

    /// It answered, whatever it said.
    pub(super) fn answered(&self) {
        self.answers.store(true, Ordering::Release);
        self.quiet_until.store(0, Ordering::Release);
    }

    /// It could not be reached.
    pub(super) fn failed(&self, now: i64) {
        self.answers.store(false, Ordering::Release);
        self.quiet_until.store(now + QUIET, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dead_gateways_take_no_turns_of_those_that_answer() {
        let known = Known::default();
        let mut taken = Vec::new();
        for number in 0..OTHERS {
            let dead = known.at(&format!(
                "https://dead{number}.example/_matrix/push/v1/notify"
            ));
            taken.push(known.turn(&dead).await);
        }
        let answering = known.at("https://answering.example/_matrix/push/v1/notify");
        answering.answered();

        let turn = tokio::time::timeout(Duration::from_secs(5), known.turn(&answering)).await;

        assert!(turn.is_ok());
    }

    #[test]
    fn a_gateway_is_left_alone_for_a_moment() {
        let known = Known::default();
        known.at("https://a.example/x").failed(1_000);

        assert!(known.at("https://a.example/y").is_quiet(1_001));
        assert!(!known.at("https://a.example/x").is_quiet(1_000 + QUIET));
        assert!(!known.at("https://b.example/x").is_quiet(1_001));
    }
}
