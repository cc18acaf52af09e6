//! Opening a database that the configuration names.

use std::{path::Path, time::Duration};

use hearth_core::config::{self, Secret};
use hearth_store::{Claim, Database, OccupyError, OpenError};
use ruma::server_name;
use sqlx::{ConnectOptions as _, PgPool, query_scalar};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[cfg(test)]
async fn open(url: String) -> Result<Database, OpenError> {
    let config = config::Database {
        url: Some(Secret::new(url)),
        ..config::Database::default()
    };
    Database::open(&config, Path::new("unused"), server_name!("example.org")).await
}

/// The address of the database of a test.
#[cfg(test)]
fn address(pool: &PgPool) -> String {
    pool.connect_options().to_url_lossy().to_string()
}

#[sqlx::test(migrations = false)]
async fn the_named_database_is_migrated_and_used(pool: PgPool) {
    let database = open(address(&pool)).await.unwrap();

    let name: String = query_scalar("SELECT current_setting('application_name')")
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(name, "hearth");
    let accounts: i64 = query_scalar("SELECT count(*) FROM account")
        .fetch_one(&mut database.connect_direct().await.unwrap())
        .await
        .unwrap();
    assert_eq!(accounts, 0);
    database.close().await;
}

#[sqlx::test(migrations = false)]
async fn nobody_waits_or_holds_a_lock_for_ever(pool: PgPool) {
    let database = open(address(&pool)).await.unwrap();

    let limits: Vec<String> = query_scalar(
        "SELECT setting FROM pg_settings WHERE name IN
             ('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout')
         ORDER BY name",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();

    // In milliseconds: an idle transaction ends before those who wait for its locks give up.
    assert_eq!(limits, ["10000", "15000", "30000"]);
    database.close().await;
}

#[tokio::test]
async fn a_malformed_address_is_not_repeated() {
    let error = open("secret word".to_owned()).await.unwrap_err();

    let text = error.to_string();
    assert!(text.starts_with("database.url is not an address"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[sqlx::test(migrations = false)]
async fn a_database_that_is_not_there_is_named_at_once(pool: PgPool) {
    let options = (*pool.connect_options()).clone().database("missing");
    let error = open(options.to_url_lossy().to_string()).await.unwrap_err();

    assert!(matches!(error, OpenError::Connect { .. }), "{error}");
}

#[sqlx::test(migrations = false)]
async fn who_wants_the_database_alone_shares_it_with_nobody(pool: PgPool) {
    let first = open(address(&pool)).await.unwrap();
    let second = open(address(&pool)).await.unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());

    let keeper = first.occupy(Claim::Alone).await.unwrap();
    assert!(keeper.occupancy().tenure().is_some());
    let keeping = tasks.spawn(keeper.run(stop.clone()));
    let refused = second.occupy(Claim::Shared).await.unwrap_err();
    assert!(matches!(refused, OccupyError::Occupied), "{refused}");

    stop.cancel();
    keeping.await.unwrap();
    let one = second.occupy(Claim::Shared).await.unwrap();
    let other = first.occupy(Claim::Shared).await.unwrap();
    assert_eq!(one.occupancy().tenure(), None);
    assert_eq!(other.occupancy().tenure(), None);
}

#[sqlx::test(migrations = false)]
async fn memory_is_not_believed_while_the_session_is_lost(pool: PgPool) {
    let database = open(address(&pool)).await.unwrap();
    let keeper = database.occupy(Claim::Alone).await.unwrap();
    let occupancy = keeper.occupancy();
    let before = occupancy.tenure().unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let keeping = tasks.spawn(keeper.run(stop.clone()));

    query_scalar::<_, bool>(
        "SELECT pg_terminate_backend(pid) FROM pg_locks
         WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .fetch_one(&pool)
    .await
    .unwrap();

    let renewed = async {
        loop {
            match occupancy.tenure() {
                Some(tenure) if tenure > before => return,
                Some(_) | None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), renewed)
        .await
        .expect("the lock is taken again");
    stop.cancel();
    keeping.await.unwrap();
}
