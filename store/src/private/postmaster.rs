//! The file `postmaster.pid` and the process that it names.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::place::PORT;

/// The main process of a cluster, as `postmaster.pid` describes it. It may be dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Postmaster {
    pid: Pid,
    cluster: PathBuf,
    /// The folder of its socket, once it has one.
    pub(super) socket: Option<PathBuf>,
}

impl Postmaster {
    /// Reads the file of `cluster`; none when it is missing or not complete.
    pub(super) fn find(cluster: &Path) -> Option<Self> {
        Self::read(&cluster.join("postmaster.pid"), cluster)
    }

    fn read(file: &Path, cluster: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        let (pid, socket) = parse(&text)?;
        Some(Self {
            pid: Pid::from_raw(pid)?,
            cluster: cluster.to_owned(),
            socket,
        })
    }

    /// Whether the process lives and is the one that the file means.
    ///
    /// The number may belong to another program by now (after a reboot, say), or to a dead process
    /// that nobody has waited for; where there is `/proc`, the working folder tells.
    pub(super) fn is_alive(&self) -> bool {
        if !has_proc() {
            return test_kill_process(self.pid).is_ok();
        }
        let process = proc(self.pid);
        works_in(&process, &self.cluster).unwrap_or_else(|| serves(&title(&process), &self.cluster))
    }

    /// Whether `PostgreSQL` would take this dead process for a living one.
    fn misleads(&self) -> bool {
        has_proc() && !self.is_alive() && proc(self.pid).exists()
    }

    /// Asks it to end all sessions and stop ("fast shutdown").
    pub(super) fn interrupt(&self) {
        if let Err(error) = kill_process(self.pid, Signal::INT) {
            tracing::warn!(%error, "cannot stop the private PostgreSQL");
        }
    }
}

/// The files that would keep a server of `cluster` from starting although the process that they name
/// is dead: its own, and the one beside its socket in `folder`.
pub(super) fn misleading_files(cluster: &Path, folder: &Path) -> Vec<PathBuf> {
    let socket = folder.join(format!(".s.PGSQL.{PORT}.lock"));
    let mut files = vec![cluster.join("postmaster.pid"), socket];
    files.retain(|file| Postmaster::read(file, cluster).is_some_and(|dead| dead.misleads()));
    files
}

/// Whether any process works in `cluster`: sessions outlive a killed main process for a moment, and
/// a new one must not be started over them.
pub(super) fn is_inhabited(cluster: &Path) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .any(|entry| {
            let process = entry.path();
            works_in(&process, cluster).unwrap_or_else(|| {
                let title = title(&process);
                serves(&title, cluster) || is_session(&title)
            })
        })
}

fn has_proc() -> bool {
    Path::new("/proc/self/cwd").exists()
}

fn proc(pid: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{}", pid.as_raw_pid()))
}

/// Whether a process works in `cluster`; none when that is not to be known.
///
/// In containers root may not look into the processes of other accounts. What they are called, everybody may know.
fn works_in(process: &Path, cluster: &Path) -> Option<bool> {
    match fs::read_link(process.join("cwd")) {
        Ok(cwd) => Some(cwd == cluster),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
        Err(_) => Some(false),
    }
}

/// The command line of a process; empty when it is dead.
fn title(process: &Path) -> Vec<u8> {
    fs::read(process.join("cmdline")).unwrap_or_default()
}

/// Whether this is the command line of the main process of `cluster`.
fn serves(title: &[u8], cluster: &Path) -> bool {
    let mut arguments = title.split(|byte| *byte == 0);
    arguments.any(|argument| argument == cluster.as_os_str().as_encoded_bytes())
}

/// Whether this is how a session of `PostgreSQL` calls itself, of whichever cluster.
fn is_session(title: &[u8]) -> bool {
    title.starts_with(b"postgres: ")
}

/// Reads the process number (line 1) and the folder of the socket (line 5).
fn parse(text: &str) -> Option<(i32, Option<PathBuf>)> {
    let mut lines = text.lines();
    // A single-user session writes its number negated.
    let pid = lines.next()?.trim().parse::<i32>().ok()?.checked_abs()?;
    let socket = lines.nth(3).map(str::trim).filter(|line| !line.is_empty());
    Some((pid, socket.map(PathBuf::from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_and_a_half_written_file_are_read() {
        let whole = "4711\n/d/cluster\n1700000000\n5432\n/d/run\n\n  123 45\nready   \n";

        assert_eq!(parse(whole), Some((4711, Some("/d/run".into()))));
        assert_eq!(parse("4711\n/d/cluster\n"), Some((4711, None)));
        assert_eq!(parse("-4711\n"), Some((4711, None)));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_command_line_tells_the_main_process_from_sessions() {
        let cluster = Path::new("/d/cluster");
        let main = b"/usr/lib/postgresql/15/bin/postgres\0-D\0/d/cluster\0";

        assert!(serves(main, cluster));
        assert!(!serves(main, Path::new("/d")));
        assert!(!serves(b"", cluster), "a dead process has no command line");
        assert!(is_session(b"postgres: hearth hearth [local] idle\0"));
        assert!(!is_session(main));
    }
}
