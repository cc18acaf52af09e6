//! What processes spend, read from `/proc`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// How often the memory is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// A process that is watched together with all that it started.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    name: String,
    pid: u32,
}

impl std::str::FromStr for Watched {
    type Err = BenchError;

    /// Reads `server=123`.
    fn from_str(text: &str) -> Result<Self, BenchError> {
        text.split_once('=')
            .and_then(|(name, pid)| {
                Some(Self {
                    name: name.to_owned(),
                    pid: pid.parse().ok()?,
                })
            })
            .ok_or_else(|| BenchError::Usage(format!("{text} is not of the form name=pid")))
    }
}

/// What a process and all that it started spent.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Usage {
    /// Seconds of processor time.
    pub(crate) cpu_seconds: f64,
    /// The most memory in bytes; what the processes share is counted once.
    pub(crate) peak_rss: u64,
    /// The memory at the beginning.
    pub(crate) rss_before: u64,
    /// The memory at the end.
    pub(crate) rss_after: u64,
}

/// A look at the processes from [`Watch::start`] to [`Watch::finish`].
#[derive(Debug)]
pub(crate) struct Watch {
    watched: Vec<Watched>,
    before: Vec<Sample>,
    stop: Arc<AtomicBool>,
    sampler: JoinHandle<Vec<u64>>,
}

impl Watch {
    /// Begins to look.
    pub(crate) fn start(watched: &[Watched]) -> Self {
        let watched = watched.to_vec();
        let stop = Arc::new(AtomicBool::new(false));
        let before = sample(&watched);
        // A thread of its own, so that reading /proc does not hold up a message.
        let sampler = {
            let (watched, stop) = (watched.clone(), Arc::clone(&stop));
            thread::spawn(move || peaks(&watched, &stop))
        };
        Self {
            watched,
            before,
            stop,
            sampler,
        }
    }

    /// Stops looking and gives what was spent, by name.
    pub(crate) fn finish(self) -> BTreeMap<String, Usage> {
        self.stop.store(true, Ordering::Relaxed);
        self.sampler.thread().unpark();
        let peaks = self.sampler.join().unwrap_or_default();
        let after = sample(&self.watched);
        let mut usage = BTreeMap::new();
        for (n, watched) in self.watched.into_iter().enumerate() {
            let (before, after) = (self.before[n], after[n]);
            let peak = peaks.get(n).copied().unwrap_or_default();
            usage.insert(
                watched.name,
                Usage {
                    cpu_seconds: seconds(after.ticks.saturating_sub(before.ticks)),
                    peak_rss: peak.max(before.rss).max(after.rss),
                    rss_before: before.rss,
                    rss_after: after.rss,
                },
            );
        }
        usage
    }
}

/// Processor time and memory of a tree of processes at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    ticks: u64,
    rss: u64,
}

fn peaks(watched: &[Watched], stop: &AtomicBool) -> Vec<u64> {
    let mut peaks = vec![0; watched.len()];
    while !stop.load(Ordering::Relaxed) {
        for (peak, sample) in peaks.iter_mut().zip(sample(watched)) {
            *peak = sample.rss.max(*peak);
        }
        thread::park_timeout(INTERVAL);
    }
    peaks
}

fn sample(watched: &[Watched]) -> Vec<Sample> {
    if watched.is_empty() {
        return Vec::new();
    }
    let all = processes();
    watched
        .iter()
        .map(|watched| sample_tree(&all, watched.pid))
        .collect()
}

/// What `/proc/<pid>/stat` says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stat {
    parent: u32,
    ticks: u64,
}

fn processes() -> HashMap<u32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse_stat(&text)?))
        })
        .collect()
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name before the last parenthesis may contain anything.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // User and system time, its own and that of the children that ended.
    let ticks = fields
        .get(11..15)?
        .iter()
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ticks,
    })
}

fn sample_tree(all: &HashMap<u32, Stat>, root: u32) -> Sample {
    let mut tree = HashSet::from([root]);
    loop {
        let size = tree.len();
        tree.extend(
            all.iter()
                .filter(|(_, stat)| tree.contains(&stat.parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if tree.len() == size {
            break;
        }
    }
    let (mut ticks, mut own, mut shared) = (0, 0, 0);
    for pid in tree {
        ticks += all.get(&pid).map_or(0, |stat| stat.ticks);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        own += kilobytes(&status, "RssAnon:");
        shared = shared.max(kilobytes(&status, "RssFile:") + kilobytes(&status, "RssShmem:"));
    }
    Sample {
        ticks,
        rss: (own + shared) * 1024,
    }
}

fn kilobytes(status: &str, key: &str) -> u64 {
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix(key)?
                .split_ascii_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or_default()
}

fn seconds(ticks: u64) -> f64 {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    (Duration::from_secs(ticks) / u32::try_from(per_second).unwrap_or(100)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_may_contain_anything() {
        let text = "7 (a) b (c)) S 3 7 7 0 -1 4 1 2 3 4 100 20 3 4 20 0 1 0 5 6 7";

        assert_eq!(
            parse_stat(text),
            Some(Stat {
                parent: 3,
                ticks: 127
            })
        );
    }

    #[test]
    fn a_process_has_memory_and_is_named() {
        let watched = [format!("me={}", std::process::id()).parse().unwrap()];

        let usage = Watch::start(&watched).finish();

        assert!(usage["me"].peak_rss > 100_000);
    }
}
