//! The binary `hearth`, running.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{ConnectOptions as _, PgPool};
use tempfile::TempDir;

/// How long anything in these tests may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// A folder with a configuration.
pub(crate) struct Scene {
    folder: TempDir,
}

impl Scene {
    /// A configuration with the database of `pool`, a port that the system chooses, and `more`.
    pub(crate) fn new(pool: Option<&PgPool>, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = match pool {
            Some(pool) => pool.connect_options().to_url_lossy().to_string(),
            None => "postgres://nobody@127.0.0.1:1/nothing".to_owned(),
        };
        let scene = Self { folder };
        scene.configure(&format!(
            "data_dir = {:?}\n[database]\nurl = {database:?}\n[[listen]]\nbind = \"127.0.0.1:0\"\n{more}",
            scene.path("data"),
        ));
        scene
    }

    /// A file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the configuration.
    pub(crate) fn configure(&self, text: &str) {
        fs::write(self.path("hearth.toml"), text).unwrap();
    }

    /// What the configuration is.
    pub(crate) fn configuration(&self) -> String {
        fs::read_to_string(self.path("hearth.toml")).unwrap()
    }

    /// Runs `hearth` to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        command(self.folder.path())
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Starts `hearth serve`, and waits until it answers.
    pub(crate) fn serve(&self) -> Running {
        let mut child = command(self.folder.path())
            .arg("serve")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = lines_of(child.stderr.take().unwrap());
        let mut greeting = BufReader::new(child.stdout.take().unwrap());
        let address = read_address(&mut greeting);
        Running {
            child,
            log,
            address,
            _greeting: greeting,
        }
    }
}

/// The binary in `folder`, without the settings of whoever runs the tests.
fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEARTH_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).stdin(Stdio::null());
    command
}

fn read_address(greeting: &mut BufReader<ChildStdout>) -> String {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        assert!(
            greeting.read_line(&mut line).unwrap() > 0,
            "no greeting: {text}"
        );
        if let Some(address) = line.strip_prefix("    127.0.0.1:") {
            return format!("127.0.0.1:{}", address.trim());
        }
        text.push_str(&line);
    }
}

fn lines_of(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// `hearth serve`, until it is dropped.
pub(crate) struct Running {
    child: Child,
    log: Receiver<String>,
    /// Where it listens.
    pub(crate) address: String,
    _greeting: BufReader<ChildStdout>,
}

impl Running {
    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for a line of the log with `words`.
    pub(crate) fn wait_for_log(&self, words: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self
                .log
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(words) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("the log does not say {words:?}");
                }
            }
        }
    }

    /// Waits for the end, and returns whether it was a success and how long it took.
    pub(crate) fn wait(mut self) -> (bool, Duration) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.success(), start.elapsed());
            }
            assert!(start.elapsed() < LIMIT, "the server does not end");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes a request and returns status and body.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        use std::io::Write as _;

        let mut stream = std::net::TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
