//! Writes that lose, and those that must not.

use hearth_core::EventNid;
use hearth_journal::{WriteError, Written};
use hearth_store::{MIGRATOR, write::Write};
use sqlx::PgPool;

use crate::scene::{Process, after, count, new_room, of_room, row, timeline, transaction};

/// Submits all writes before the first can be written; gives what became of them.
async fn batch(process: &Process, writes: Vec<Write>) -> Vec<Result<Written, WriteError>> {
    let pending: Vec<_> = writes
        .into_iter()
        .map(|write| process.journal.submit(write))
        .collect();
    futures_util::future::join_all(pending).await
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn events_are_placed_in_the_order_of_the_calls(pool: PgPool) {
    let process = Process::start(&pool).await;
    let room = new_room(&pool).await;
    let mut writes = Vec::new();
    let mut nids: Vec<EventNid> = Vec::new();
    for _ in 0..1_000 {
        let write = process
            .message(room, nids.last().map_or(&[], std::slice::from_ref))
            .await;
        nids.push(write.events[0].nid);
        writes.push(of_room(write));
    }

    let results = batch(&process, writes).await;

    let places: Vec<i64> = results
        .into_iter()
        .map(|result| result.unwrap().first.0)
        .collect();
    assert_eq!(places, (1..=1_000).collect::<Vec<_>>());
    assert_eq!(timeline(&pool, room).await, nids);
    assert_eq!(row(&pool, room).await.2, nids[999..]);
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_write_that_expects_another_state_is_lost(pool: PgPool) {
    let process = Process::start(&pool).await;
    let room = new_room(&pool).await;
    let first = process.state(room, 0, &[]).await;
    let state = first.new_state;
    process.write(of_room(first)).await.unwrap();
    let late = process.message(room, &[]).await;

    let result = process.write(of_room(late)).await;

    assert!(matches!(result, Err(WriteError::Lost)));
    assert_eq!(timeline(&pool, room).await.len(), 1);
    let (revision, current, _) = row(&pool, room).await;
    assert_eq!((revision, current), (1, state));
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn writes_in_one_batch_see_the_state_that_those_before_them_made(pool: PgPool) {
    let process = Process::start(&pool).await;
    let room = new_room(&pool).await;
    let first = process.state(room, 0, &[]).await;
    let second = process.state(room, 1, &[first.events[0].nid]).await;
    let mut third = process.message(room, &[second.events[0].nid]).await;
    third.expected_revision = 2;
    let (state, last) = (second.new_state, third.events[0].nid);

    let results = batch(&process, [first, second, third].map(of_room).into()).await;

    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(row(&pool, room).await, (2, state, vec![last]));
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_built_on_a_lost_write_is_lost_too(pool: PgPool) {
    let process = Process::start(&pool).await;
    let room = new_room(&pool).await;
    let mut lost = process.state(room, 7, &[]).await;
    lost.extremities_gone.clear();
    let snapshot = lost.snapshots[0].nid;
    let second = process.message(room, &[lost.events[0].nid]).await;
    let third = process.message(room, &[second.events[0].nid]).await;
    let mut by_state = process.message(room, &[]).await;
    by_state.events[0].snapshot = Some(snapshot);
    let mut by_auth = process.message(room, &[]).await;
    by_auth.events[0].auth = vec![lost.events[0].nid];
    let other = process.message(room, &[]).await;
    let (of_third, of_other) = (third.events[0].nid, other.events[0].nid);

    let writes = [lost, second, third, by_state, by_auth, other];
    let results = batch(&process, writes.map(of_room).into()).await;
    let later = process.message(room, &[of_third]).await;
    let in_a_later_batch = process.write(of_room(later)).await;

    for result in &results[..5] {
        assert!(matches!(result, Err(WriteError::Lost)), "{result:?}");
    }
    assert!(results[5].is_ok());
    assert!(matches!(in_a_later_batch, Err(WriteError::Lost)));
    assert_eq!(timeline(&pool, room).await, [of_other]);
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_repeated_transaction_gives_the_first_event(pool: PgPool) {
    let (one, other) = (Process::start(&pool).await, Process::start(&pool).await);
    let room = new_room(&pool).await;
    let send = async |process: &Process| {
        let mut write = process.message(room, &[]).await;
        write.transaction = Some(transaction("once"));
        write
    };
    let (first, twin) = (send(&one).await, send(&one).await);
    let nid = first.events[0].nid;

    let together = batch(&one, vec![of_room(first), of_room(twin)]).await;
    let here = one.write(of_room(send(&one).await)).await;
    let there = other.write(of_room(send(&other).await)).await;

    assert!(together[0].is_ok());
    for result in [&together[1], &here, &there] {
        assert!(
            matches!(result, Err(WriteError::Duplicate(first)) if *first == nid),
            "{result:?}"
        );
    }
    assert_eq!(timeline(&pool, room).await, [nid]);
    one.end().await;
    other.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_transaction_whose_write_was_lost_is_free_again(pool: PgPool) {
    let process = Process::start(&pool).await;
    let room = new_room(&pool).await;
    let mut lost = process.message(room, &[]).await;
    lost.expected_revision = 9;
    let mut again = process.message(room, &[]).await;
    let mut twin = process.message(room, &[]).await;
    for write in [&mut lost, &mut again, &mut twin] {
        write.transaction = Some(transaction("once"));
    }
    let nid = again.events[0].nid;

    let results = batch(&process, [lost, again, twin].map(of_room).into()).await;

    assert!(matches!(results[0], Err(WriteError::Lost)));
    assert!(results[1].is_ok());
    assert!(matches!(results[2], Err(WriteError::Duplicate(first)) if first == nid));
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn events_built_at_the_same_time_by_two_processes_fork(pool: PgPool) {
    let (one, other) = (Process::start(&pool).await, Process::start(&pool).await);
    let room = new_room(&pool).await;
    let root = one.message(room, &[]).await;
    let nid = root.events[0].nid;
    one.write(of_room(root)).await.unwrap();
    let here = one.message(room, &[nid]).await;
    let there = other.message(room, &[nid]).await;
    let mut tips = vec![here.events[0].nid, there.events[0].nid];

    one.write(of_room(here)).await.unwrap();
    other.write(of_room(there)).await.unwrap();

    let mut extremities = row(&pool, room).await.2;
    extremities.sort_unstable();
    tips.sort_unstable();
    assert_eq!(extremities, tips);
    let merge = one.message(room, &tips).await;
    let last = merge.events[0].nid;
    one.write(of_room(merge)).await.unwrap();
    assert_eq!(row(&pool, room).await.2, [last]);
    one.end().await;
    other.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn other_rows_are_committed_with_their_write_or_not_at_all(pool: PgPool) {
    let process = Process::start(&pool).await;
    let room = new_room(&pool).await;
    let alias = async |alias: &str| {
        let mut tx = pool.begin().await.unwrap();
        sqlx::query("INSERT INTO room_alias (alias, room_nid, creator_nid, created_ts) VALUES ($1, $2, 1, 1)")
            .bind(alias)
            .bind(room)
            .execute(&mut *tx)
            .await
            .unwrap();
        tx
    };
    let good = process.message(room, &[]).await;
    let mut bad = process.message(room, &[]).await;
    bad.expected_revision = 3;

    let tx = alias("#good:example.org").await;
    let written = process.journal.commit(tx, of_room(good)).await;
    let tx = alias("#bad:example.org").await;
    let lost = process.journal.commit(tx, of_room(bad)).await;

    assert_eq!(written.unwrap().first.0, 1);
    assert!(matches!(lost, Err(WriteError::Lost)));
    let aliases: Vec<String> = sqlx::query_scalar("SELECT alias FROM room_alias")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(aliases, ["#good:example.org"]);
    assert_eq!(process.journal.head().0, 1);
    process.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_submitted_before_the_end_is_written_and_nothing_after(pool: PgPool) {
    let process = Process::start(&pool).await;
    let room = new_room(&pool).await;
    let mut pending = Vec::new();
    for _ in 0..1_500 {
        let write = process.message(room, &[]).await;
        pending.push(process.journal.submit(of_room(write)));
    }
    let late = after(&[], process.event(room).await);
    let journal = process.journal.clone();

    process.end().await;

    for pending in pending {
        pending.await.unwrap();
    }
    let refused = journal.submit(of_room(late)).await;
    assert!(matches!(refused, Err(WriteError::Overloaded)));
    assert_eq!(count(&pool, "SELECT count(*) FROM event").await, 1_500);
}
