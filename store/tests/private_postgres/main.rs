//! The private `PostgreSQL`, with real processes.
//!
//! The tests run as root (in a container) or as an ordinary user; what is expected follows that.

#[cfg(test)]
mod scene;

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt as _, chown, symlink},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use hearth_core::config;
use hearth_store::Database;
use ruma::server_name;
use rustix::process::{Signal, geteuid, kill_process_group};
use sqlx::Connection as _;

use self::scene::{LIMIT, Scene, kill_hard, owner_and_mode};

#[tokio::test]
async fn a_first_start_makes_a_database_that_only_its_account_can_enter() {
    let scene = Scene::new("first", "");
    let owner = Scene::expected_owner();

    let process = scene.open();

    let base = scene.base();
    assert_eq!(owner_and_mode(&base), (owner, 0o700));
    assert_eq!(owner_and_mode(&base.join("run")), (owner, 0o700));
    let socket = base.join("run/.s.PGSQL.5432");
    assert_eq!(owner_and_mode(&socket), (owner, 0o700));
    let mut conn = scene.connect().await.unwrap();
    let (addresses, fsync, superuser): (String, String, String) = sqlx::query_as(
        "SELECT current_setting('listen_addresses'), current_setting('fsync'),
                current_setting('is_superuser')",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(addresses, "");
    assert_eq!(fsync, "on");
    assert_eq!(superuser, "off");
    conn.close().await.unwrap();
    process.close();
    assert_eq!(scene.postmaster_file(), None);
}

#[test]
fn an_ordinary_user_runs_the_database_as_itself() {
    let scene = Scene::new("ordinary", "");

    let process = scene.open_as_ordinary_user().unwrap();

    assert_eq!(
        owner_and_mode(&scene.base()),
        (Scene::ordinary_user(), 0o700)
    );
    process.close();
    assert_eq!(scene.postmaster_file(), None);
}

#[test]
fn a_folder_of_another_account_is_refused_with_a_sentence() {
    let scene = Scene::new("stranger", "");
    fs::create_dir_all(&scene.data_dir).unwrap();
    symlink("/etc", scene.base()).unwrap();

    let refused = scene.open_with(|_| ()).err().unwrap();

    let sentence = "the database in /etc belongs to the account with number 0";
    assert!(refused.contains(sentence), "{refused}");
    fs::remove_file(scene.base()).unwrap();
}

#[test]
fn a_database_of_a_version_that_is_gone_is_left_alone() {
    let scene = Scene::new("gone", "");
    let cluster = scene.base().join("cluster");
    fs::create_dir_all(&cluster).unwrap();
    fs::write(cluster.join("PG_VERSION"), "9\n").unwrap();
    if geteuid().is_root() {
        chown(scene.base(), Some(Scene::expected_owner()), None).unwrap();
    }

    let refused = scene.open_with(|_| ()).err().unwrap();

    let sentence = "was made by PostgreSQL 9, which is not installed";
    assert!(refused.contains(sentence), "{refused}");
}

#[test]
fn a_start_that_was_killed_at_any_moment_can_be_repeated() {
    let scene = Scene::new("killed", "");
    for milliseconds in [50, 200, 500, 800, 1100, 1400] {
        let mut process = scene.begin();
        sleep(Duration::from_millis(milliseconds));
        process.kill().unwrap();
        process.wait().unwrap();
    }

    scene.open().close();

    assert_eq!(scene.postmaster_file(), None);
    let left = fs::read_dir(scene.base()).unwrap().count();
    assert_eq!(left, ["cluster", "run", "log"].len());
}

#[test]
fn root_goes_elsewhere_when_the_account_cannot_enter_the_data_folder() {
    let scene = Scene::new("closed", "closed");
    let closed = scene.data_dir.parent().unwrap();
    fs::set_permissions(closed, fs::Permissions::from_mode(0o700)).unwrap();

    let process = scene.open();

    let owner = Scene::expected_owner();
    assert_eq!(owner_and_mode(&scene.base()), (owner, 0o700));
    let moved = fs::canonicalize(scene.base()).unwrap() != scene.base();
    assert_eq!(moved, geteuid().is_root());
    process.close();
    scene.open().close();
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_no_obstacle() {
    let scene = Scene::new("long", &"a long name ".repeat(12));

    let process = scene.open();

    let folder = scene.postmaster_file().unwrap().remove(4);
    let owner = Scene::expected_owner();
    assert_eq!(owner_and_mode(Path::new(&folder)), (owner, 0o700));
    assert!(!folder.contains("long"));
    process.close();
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_next_start_adopts_the_server_of_a_killed_process() {
    let scene = Scene::new("adopt", "");
    let process = scene.open();
    let server = scene.postmaster();
    process.kill();

    let process = scene.open();

    assert_eq!(scene.postmaster(), server);
    process.close();
    assert_eq!(scene.postmaster_file(), None);
}

#[tokio::test]
async fn the_next_start_recovers_a_server_that_was_killed_too() {
    let scene = Scene::new("recover", "");
    let process = scene.open();
    let server = scene.postmaster();
    let mut conn = scene.connect().await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept AS SELECT 1 AS one")
        .execute(&mut conn)
        .await
        .unwrap();
    process.kill();
    kill_hard(server);

    let process = scene.open();

    assert_ne!(scene.postmaster(), server);
    let mut conn = scene.connect().await.unwrap();
    let one: i32 = sqlx::query_scalar("SELECT one FROM kept")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(one, 1);
    process.close();
}

#[test]
fn a_stale_file_with_the_number_of_another_process_is_no_obstacle() {
    let scene = Scene::new("reused", "");
    let process = scene.open();
    let mut lines = scene.postmaster_file().unwrap();
    process.close();
    let mut sleeper = Command::new("sleep");
    sleeper.arg("600");
    if geteuid().is_root() {
        sleeper.uid(Scene::expected_owner());
    }
    let mut sleeper = sleeper.spawn().unwrap();
    lines[0] = sleeper.id().to_string();
    let file = scene.base().join("cluster/postmaster.pid");
    fs::write(&file, lines.join("\n") + "\n").unwrap();

    let process = scene.open();

    assert_ne!(scene.postmaster_file().unwrap()[0], lines[0]);
    process.close();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[test]
fn the_last_of_several_processes_stops_the_server() {
    let scene = Scene::new("several", "");
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| scene.open());
        let second = scope.spawn(|| scene.open());
        (first.join().unwrap(), second.join().unwrap())
    });
    let server = scene.postmaster();

    first.close();
    assert_eq!(scene.postmaster(), server);
    second.close();

    assert_eq!(scene.postmaster_file(), None);
}

/// As Ctrl-C in a terminal is; with SIGTERM, because background jobs of a shell ignore SIGINT.
#[test]
fn a_signal_to_the_process_group_does_not_reach_the_server() {
    let scene = Scene::new("interrupt", "");
    let process = scene.open();
    let server = scene.postmaster();

    kill_process_group(process.pid(), Signal::TERM).unwrap();
    process.wait();

    let process = scene.open();
    assert_eq!(scene.postmaster(), server);
    process.close();
}

#[test]
fn a_server_that_cannot_start_shows_its_log() {
    let scene = Scene::new("broken", "");
    scene.open().close();
    let settings = scene.base().join("cluster/operator.conf");
    fs::write(&settings, "nonsense = 1\n").unwrap();
    fs::set_permissions(&settings, fs::Permissions::from_mode(0o644)).unwrap();

    let refused = scene.open_with(|_| ()).err().unwrap();

    assert!(refused.contains("PostgreSQL did not start"), "{refused}");
    assert!(refused.contains("nonsense"), "{refused}");
}

#[tokio::test]
async fn a_server_that_dies_is_started_again_and_the_pool_finds_it() {
    let scene = Scene::new("revive", "");
    let config = config::Database::default();
    let name = server_name!("example.org");
    let database = Database::open(&config, &scene.data_dir, name)
        .await
        .unwrap();
    let server = scene.postmaster();

    kill_hard(server);

    // A session may answer once more before it notices that the server is dead.
    let start = Instant::now();
    loop {
        let answer = sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(database.pool());
        match answer.await {
            Ok(1) if scene.running().is_some_and(|pid| pid != server) => break,
            answer => assert!(start.elapsed() < LIMIT, "{answer:?}"),
        }
    }
    database.close().await;
    assert_eq!(scene.postmaster_file(), None);
}
