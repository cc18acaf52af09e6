//! The programs of `PostgreSQL` on this machine.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use super::{Account, ClusterError};

/// The oldest version that Hearth works with.
const OLDEST: u32 = 15;

/// Folders whose subfolders each hold one version, and the way from there to the programs.
const VERSIONED: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/local", "pgsql", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
];

/// One installed version.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    bin: PathBuf,
}

impl Installation {
    /// Finds the programs that run the cluster at `cluster`: those of the version that made it, or
    /// the newest ones when there is none yet.
    pub(super) async fn find(account: Account, cluster: &Path) -> Result<Self, ClusterError> {
        let mut found = BTreeMap::new();
        for bin in candidates() {
            if let Some(version) = version(account, &bin).await {
                found.entry(version).or_insert(bin);
            }
        }
        match fs::read_to_string(cluster.join("PG_VERSION")) {
            Ok(text) => {
                let bin = text.trim().parse().ok().and_then(|v: u32| found.remove(&v));
                let bin = bin.ok_or_else(|| ClusterError::VersionGone {
                    cluster: cluster.to_owned(),
                    version: text.trim().to_owned(),
                })?;
                Ok(Self { bin })
            }
            Err(_) => match found.pop_last() {
                Some((version, bin)) if version >= OLDEST => Ok(Self { bin }),
                newest => Err(ClusterError::NotInstalled {
                    found: newest.map_or_else(
                        || "none".to_owned(),
                        |(version, bin)| format!("version {version} in {}", bin.display()),
                    ),
                }),
            },
        }
    }

    /// The path of one of its programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

/// Folders that hold `postgres` and `initdb`, first those of `PATH`.
fn candidates() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .collect();
    for (parent, prefix, bin) in VERSIONED {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        folders.extend(
            entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
                .map(|entry| entry.path().join(bin)),
        );
    }
    folders.retain(|folder| folder.join("postgres").exists() && folder.join("initdb").exists());
    folders
}

/// Asks `postgres` in `bin` for its version; none when `account` cannot run it.
async fn version(account: Account, bin: &Path) -> Option<u32> {
    let postgres = bin.join("postgres");
    let output = account.command(&postgres).arg("--version").output().await;
    parse_version(&String::from_utf8(output.ok()?.stdout).ok()?)
}

/// Reads the major version from a line such as `postgres (PostgreSQL) 15.14 (Debian 15.14-0)`.
fn parse_version(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("(PostgreSQL) ")?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_packagings_are_read() {
        let of = parse_version;

        assert_eq!(of("postgres (PostgreSQL) 15.14 (Debian 15.14-0)"), Some(15));
        assert_eq!(of("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(of("postgres (PostgreSQL) 9.6.24"), Some(9));
        assert_eq!(of("pgbouncer 1.21"), None);
    }
}
