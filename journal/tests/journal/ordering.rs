//! Readers of positions while several processes write.

use hearth_core::Position;
use hearth_journal::{Journal, Kind, Origin};
use hearth_store::MIGRATOR;
use sqlx::PgPool;
use tokio::{task::JoinSet, time::timeout};

use crate::scene::{LIMIT, Process, count, new_room, of_room, to_device};

/// How many writes each process does, some one by one, some in a transaction of their own.
const WRITES: usize = 400;

async fn write_all(process: &Process, pool: &PgPool) {
    let room = new_room(pool).await;
    let mut pending = Vec::new();
    for index in 0..WRITES {
        if index % 20 == 0 {
            let tx = pool.begin().await.unwrap();
            let write = to_device("within a transaction");
            process.journal.commit(tx, write).await.unwrap();
        } else {
            let write = process.message(room, &[]).await;
            pending.push(process.journal.submit(of_room(write)));
        }
        if index % 7 == 0 {
            for pending in pending.drain(..) {
                pending.await.unwrap();
            }
        }
    }
    for pending in pending {
        pending.await.unwrap();
    }
}

/// Reads the log again and again from where it was read to, until `end`: what commits late would be missed.
async fn read_on(pool: PgPool, end: i64) -> Vec<i64> {
    let mut seen = Vec::new();
    let mut last = 0;
    while last < end {
        let mut fresh: Vec<i64> =
            sqlx::query_scalar("SELECT position FROM log WHERE position > $1 ORDER BY position")
                .bind(last)
                .fetch_all(&pool)
                .await
                .unwrap();
        last = fresh.last().copied().unwrap_or(last);
        seen.append(&mut fresh);
        tokio::task::yield_now().await;
    }
    seen
}

/// The positions of all announcements until `end`, and how many of them are of other processes or from the log.
async fn hear(journal: Journal, end: i64) -> (Vec<i64>, usize) {
    let mut announcements = journal.subscribe();
    let mut heard = Vec::new();
    let mut remote = 0;
    while heard.last().is_none_or(|last| *last < end) {
        let next = announcements.recv().await.unwrap();
        assert_eq!(next.previous.0, heard.last().copied().unwrap_or(0));
        heard.extend(next.entries.iter().map(|entry| entry.position.0));
        assert_eq!(heard.last(), Some(&next.head.0));
        if next.origin == Origin::Remote {
            remote += next.entries.len();
        }
    }
    (heard, remote)
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_reader_of_positions_misses_a_row_of_two_writers(pool: PgPool) {
    let (one, other) = (Process::start(&pool).await, Process::start(&pool).await);
    let end = i64::try_from(2 * WRITES).unwrap();
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        readers.spawn(read_on(pool.clone(), end));
    }
    let mut hearers = JoinSet::new();
    for process in [&one, &other] {
        hearers.spawn(hear(process.journal.clone(), end));
    }
    tokio::task::yield_now().await;

    tokio::join!(write_all(&one, &pool), write_all(&other, &pool));

    let all: Vec<i64> = (1..=end).collect();
    while let Some(seen) = timeout(LIMIT, readers.join_next()).await.unwrap() {
        assert_eq!(seen.unwrap(), all, "a reader of the table missed rows");
    }
    while let Some(heard) = timeout(LIMIT, hearers.join_next()).await.unwrap() {
        let (heard, remote) = heard.unwrap();
        assert_eq!(heard, all, "a reader of announcements missed rows");
        // A process may hear of its own from the log, too, when that was read first.
        assert!(remote >= WRITES, "{remote}");
    }
    assert_eq!(count(&pool, "SELECT position FROM log_head").await, end);
    one.end().await;
    other.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_row_is_visible_before_any_later_position(pool: PgPool) {
    let (one, other) = (Process::start(&pool).await, Process::start(&pool).await);
    let end = i64::try_from(2 * WRITES).unwrap();
    let reader = JoinSet::from_iter([{
        let pool = pool.clone();
        async move {
            // In one snapshot: the head, and how many rows there are up to it.
            let query = "SELECT h.position, (SELECT count(*) FROM log), (SELECT max(position) FROM log) FROM log_head h";
            loop {
                let (head, rows, last): (i64, i64, Option<i64>) =
                    sqlx::query_as(query).fetch_one(&pool).await.unwrap();
                assert_eq!((rows, last.unwrap_or(0)), (head, head));
                if head >= end {
                    return;
                }
            }
        }
    }]);

    tokio::join!(write_all(&one, &pool), write_all(&other, &pool));

    timeout(LIMIT, reader.join_all()).await.unwrap();
    one.end().await;
    other.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_a_process_did_not_announce_is_found_in_the_log(pool: PgPool) {
    let (one, other) = (Process::start(&pool).await, Process::start(&pool).await);
    let mut announcements = other.journal.subscribe();

    let written = one.write(to_device("a")).await.unwrap();
    timeout(LIMIT, other.journal.wait_for(written.last))
        .await
        .unwrap();

    let heard = announcements.recv().await.unwrap();
    assert_eq!(heard.origin, Origin::Remote);
    assert_eq!(heard.entries[0].kind, Kind::ToDevice);
    // The own write comes after one that nobody announced: it is not told before that.
    one.write(to_device("b")).await.unwrap();
    let own = other.write(to_device("c")).await.unwrap();
    timeout(LIMIT, other.journal.wait_for(own.last))
        .await
        .unwrap();
    let mut positions = Vec::new();
    while let Ok(next) = announcements.try_recv() {
        positions.extend(next.entries.iter().map(|entry| entry.position.0));
    }
    assert_eq!(positions, [2, 3]);
    one.end().await;
    other.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn more_than_a_page_is_read_at_once_after_a_long_silence(pool: PgPool) {
    let process = Process::start(&pool).await;
    let mut announcements = process.journal.subscribe();

    sqlx::raw_sql(
        "BEGIN; UPDATE log_head SET position = 25000;
         INSERT INTO log (position, kind) SELECT n, 5 FROM generate_series(1, 25000) n; COMMIT",
    )
    .execute(&pool)
    .await
    .unwrap();
    timeout(LIMIT, process.journal.wait_for(Position(25_000)))
        .await
        .unwrap();

    let mut heard = 0;
    while let Ok(next) = announcements.try_recv() {
        assert_eq!(next.previous.0, heard);
        heard = next.head.0;
        let count = i64::try_from(next.entries.len()).unwrap();
        assert_eq!(count, next.head.0 - next.previous.0);
    }
    assert_eq!(heard, 25_000);
    process.end().await;
}
