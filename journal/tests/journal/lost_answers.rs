//! COMMITs whose answer is lost.

use hearth_store::MIGRATOR;
use sqlx::PgPool;

use crate::{
    proxy::{Cut, Proxy},
    scene::{Process, count, new_room, of_room, timeline, to_device},
};

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_commit_whose_answer_was_lost_is_not_sent_twice(pool: PgPool) {
    let proxy = Proxy::start(&pool, Cut::Answer).await;
    let process = Process::start(&proxy.pool).await;
    let mut announcements = process.journal.subscribe();

    proxy.cut(1);
    let written = process.write(to_device("once")).await.unwrap();

    assert_eq!(proxy.remaining(), 0);
    assert_eq!(written.first.0, 1);
    assert_eq!(count(&pool, "SELECT count(*) FROM to_device").await, 1);
    assert_eq!(count(&pool, "SELECT count(*) FROM log").await, 1);
    assert_eq!(process.journal.head().0, 1);
    assert_eq!(announcements.try_recv().unwrap().head.0, 1);
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_commit_that_did_not_arrive_is_sent_again(pool: PgPool) {
    let proxy = Proxy::start(&pool, Cut::Commit).await;
    let process = Process::start(&proxy.pool).await;

    proxy.cut(2);
    let written = process.write(to_device("once")).await.unwrap();

    assert_eq!(proxy.remaining(), 0);
    assert_eq!(written.first.0, 1);
    assert_eq!(count(&pool, "SELECT count(*) FROM to_device").await, 1);
    assert_eq!(count(&pool, "SELECT count(*) FROM log").await, 1);
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_transaction_of_a_service_is_settled_too(pool: PgPool) {
    let proxy = Proxy::start(&pool, Cut::Answer).await;
    let process = Process::start(&proxy.pool).await;
    let tx = proxy.pool.begin().await.unwrap();

    proxy.cut(1);
    let written = process.journal.commit(tx, to_device("once")).await.unwrap();

    assert_eq!(written.last.0, 1);
    assert_eq!(process.journal.head().0, 1);
    assert_eq!(count(&pool, "SELECT count(*) FROM to_device").await, 1);
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn many_lost_answers_lose_and_repeat_nothing(pool: PgPool) {
    let proxy = Proxy::start(&pool, Cut::Answer).await;
    let process = Process::start(&proxy.pool).await;
    let room = new_room(&pool).await;
    let mut nids = Vec::new();

    for round in 0..40 {
        if round % 4 == 0 {
            proxy.cut(1);
        }
        let mut pending = Vec::new();
        for _ in 0..5 {
            let last = nids.last().map_or(&[][..], std::slice::from_ref);
            let write = process.message(room, last).await;
            nids.push(write.events[0].nid);
            pending.push(process.journal.submit(of_room(write)));
        }
        for pending in pending {
            pending.await.unwrap();
        }
    }

    assert_eq!(timeline(&pool, room).await, nids);
    assert_eq!(count(&pool, "SELECT count(*) FROM log").await, 200);
    process.end().await;
}
