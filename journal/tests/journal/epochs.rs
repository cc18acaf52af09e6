//! Another `PostgreSQL` than before: a fail-over, a restored copy.

use hearth_journal::WriteError;
use hearth_store::MIGRATOR;
use ruma::user_id;
use sqlx::PgPool;
use tokio::time::timeout;

use crate::scene::{LIMIT, Process, new_room, of_room, to_device};

/// Lets the database look as if its timeline were another one than when the epoch began.
async fn fail_over(pool: &PgPool) {
    sqlx::query("UPDATE log_head SET timeline = timeline + 1")
        .execute(pool)
        .await
        .unwrap();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_fail_over_begins_an_epoch_and_jumps_over_what_may_be_lost(pool: PgPool) {
    let process = Process::start(&pool).await;
    let room = new_room(&pool).await;
    assert_eq!(process.journal.epoch(), 1);
    let before = process.write(to_device("before")).await.unwrap();
    let user = process.interner.user(user_id!("@a:example.org")).await;
    let event = process.blocks.event().await.unwrap();
    let stale = process.message(room, &[]).await;

    fail_over(&pool).await;
    let lost = process.write(of_room(stale)).await;
    timeout(LIMIT, process.journal.epoch_after(1))
        .await
        .unwrap();

    assert!(matches!(lost, Err(WriteError::Lost)), "{lost:?}");
    assert_eq!(process.journal.epoch(), 2);
    let after = process.write(to_device("after")).await.unwrap();
    assert!(after.first.0 > before.last.0 + 1_000_000);
    assert!(process.blocks.event().await.unwrap().0 > event.0 + 1_000_000);
    let other = process.interner.user(user_id!("@b:example.org")).await;
    assert!(other.unwrap().0 > user.unwrap().0 + 1_000_000);
    timeout(LIMIT, process.journal.wait_for(after.last))
        .await
        .unwrap();
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_was_interned_in_an_epoch_is_forgotten_in_the_next(pool: PgPool) {
    let process = Process::start(&pool).await;
    let id = user_id!("@a:example.org");
    let before = process.interner.user(id).await.unwrap();
    // The standby never heard of the user.
    sqlx::query("DELETE FROM user_id")
        .execute(&pool)
        .await
        .unwrap();

    fail_over(&pool).await;
    timeout(LIMIT, process.journal.epoch_after(1))
        .await
        .unwrap();

    let after = process.interner.user(id).await.unwrap();
    assert_ne!(before, after);
    assert_eq!(process.interner.user_id(after).await.unwrap(), id);
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn all_processes_agree_on_the_epoch(pool: PgPool) {
    let (one, other) = (Process::start(&pool).await, Process::start(&pool).await);

    fail_over(&pool).await;
    for process in [&one, &other] {
        timeout(LIMIT, process.journal.epoch_after(1))
            .await
            .unwrap();
    }
    let late = Process::start(&pool).await;

    for process in [one, other, late] {
        assert_eq!(process.journal.epoch(), 2);
        process.write(to_device("a")).await.unwrap();
        process.end().await;
    }
}
