//! Announcements between processes through a real Redis.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use hearth_core::config::{self, Secret};
use hearth_journal::{Journal, Origin};
use hearth_store::MIGRATOR;
use sqlx::PgPool;
use tokio::time::{Instant, sleep, timeout};

use crate::scene::{LIMIT, Process, to_device};

/// A Redis of the test's own.
struct Redis {
    folder: PathBuf,
    child: Option<Child>,
}

impl Redis {
    async fn start(name: &str) -> Self {
        let folder = format!("hearth-redis-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut redis = Self {
            folder,
            child: None,
        };
        redis.run().await;
        redis
    }

    async fn run(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(self.socket())
            .current_dir(&self.folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        let client = redis::Client::open(self.config().url.expose()).unwrap();
        timeout(LIMIT, async {
            while client.get_multiplexed_async_connection().await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("redis-server starts");
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    fn config(&self) -> config::Redis {
        let url = format!("redis+unix://{}", self.socket().display());
        config::Redis {
            url: Secret::new(url),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Lets `writer` write `rounds` times, each time when `reader` has heard of the last; gives how long it took.
async fn take_turns(writer: &Process, reader: &Journal, rounds: u32) -> Duration {
    let started = Instant::now();
    for _ in 0..rounds {
        let written = writer.write(to_device("a")).await.unwrap();
        timeout(LIMIT, reader.wait_for(written.last)).await.unwrap();
    }
    started.elapsed()
}

/// Waits until announcements come faster than a look at the log once a second can bring them.
async fn until_fast(writer: &Process, reader: &Journal) {
    timeout(LIMIT, async {
        while take_turns(writer, reader, 10).await > Duration::from_secs(5) {}
    })
    .await
    .expect("announcements come through Redis");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn processes_hear_of_each_other_through_redis(pool: PgPool) {
    let redis = Redis::start("fan-out").await;
    let config = redis.config();
    let one = Process::start_with(&pool, Some(&config)).await;
    let other = Process::start_with(&pool, Some(&config)).await;

    until_fast(&one, &other.journal).await;
    until_fast(&other, &one.journal).await;

    let mut announcements = other.journal.subscribe();
    let written = one.write(to_device("a")).await.unwrap();
    let heard = timeout(LIMIT, announcements.recv()).await.unwrap().unwrap();
    assert_eq!(heard.origin, Origin::Remote);
    assert_eq!((heard.head, heard.entries.len()), (written.last, 1));
    one.end().await;
    other.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn with_redis_gone_processes_hear_of_each_other_later(pool: PgPool) {
    let mut redis = Redis::start("gone").await;
    let config = redis.config();
    let one = Process::start_with(&pool, Some(&config)).await;
    let other = Process::start_with(&pool, Some(&config)).await;
    until_fast(&one, &other.journal).await;
    let mut announcements = other.journal.subscribe();

    redis.kill();
    let from = other.journal.head();
    take_turns(&one, &other.journal, 3).await;
    redis.run().await;
    until_fast(&one, &other.journal).await;

    let mut head = from;
    while let Ok(next) = announcements.try_recv() {
        assert_eq!(next.previous, head);
        head = next.head;
    }
    assert_eq!(head, other.journal.head());
    one.end().await;
    other.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_process_starts_and_writes_without_redis(pool: PgPool) {
    let nowhere = config::Redis {
        url: Secret::new("redis+unix:///nowhere/socket".to_owned()),
    };
    let process = Process::start_with(&pool, Some(&nowhere)).await;

    let written = process.write(to_device("a")).await.unwrap();

    assert_eq!(written.last.0, 1);
    process.end().await;
}
