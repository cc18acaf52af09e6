//! Where the private cluster lies.

use std::{
    fs::{self, DirBuilder},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

use tracing::info;

use super::{Account, ClusterError};

/// Where clusters go that their account could not reach under the data folder.
const ELSEWHERE: &str = "/var/lib/hearth";

/// The longest path of a socket that all systems take (macOS: 104 bytes with the final zero).
const LONGEST_SOCKET: usize = 103;

/// The port that names the socket. Nothing listens on it.
pub(super) const PORT: u16 = 5432;

/// The folder of the cluster and the account that owns it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The folder, an absolute path without symbolic links. Its mode is 0700.
    pub(super) base: PathBuf,
    /// The owner of everything in it.
    pub(super) account: Account,
}

impl Place {
    /// Finds or makes the folder `postgres` in `data_dir`.
    pub(super) async fn prepare(data_dir: &Path) -> Result<Self, ClusterError> {
        fs::create_dir_all(data_dir).map_err(|e| ClusterError::files(data_dir, e))?;
        let data_dir = fs::canonicalize(data_dir).map_err(|e| ClusterError::files(data_dir, e))?;
        let link = data_dir.join("postgres");
        if fs::symlink_metadata(&link).is_err() {
            create(&data_dir, &link).await?;
        }

        let base = fs::canonicalize(&link).map_err(|e| ClusterError::files(&link, e))?;
        let account = adopt(&base)?;
        if !account.can_enter(&base).await {
            return Err(ClusterError::Unreachable { base });
        }
        account
            .run("umask 077; mkdir -p \"$0\"", &base.join("run"))
            .await?;
        Ok(Self { base, account })
    }

    /// The cluster itself, `PGDATA`.
    pub(super) fn cluster(&self) -> PathBuf {
        self.base.join("cluster")
    }

    /// What `PostgreSQL` says.
    pub(super) fn log(&self) -> PathBuf {
        self.base.join("log")
    }

    /// A folder for the socket that no other account can enter.
    ///
    /// It is `run` in the cluster's folder. Where that path is too long for a socket, or has
    /// characters that the configuration of `PostgreSQL` does not take, it is a folder in `/run` or
    /// `/tmp` that is named after the path.
    pub(super) fn socket_folder(&self) -> Result<PathBuf, ClusterError> {
        let usual = self.base.join("run");
        if is_fit(&usual) {
            return Ok(usual);
        }
        let name = format!("hearth-{:016x}", fingerprint(&self.base));
        let mut last = io::Error::from(ErrorKind::NotFound);
        for parent in ["/run", "/tmp"] {
            let folder = Path::new(parent).join(&name);
            if let Err(error) = make_private(&folder, self.account) {
                last = error;
            }
            if self.account.is_private(&folder) {
                return Ok(folder);
            }
        }
        Err(ClusterError::files(&Path::new("/tmp").join(name), last))
    }
}

/// Makes the folder of a new cluster at `link`, or elsewhere and a symbolic link to it.
async fn create(data_dir: &Path, link: &Path) -> Result<(), ClusterError> {
    let account = Account::for_new_cluster()?;
    let made = if account.can_enter(data_dir).await {
        make_private(link, account)
    } else {
        let folder = create_elsewhere(link, account)?;
        info!(
            "the account of PostgreSQL cannot enter {}, so the database lies in {}",
            data_dir.display(),
            folder.display()
        );
        symlink(folder, link)
    };
    match made {
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|e| ClusterError::files(link, e)),
    }
}

/// Makes a folder that never was another cluster's, so that a new data folder starts empty.
fn create_elsewhere(link: &Path, account: Account) -> Result<PathBuf, ClusterError> {
    let parent = Path::new(ELSEWHERE);
    fs::create_dir_all(parent).map_err(|e| ClusterError::files(parent, e))?;
    let mut number = 0_u32;
    loop {
        let folder = parent.join(format!("postgres-{:016x}-{number}", fingerprint(link)));
        match make_private(&folder, account) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(ClusterError::files(&folder, error)),
        }
    }
}

/// Tells whose the folder is, and takes over an empty one of root.
fn adopt(base: &Path) -> Result<Account, ClusterError> {
    let metadata = fs::metadata(base).map_err(|e| ClusterError::files(base, e))?;
    let is_empty = || fs::read_dir(base).is_ok_and(|mut entries| entries.next().is_none());
    if metadata.uid() == 0 && rustix::process::geteuid().is_root() && is_empty() {
        let account = Account::for_new_cluster()?;
        account
            .take(base)
            .map_err(|e| ClusterError::files(base, e))?;
        return Ok(account);
    }
    Account::owner_of(base)
}

fn make_private(folder: &Path, account: Account) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)?;
    account.take(folder)
}

/// Whether `folder` can hold the socket.
fn is_fit(folder: &Path) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"/._-".contains(&c);
    let socket = folder.join(format!(".s.PGSQL.{PORT}"));
    let path = socket.as_os_str().as_encoded_bytes();
    path.len() <= LONGEST_SOCKET && path.iter().copied().all(plain)
}

/// A number for a path that is the same in every build (FNV-1a).
fn fingerprint(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
