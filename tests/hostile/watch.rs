//! What a server takes up while something happens.

use std::{path::PathBuf, time::Duration};

use super::process::Hearth;

/// How often it is looked.
const STEP: Duration = Duration::from_millis(10);

/// What a process takes up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Resident memory, in bytes.
    pub(crate) memory: usize,
    /// How many sockets are open.
    pub(crate) sockets: usize,
}

impl Usage {
    /// What a server takes up now.
    pub(crate) fn of(hearth: &Hearth) -> Self {
        let number = hearth.process().as_raw_nonzero();
        let process = PathBuf::from(format!("/proc/{number}"));
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|line| line.split_whitespace().next());
        let files = std::fs::read_dir(process.join("fd")).unwrap();
        let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        Self {
            memory: resident.unwrap().parse::<usize>().unwrap() * 1024,
            sockets: targets
                .filter(|target| target.to_string_lossy().starts_with("socket:"))
                .count(),
        }
    }

    /// The larger one of each.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            memory: self.memory.max(other.memory),
            sockets: self.sockets.max(other.sockets),
        }
    }
}

/// Waits for `happening`; gives the most that the server took up meanwhile, too.
pub(crate) async fn watch<T>(hearth: &Hearth, happening: impl Future<Output = T>) -> (T, Usage) {
    let mut happening = std::pin::pin!(happening);
    let mut steps = tokio::time::interval(STEP);
    let mut most = Usage::default();
    loop {
        tokio::select! {
            output = &mut happening => return (output, most.max(Usage::of(hearth))),
            _ = steps.tick() => most = most.max(Usage::of(hearth)),
        }
    }
}
