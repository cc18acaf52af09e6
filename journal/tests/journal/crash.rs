//! `kill -9` of `PostgreSQL` in the middle of batches.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hearth_core::{EventNid, UserNid, config};
use hearth_store::Database;
use ruma::{OwnedUserId, UserId, server_name};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::PgPool;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::scene::{LIMIT, Process, new_room, of_room, timeline, transaction};

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        // Where the account `postgres` can enter, and short enough for a socket.
        let folder = format!("/tmp/hearth-journal-{}", std::process::id());
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder.into())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Kills the server in `data_dir` with all its processes, like a crash of the machine does.
fn crash(data_dir: &Path) {
    let file = data_dir.join("postgres/cluster/postmaster.pid");
    let text = fs::read_to_string(file).unwrap();
    let postmaster: i32 = text.lines().next().unwrap().parse().unwrap();
    let mut pids = vec![postmaster];
    let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
    pids.extend(
        children
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|pid| pid.parse::<i32>().ok()),
    );
    for pid in pids {
        let pid = Pid::from_raw(pid).expect("a process id is not zero");
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// What was acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// Each sender's events in order.
    events: Vec<EventNid>,
    users: HashMap<OwnedUserId, UserNid>,
}

/// Sends messages and names new users until `stop`; keeps what was acknowledged.
async fn work(
    process: Arc<Process>,
    pool: PgPool,
    sender: usize,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> (hearth_core::RoomNid, Acknowledged) {
    let room = new_room(&pool).await;
    let mut got = Acknowledged::default();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let id = UserId::parse(format!("@u{sender}-{number}:example.org")).unwrap();
        if let Ok(nid) = process.interner.user(&id).await {
            got.users.insert(id, nid);
        }
        let Ok(nid) = process.blocks.event().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let mut write = crate::scene::after(
            got.events.last().map_or(&[][..], std::slice::from_ref),
            crate::scene::event(room, nid),
        );
        write.transaction = Some(transaction(&number.to_string()));
        if process.journal.submit(of_room(write)).await.is_ok() {
            got.events.push(nid);
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    (room, got)
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_postgresql_loses_nothing_acknowledged_and_mixes_up_no_number() {
    let folder = Folder::new();
    let data_dir = folder.0.join("data");
    fs::create_dir_all(&data_dir).unwrap();
    let config = config::Database::default();
    let database = Database::open(&config, &data_dir, server_name!("example.org"))
        .await
        .unwrap();
    let pool = database.pool().clone();
    let process = Arc::new(Process::start(&pool).await);
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for sender in 0..8 {
        workers.spawn(work(
            Arc::clone(&process),
            pool.clone(),
            sender,
            Arc::clone(&stop),
            Arc::clone(&done),
        ));
    }

    for round in 1..=3 {
        until(&done, round * 150).await;
        crash(&data_dir);
        let before = done.load(Ordering::Relaxed);
        until(&done, before + 50).await;
    }
    stop.store(true, Ordering::Relaxed);
    let all = timeout(LIMIT, workers.join_all()).await.unwrap();

    let mut numbers = HashSet::new();
    for (room, got) in all {
        let stored = timeline(&pool, room).await;
        let unique: HashSet<_> = stored.iter().collect();
        assert_eq!(unique.len(), stored.len());
        let missing: Vec<_> = got
            .events
            .iter()
            .filter(|nid| !unique.contains(nid))
            .collect();
        assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
        for (id, nid) in got.users {
            assert!(numbers.insert(nid), "{nid} was given twice");
            let stored: Option<String> =
                sqlx::query_scalar("SELECT user_id FROM user_id WHERE nid = $1")
                    .bind(nid)
                    .fetch_optional(&pool)
                    .await
                    .unwrap();
            assert_eq!(stored.as_deref(), Some(id.as_str()));
        }
    }
    let holes: i64 =
        sqlx::query_scalar("SELECT h.position - (SELECT count(*) FROM log) FROM log_head h")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(holes, 0);
    let process = Arc::into_inner(process).expect("the workers are done");
    process.end().await;
    database.close().await;
}

async fn until(done: &AtomicU64, count: u64) {
    timeout(LIMIT, async {
        while done.load(Ordering::Relaxed) < count {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("writes go on");
}
