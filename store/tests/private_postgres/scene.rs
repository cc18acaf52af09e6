//! A data folder, the processes that use it, and the `PostgreSQL` in it.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

/// How long anything in these tests may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// An account that every system has and that is not root (`nobody`).
const ORDINARY: u32 = 65534;

/// A folder that goes away with the test, and the server that still runs in it too.
pub(crate) struct Scene {
    root: PathBuf,
    program: PathBuf,
    /// The data folder. It does not exist yet.
    pub(crate) data_dir: PathBuf,
}

impl Scene {
    /// A fresh data folder `below` a folder that all accounts can enter.
    pub(crate) fn new(name: &str, below: &str) -> Self {
        let root = PathBuf::from("/tmp").join(format!("hearth-{}-{name}", std::process::id()));
        let data_dir = root.join(below).join("data");
        fs::create_dir_all(root.join(below)).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        // The build folder may be one that other accounts cannot enter.
        let program = root.join("open_database");
        // Copied by another process: a file that this one has open to write could not be run while another test forks.
        let copied = Command::new("cp").arg(example()).arg(&program).status();
        assert!(
            copied.unwrap().success(),
            "`cargo test` builds the examples"
        );
        Self {
            root,
            program,
            data_dir,
        }
    }

    /// Opens the database in a process of its own and waits until it is open.
    pub(crate) fn open(&self) -> Process {
        self.open_with(|_| ()).unwrap()
    }

    /// Opens the database as an account that is not root. The data folder is the account's.
    pub(crate) fn open_as_ordinary_user(&self) -> Result<Process, String> {
        if geteuid().is_root() {
            fs::create_dir_all(&self.data_dir).unwrap();
            chown(&self.data_dir, Some(ORDINARY), Some(ORDINARY)).unwrap();
        }
        self.open_with(|command| {
            if geteuid().is_root() {
                command.uid(ORDINARY).gid(ORDINARY);
            }
        })
    }

    /// Opens the database and returns what the process says when it cannot.
    pub(crate) fn open_with(&self, change: impl Fn(&mut Command)) -> Result<Process, String> {
        let mut command = self.command();
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        if line == "open\n" {
            return Ok(Process(child));
        }
        let mut said = String::new();
        let mut errors = child.stderr.take().unwrap();
        errors.read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        Err(said)
    }

    /// Starts a process that opens the database and does not wait for it.
    pub(crate) fn begin(&self) -> Child {
        self.command().spawn().unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(&self.data_dir)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The folder of the cluster.
    pub(crate) fn base(&self) -> PathBuf {
        self.data_dir.join("postgres")
    }

    /// The lines of `postmaster.pid`.
    pub(crate) fn postmaster_file(&self) -> Option<Vec<String>> {
        let text = fs::read_to_string(self.base().join("cluster/postmaster.pid")).ok()?;
        Some(text.lines().map(str::to_owned).collect())
    }

    /// The process of the server, which must run.
    pub(crate) fn postmaster(&self) -> Pid {
        self.running().expect("the server runs")
    }

    /// The process of the server, if it runs.
    pub(crate) fn running(&self) -> Option<Pid> {
        let lines = self.postmaster_file()?;
        let pid = Pid::from_raw(lines.first()?.parse().ok()?)?;
        works_in(pid, &self.base()).then_some(pid)
    }

    /// Connects to the server past Hearth.
    pub(crate) async fn connect(&self) -> sqlx::Result<PgConnection> {
        let socket = self.postmaster_file().expect("the server runs")[4].clone();
        PgConnectOptions::new_without_pgpass()
            .socket(socket)
            .username("hearth")
            .database("hearth")
            .connect()
            .await
    }

    /// The account that the cluster must belong to when Hearth runs as the account of the tests.
    pub(crate) fn expected_owner() -> u32 {
        let me = geteuid();
        if !me.is_root() {
            return me.as_raw();
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let line = passwd.lines().find(|line| line.starts_with("postgres:"));
        line.and_then(|line| line.split(':').nth(2)?.parse().ok())
            .expect("the account postgres exists")
    }

    /// The account for [`Scene::open_as_ordinary_user`].
    pub(crate) fn ordinary_user() -> u32 {
        let me = geteuid();
        if me.is_root() { ORDINARY } else { me.as_raw() }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(pid) = self.running() {
            let _ = kill_process(pid, Signal::QUIT);
            wait_until("the server has stopped", || self.running().is_none());
        }
        if let Ok(elsewhere) = fs::read_link(self.base())
            && elsewhere.starts_with("/var/lib/hearth")
        {
            let _ = fs::remove_dir_all(elsewhere);
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// A process that has the database open.
pub(crate) struct Process(Child);

impl Process {
    /// Lets it close the database and end.
    pub(crate) fn close(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Its number, which is that of its process group.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(mut self) {
        self.0.wait().unwrap();
    }
}

/// Waits for a condition, and fails after [`LIMIT`].
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "waited in vain until {what}");
        sleep(Duration::from_millis(10));
    }
}

/// Kills the server as `kill -9` does.
pub(crate) fn kill_hard(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
}

/// The owner and the permission bits of `path`.
pub(crate) fn owner_and_mode(path: &Path) -> (u32, u32) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.uid(), metadata.mode() & 0o777)
}

fn works_in(pid: Pid, base: &Path) -> bool {
    let cwd = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_pid()));
    cwd.is_ok_and(|cwd| fs::canonicalize(base.join("cluster")).is_ok_and(|path| path == cwd))
}

/// The program of `examples/open_database.rs`, beside this test in the build folder.
fn example() -> PathBuf {
    let me = env::current_exe().unwrap();
    let build = me.parent().and_then(Path::parent).unwrap();
    build.join("examples/open_database")
}
