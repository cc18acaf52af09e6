//! The system account that `PostgreSQL` runs as.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, lchown},
    path::Path,
    process::{Output, Stdio},
};

use tokio::{io::AsyncWriteExt as _, process::Command};

use super::ClusterError;

/// Accounts that packages of `PostgreSQL` make, in order of preference.
const NAMES: [&str; 2] = ["postgres", "_postgres"];

/// Variables of Hearth's environment that its `PostgreSQL` sees too.
const INHERITED: [&str; 4] = ["PATH", "LD_LIBRARY_PATH", "TZ", "TMPDIR"];

/// Who owns the cluster and runs its processes.
///
/// `PostgreSQL` refuses to run as root, so Hearth as root becomes another account for everything
/// that touches the cluster's files. It never writes there as root: whoever controls that account
/// could otherwise lead root's writes elsewhere with a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
    switch: bool,
}

impl Account {
    /// The account for a new cluster.
    pub(super) fn for_new_cluster() -> Result<Self, ClusterError> {
        let uid = rustix::process::geteuid().as_raw();
        if uid != 0 {
            let gid = rustix::process::getegid().as_raw();
            return Ok(Self {
                uid,
                gid,
                switch: false,
            });
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let (uid, gid) = NAMES
            .iter()
            .find_map(|name| find_user(&passwd, name))
            .ok_or(ClusterError::NoAccount)?;
        Ok(Self {
            uid,
            gid,
            switch: true,
        })
    }

    /// The account that owns the folder `base` of an existing cluster.
    pub(super) fn owner_of(base: &Path) -> Result<Self, ClusterError> {
        let metadata = fs::metadata(base).map_err(|e| ClusterError::files(base, e))?;
        let me = rustix::process::geteuid().as_raw();
        let (uid, gid) = (metadata.uid(), metadata.gid());
        if uid == 0 || (me != 0 && me != uid) {
            return Err(ClusterError::Owner {
                base: base.to_owned(),
                uid,
                me,
            });
        }
        Ok(Self {
            uid,
            gid,
            switch: me == 0,
        })
    }

    /// Gives `path` to this account.
    pub(super) fn take(self, path: &Path) -> io::Result<()> {
        if self.switch {
            lchown(path, Some(self.uid), Some(self.gid))?;
        }
        Ok(())
    }

    /// Whether `path` is a folder of this account that nobody else can enter.
    pub(super) fn is_private(self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|metadata| {
            metadata.is_dir() && metadata.uid() == self.uid && metadata.mode() & 0o777 == 0o700
        })
    }

    /// Prepares `program` to run as this account, in a process group of its own, so that Ctrl-C at
    /// Hearth's terminal does not reach it.
    pub(super) fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir("/")
            .env_clear()
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .process_group(0);
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Prepares a line for the shell to run as this account; `$0`, `$1`, … are `arguments`.
    pub(super) fn shell(self, line: &str, arguments: &[&Path]) -> Command {
        let mut command = self.command(Path::new("/bin/sh"));
        command.arg("-c").arg(line).args(arguments);
        command
    }

    /// Whether this account can enter `folder`, all folders above it included.
    pub(super) async fn can_enter(self, folder: &Path) -> bool {
        let entered = self.shell(":", &[]).current_dir(folder).output().await;
        entered.is_ok_and(|output| output.status.success())
    }

    /// Writes `text` to `path`.
    pub(super) async fn write(self, path: &Path, text: &str) -> Result<(), ClusterError> {
        self.pipe("umask 077; cat >\"$0\"", path, text).await
    }

    /// Appends `text` to `path`.
    pub(super) async fn append(self, path: &Path, text: &str) -> Result<(), ClusterError> {
        self.pipe("cat >>\"$0\"", path, text).await
    }

    async fn pipe(self, line: &str, path: &Path, text: &str) -> Result<(), ClusterError> {
        let run = async {
            let mut child = self
                .shell(line, &[path])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let mut stdin = child.stdin.take().expect("stdin is piped");
            stdin.write_all(text.as_bytes()).await?;
            drop(stdin);
            child.wait_with_output().await
        };
        succeed(run.await).map_err(|error| ClusterError::files(path, error))
    }

    /// Runs a line for the shell that concerns `path` (`$0`).
    pub(super) async fn run(self, line: &str, path: &Path) -> Result<(), ClusterError> {
        let output = self.shell(line, &[path]).output().await;
        succeed(output).map_err(|error| ClusterError::files(path, error))
    }
}

/// Turns the failure of a program into an error that carries what it said.
pub(super) fn succeed(output: io::Result<Output>) -> io::Result<()> {
    let output = output?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(said.trim().to_owned()))
}

/// Reads the user and group number of `name` from the text of `/etc/passwd`.
fn find_user(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some((uid, gid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\npostgres2:x:7:8::/:\npostgres:x:101:104:P,,,:/:/bin/sh\n";

        assert_eq!(find_user(passwd, "postgres"), Some((101, 104)));
        assert_eq!(find_user(passwd, "nobody"), None);
        assert_eq!(find_user(passwd, "root"), None);
    }
}
