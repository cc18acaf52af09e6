//! The machine that the bench runs on.

use std::{collections::BTreeMap, fs, thread};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets this process open as many connections as the system permits.
pub(crate) fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Without it, fewer polls can be opened, and those that fail are counted.
    let _ = setrlimit(Resource::Nofile, wanted);
}

/// What a reader of the figures should know of it.
pub(crate) fn describe() -> BTreeMap<String, String> {
    let value = |path: &str, key: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    let cores = thread::available_parallelism().ok();
    [
        ("cores", cores.map(|cores| cores.to_string())),
        ("processor", value("/proc/cpuinfo", "model name")),
        ("memory", value("/proc/meminfo", "MemTotal")),
        ("kernel", kernel.map(|kernel| kernel.trim().to_owned())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}
