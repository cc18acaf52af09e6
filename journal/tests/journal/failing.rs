//! Rows that the database refuses, and processes that freeze.

use std::time::Duration;

use hearth_journal::WriteError;
use hearth_store::{
    MIGRATOR, log,
    write::{AccountDataRow, ReceiptRow, Redacts, Source, Write},
};
use sqlx::PgPool;
use tokio::time::timeout;

use crate::scene::{LIMIT, Process, count, new_room, of_room, timeline, to_device};

#[sqlx::test(migrator = "MIGRATOR")]
async fn one_bad_row_in_a_batch_fails_only_its_own_request(pool: PgPool) {
    let process = Process::start(&pool).await;
    let room = new_room(&pool).await;
    let mut pending = Vec::new();
    let mut good = Vec::new();
    for index in 0..300 {
        let mut write = process.message(room, &[]).await;
        match index {
            // PostgreSQL stores no NUL, and each event id once.
            17 => write.events[0].json = "\0".to_owned(),
            250 => write.events[0].event_id = format!("${}", good[0]),
            _ => good.push(write.events[0].nid),
        }
        pending.push(process.journal.submit(of_room(write)));
    }

    let results = futures_util::future::join_all(pending).await;

    for (index, result) in results.iter().enumerate() {
        if index == 17 || index == 250 {
            assert!(matches!(result, Err(WriteError::Storage(_))), "{result:?}");
        } else {
            assert!(result.is_ok(), "{result:?}");
        }
    }
    assert_eq!(timeline(&pool, room).await, good);
    assert_eq!(count(&pool, "SELECT count(*) FROM log").await, 298);
    assert_eq!(process.journal.head().0, 298);
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_built_on_a_bad_row_is_lost(pool: PgPool) {
    let process = Process::start(&pool).await;
    let room = new_room(&pool).await;
    let mut bad = process.message(room, &[]).await;
    bad.events[0].json = "\0".to_owned();
    let next = process.message(room, &[bad.events[0].nid]).await;

    let (bad, next) = (
        process.journal.submit(of_room(bad)),
        process.journal.submit(of_room(next)),
    );

    assert!(matches!(bad.await, Err(WriteError::Storage(_))));
    assert!(matches!(next.await, Err(WriteError::Lost)));
    assert!(timeline(&pool, room).await.is_empty());
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn of_the_same_key_in_one_batch_the_last_wins(pool: PgPool) {
    let process = Process::start(&pool).await;
    let room = new_room(&pool).await;
    let user = hearth_core::UserNid(1);
    let write = |number: i64| Write {
        receipts: vec![ReceiptRow {
            room,
            user,
            kind: "m.read".to_owned(),
            thread: String::new(),
            event_id: format!("${number}"),
            stream_order: None,
            ts: number,
        }],
        account_data: vec![AccountDataRow {
            user,
            room: hearth_core::RoomNid(0),
            kind: "m.direct".to_owned(),
            content: number.to_string(),
        }],
        ..Write::default()
    };

    let pending: Vec<_> = (0..50)
        .map(|number| process.journal.submit(write(number)))
        .collect();
    for pending in pending {
        pending.await.unwrap();
    }

    let receipt: (String, i64) = sqlx::query_as("SELECT event_id, position FROM receipt")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(receipt, ("$49".to_owned(), 99));
    let content: (String, i64) = sqlx::query_as("SELECT content, position FROM account_data")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(content, ("49".to_owned(), 100));
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn redactions_find_their_target_or_wait_for_it(pool: PgPool) {
    let process = Process::start(&pool).await;
    let room = new_room(&pool).await;
    let target = process.message(room, &[]).await;
    let nid = target.events[0].nid;
    let mut known = process.message(room, &[nid]).await;
    known.events[0].redacts = Some(Redacts::Known(nid));
    let redaction = known.events[0].nid;
    let mut unknown = process.message(room, &[redaction]).await;
    unknown.events[0].redacts = Some(Redacts::Unknown("$elsewhere".to_owned()));
    let waiting = unknown.events[0].nid;

    for write in [target, known, unknown] {
        process.write(of_room(write)).await.unwrap();
    }

    let redacted: Vec<(i64, i64)> =
        sqlx::query_as("SELECT nid, redacted_by FROM event WHERE redacted_by IS NOT NULL")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(redacted, [(nid.0, redaction.0)]);
    let mut conn = pool.acquire().await.unwrap();
    let pending = hearth_store::pending_redaction::list(&mut conn, &["$elsewhere", "$other"]).await;
    assert_eq!(pending.unwrap(), [("$elsewhere".to_owned(), waiting)]);
    drop(conn);
    process.end().await;
}

/// Whoever comes second knows nothing of the first, and starts over.
#[sqlx::test(migrator = "MIGRATOR")]
async fn a_redaction_and_its_target_do_not_pass_each_other_by(pool: PgPool) {
    let process = Process::start(&pool).await;
    let room = new_room(&pool).await;
    let first = process.message(room, &[]).await;
    let start = first.events[0].nid;
    process.write(of_room(first)).await.unwrap();
    let mut arrivals = Vec::new();
    let mut redactions = Vec::new();
    for _ in 0..3 {
        let mut target = process.message(room, &[start]).await;
        target.events[0].source = Source::Received;
        let mut redaction = process.message(room, &[start]).await;
        redaction.events[0].redacts = Some(Redacts::Unknown(target.events[0].event_id.clone()));
        arrivals.push(target);
        redactions.push(redaction);
    }
    let is_lost = |written: &Result<_, _>| matches!(written, Err(WriteError::Lost));

    process.write(of_room(arrivals[0].clone())).await.unwrap();
    assert!(is_lost(
        &process.write(of_room(redactions[0].clone())).await
    ));

    process.write(of_room(redactions[1].clone())).await.unwrap();
    let mut target = arrivals[1].clone();
    assert!(is_lost(&process.write(of_room(target.clone())).await));
    target.redactions_seen = vec![redactions[1].events[0].nid];
    process.write(of_room(target)).await.unwrap();

    // In one batch, too.
    let (one, other) = tokio::join!(
        process.journal.submit(of_room(redactions[2].clone())),
        process.journal.submit(of_room(arrivals[2].clone())),
    );
    assert!(one.is_ok() && is_lost(&other));
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_process_that_freezes_with_the_lock_does_not_stop_the_others(pool: PgPool) {
    let process = Process::start(&pool).await;
    let mut frozen = pool.begin_with(log::BEGIN).await.unwrap();
    let advanced = log::advance(&mut frozen, process.journal.epoch(), 5).await;
    assert!(advanced.unwrap().is_some());

    let written = timeout(Duration::from_secs(30), process.write(to_device("a"))).await;

    assert_eq!(written.unwrap().unwrap().first.0, 1);
    assert!(frozen.commit().await.is_err());
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn more_than_the_queue_holds_is_refused(pool: PgPool) {
    let process = Process::start(&pool).await;
    let message = "x".repeat(1024 * 1024);

    let pending: Vec<_> = (0..200)
        .map(|_| process.journal.submit(to_device(&message)))
        .collect();
    let results = timeout(LIMIT, futures_util::future::join_all(pending)).await;

    let results = results.unwrap();
    let refused = |result: &&_| matches!(result, Err(WriteError::Overloaded));
    let refused = results.iter().filter(refused).count();
    assert!((1..150).contains(&refused), "{refused} were refused");
    assert!(results[0].is_ok());
    process.write(to_device("later")).await.unwrap();
    process.end().await;
}
