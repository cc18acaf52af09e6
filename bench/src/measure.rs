//! What a scenario found out.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::process::Usage;

/// What one server did in all scenarios.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Run {
    /// What the server is called in tables.
    pub(crate) server: String,
    /// What else a reader should know, such as versions.
    pub(crate) notes: BTreeMap<String, String>,
    /// The machine.
    pub(crate) machine: BTreeMap<String, String>,
    /// What each scenario found out, in their order.
    pub(crate) outcomes: Vec<Outcome>,
}

/// What one scenario found out about one server.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Outcome {
    /// The scenario with its sizes.
    pub(crate) scenario: String,
    /// What is counted.
    pub(crate) unit: String,
    /// How many of them there were.
    pub(crate) operations: u32,
    /// How long they took together.
    pub(crate) seconds: f64,
    /// How many there were in a second.
    pub(crate) rate: f64,
    /// How long single ones took.
    pub(crate) latency: Latency,
    /// Requests that failed.
    pub(crate) errors: u32,
    /// The first of the failures.
    pub(crate) first_error: Option<String>,
    /// Long polls that waited on while a message was there; absent where nobody polls.
    pub(crate) missed_wakeups: Option<u32>,
    /// Whatever else the scenario counts.
    pub(crate) figures: BTreeMap<String, f64>,
    /// What the processes that were named spent.
    pub(crate) processes: BTreeMap<String, Usage>,
    /// How much the database grew, in bytes.
    pub(crate) database_growth: Option<i64>,
}

impl Outcome {
    /// Notes how much was done, in what time, and how long the single ones took.
    pub(crate) fn count(&mut self, operations: usize, took: Duration, latencies: Vec<Duration>) {
        self.operations = u32::try_from(operations).unwrap_or(u32::MAX);
        self.seconds = took.as_secs_f64();
        self.rate = f64::from(self.operations) / self.seconds.max(1e-9);
        self.latency = Latency::of(latencies);
    }

    /// The processor time for one operation in milliseconds, of all processes that were named.
    pub(crate) fn cpu_ms(&self) -> Option<f64> {
        if self.processes.is_empty() || self.operations == 0 {
            return None;
        }
        let seconds: f64 = self.processes.values().map(|usage| usage.cpu_seconds).sum();
        Some(seconds * 1000.0 / f64::from(self.operations))
    }
}

/// How long single operations took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// Half of them took at most this.
    pub(crate) p50: f64,
    /// 95 of 100 took at most this.
    pub(crate) p95: f64,
    /// 99 of 100 took at most this.
    pub(crate) p99: f64,
    /// The slowest.
    pub(crate) max: f64,
}

impl Latency {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |percent: usize| {
            let rank = (all.len() * percent).div_ceil(100).max(1) - 1;
            all.get(rank)
                .map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
        };
        Self {
            p50: at(50),
            p95: at(95),
            p99: at(99),
            max: at(100),
        }
    }
}

/// Failures as they are collected.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// How many there were.
    pub(crate) count: u32,
    /// The first.
    pub(crate) first: Option<String>,
}

impl Failures {
    /// Takes note of a failure.
    pub(crate) fn note(&mut self, error: &dyn std::error::Error) {
        self.count += 1;
        self.first.get_or_insert_with(|| describe(error));
    }

    /// Adds those of another task.
    pub(crate) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}

/// `error` with all its causes, on one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let latency = Latency::of((1..=200).rev().map(Duration::from_millis).collect());

        assert_eq!(
            latency,
            Latency {
                p50: 100.0,
                p95: 190.0,
                p99: 198.0,
                max: 200.0
            }
        );
    }

    #[test]
    fn no_operation_has_no_latency() {
        assert_eq!(Latency::of(Vec::new()), Latency::default());
    }
}
