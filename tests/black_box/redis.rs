//! A Redis of a test's own.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long it may take until it listens.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Redis at a socket; killed when dropped.
pub(crate) struct Redis {
    folder: PathBuf,
    child: Option<Child>,
}

impl Redis {
    /// Starts a Redis and waits until it listens.
    pub(crate) async fn start() -> Self {
        let mut redis = Self::absent();
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(redis.socket())
            .current_dir(&redis.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        redis.child = Some(child);
        let started = Instant::now();
        while std::os::unix::net::UnixStream::connect(redis.socket()).is_err() {
            assert!(started.elapsed() < PATIENCE, "Redis does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        redis
    }

    /// A place where a Redis should be and is not.
    pub(crate) fn absent() -> Self {
        let name = format!("hearth-redis-{:016x}", rand::random::<u64>());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self {
            folder,
            child: None,
        }
    }

    /// What processes have in their configuration.
    pub(crate) fn section(&self) -> String {
        let socket = self.socket();
        format!("[redis]\nurl = \"redis+unix://{}\"\n", socket.display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
