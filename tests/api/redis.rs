//! A Redis server that lives as long as a test.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use hearth_core::config::{self, Secret};
use tempfile::TempDir;

/// How long it may take to start.
const LIMIT: Duration = Duration::from_secs(20);

/// A server that listens on a socket in a folder of its own.
pub(crate) struct Redis {
    folder: TempDir,
    child: Child,
}

impl Redis {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(folder.path().join("socket"))
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let redis = Self { folder, child };
        let client = redis::Client::open(redis.config().url.expose()).unwrap();
        tokio::time::timeout(LIMIT, async {
            while client.get_multiplexed_async_connection().await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("redis-server starts");
        redis
    }

    /// How to reach it.
    pub(crate) fn config(&self) -> config::Redis {
        let socket = self.folder.path().join("socket");
        config::Redis {
            url: Secret::new(format!("redis+unix://{}", socket.display())),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
