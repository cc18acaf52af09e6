use std::time::Duration;

use hearth_core::SnapshotNid;
use hearth_store::{
    snapshot,
    write::{RoomWrite, SnapshotRow, Write},
};
use sqlx::{PgConnection, PgPool};
use tokio::time::timeout;

use super::super::{
    Bounds, Pruner,
    tests::{change, make_room, message, pruner, room_write, state},
};
use crate::{WriteError, Written};

const LIMIT: Duration = Duration::from_mins(1);

/// A pruner with a room.
async fn scene(pool: &PgPool) -> Pruner {
    let mut conn = pool.acquire().await.unwrap();
    make_room(&mut conn).await;
    Pruner {
        bounds: Bounds::USUAL,
        ..pruner(pool.clone(), 1).await
    }
}

/// Stores states that nothing uses.
async fn store(conn: &mut PgConnection, rows: &[SnapshotRow]) {
    let rows: Vec<&SnapshotRow> = rows.iter().collect();
    snapshot::insert(conn, &rows).await.unwrap();
}

async fn left(pool: &PgPool) -> Vec<i64> {
    let nids = sqlx::query_scalar("SELECT nid FROM snapshot ORDER BY nid");
    nids.fetch_all(pool).await.unwrap()
}

/// A round, and another when what the first marked may go.
async fn sweep(pruner: &Pruner) {
    pruner.sweep_snapshots(pruner.clock.millis()).await.unwrap();
    pruner.clock.advance(2 * pruner.bounds.unused);
    pruner.sweep_snapshots(pruner.clock.millis()).await.unwrap();
}

async fn write(pruner: &Pruner, room: RoomWrite) -> Result<Written, WriteError> {
    let write = Write {
        room: Some(room),
        ..Write::default()
    };
    timeout(LIMIT, pruner.journal.submit(write)).await.unwrap()
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn states_that_nothing_uses_go_after_a_while(pool: PgPool) {
    let pruner = scene(&pool).await;
    store(&mut pool.acquire().await.unwrap(), &[state(1, None)]).await;

    pruner.sweep_snapshots(pruner.clock.millis()).await.unwrap();
    pruner.clock.advance(pruner.bounds.unused / 2);
    pruner.sweep_snapshots(pruner.clock.millis()).await.unwrap();
    assert_eq!(left(&pool).await, [1]);

    pruner.clock.advance(pruner.bounds.unused);
    pruner.sweep_snapshots(pruner.clock.millis()).await.unwrap();
    assert!(left(&pool).await.is_empty());
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn states_that_are_used_stay(pool: PgPool) {
    let pruner = scene(&pool).await;
    let rows = [state(1, None), state(2, None), state(3, Some(2))];
    store(&mut pool.acquire().await.unwrap(), &rows).await;
    write(&pruner, message(1, Some(1))).await.unwrap();
    write(&pruner, message(2, Some(3))).await.unwrap();
    change(&pruner.journal, 0, 4).await;
    change(&pruner.journal, 1, 5).await;

    sweep(&pruner).await;

    // Before an event: 1 and 3. What 3 is a difference to: 2. Current at a place of the log: 4 and 5.
    assert_eq!(left(&pool).await, [1, 2, 3, 4, 5]);
    let mut conn = pool.acquire().await.unwrap();
    sqlx::query("DELETE FROM current_state")
        .execute(&mut *conn)
        .await
        .unwrap();
    sweep(&pruner).await;
    sweep(&pruner).await;
    assert_eq!(left(&pool).await, [1, 2, 3, 5]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn chains_go_from_their_end(pool: PgPool) {
    let pruner = scene(&pool).await;
    let rows = [state(1, None), state(2, Some(1)), state(3, Some(2))];
    store(&mut pool.acquire().await.unwrap(), &rows).await;

    let mut seen = Vec::new();
    while !left(&pool).await.is_empty() && seen.len() < 10 {
        seen.push(left(&pool).await.len());
        sweep(&pruner).await;
    }

    seen.dedup();
    assert_eq!(seen, [3, 2, 1]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_state_that_is_used_after_all_stays(pool: PgPool) {
    let pruner = scene(&pool).await;
    store(&mut pool.acquire().await.unwrap(), &[state(1, None)]).await;
    pruner.sweep_snapshots(pruner.clock.millis()).await.unwrap();

    write(&pruner, message(1, Some(1))).await.unwrap();
    sweep(&pruner).await;

    assert_eq!(left(&pool).await, [1]);
    let marks: Option<i64> = sqlx::query_scalar("SELECT max(unused_since) FROM snapshot")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(marks, None);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_write_on_a_state_that_is_gone_is_lost_and_others_are_not(pool: PgPool) {
    let pruner = scene(&pool).await;
    store(
        &mut pool.acquire().await.unwrap(),
        &[state(1, None), state(2, None)],
    )
    .await;
    write(&pruner, message(1, Some(2))).await.unwrap();
    sweep(&pruner).await;
    assert_eq!(left(&pool).await, [2]);

    let on_it = message(2, Some(1));
    let from_it = RoomWrite {
        snapshots: vec![state(3, Some(1))],
        new_state: Some(SnapshotNid(3)),
        ..room_write(0)
    };
    let becomes_it = RoomWrite {
        new_state: Some(SnapshotNid(1)),
        ..room_write(0)
    };

    for lost in [on_it, from_it, becomes_it] {
        assert!(matches!(write(&pruner, lost).await, Err(WriteError::Lost)));
    }
    write(&pruner, message(3, Some(2))).await.unwrap();
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_writer_that_comes_while_a_state_is_deleted_waits_and_loses(pool: PgPool) {
    let pruner = scene(&pool).await;
    store(&mut pool.acquire().await.unwrap(), &[state(1, None)]).await;
    pruner.sweep_snapshots(pruner.clock.millis()).await.unwrap();
    let mut deleting = pool.begin().await.unwrap();
    let locked = hearth_store::unused_snapshot::lock_marked(&mut deleting, i64::MAX, 10).await;
    let locked = locked.unwrap();
    assert_eq!(locked, [SnapshotNid(1)]);

    let mut writing = Box::pin(write(&pruner, message(1, Some(1))));
    let early = timeout(Duration::from_millis(200), &mut writing).await;
    assert!(early.is_err(), "it must wait for the lock");
    let gone = hearth_store::unused_snapshot::delete(&mut deleting, &locked).await;
    deleting.commit().await.unwrap();

    assert_eq!(gone.unwrap(), 1);
    assert!(matches!(writing.await, Err(WriteError::Lost)));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_state_that_a_writer_is_about_to_use_is_left_alone(pool: PgPool) {
    let pruner = scene(&pool).await;
    store(&mut pool.acquire().await.unwrap(), &[state(1, None)]).await;
    pruner.sweep_snapshots(pruner.clock.millis()).await.unwrap();
    let mut writing = pool.begin().await.unwrap();
    let held = snapshot::lock_all(&mut writing, &[SnapshotNid(1)]).await;
    assert_eq!(held.unwrap(), [SnapshotNid(1)]);

    pruner.clock.advance(2 * pruner.bounds.unused);
    let now = pruner.clock.millis();
    timeout(LIMIT, pruner.sweep_snapshots(now))
        .await
        .unwrap()
        .unwrap();

    writing.commit().await.unwrap();
    assert_eq!(left(&pool).await, [1]);
}

/// States come, are used or not, and are swept as fast as can be; nothing that is written names one that is gone.
#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn nothing_names_a_state_that_is_gone_however_they_race(pool: PgPool) {
    const STATES: i64 = 400;
    let pruner = scene(&pool).await;
    let pruner = Pruner {
        bounds: Bounds {
            unused: Duration::ZERO,
            chunk: 100,
            ..pruner.bounds
        },
        ..pruner
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let sweeping = async {
        while !stop.is_cancelled() {
            pruner.clock.advance(Duration::from_millis(1));
            pruner.sweep_snapshots(pruner.clock.millis()).await.unwrap();
        }
    };
    let writing = async {
        let mut conn = pool.acquire().await.unwrap();
        let (mut used, mut lost) = (0, 0);
        for nid in 1..=STATES {
            store(&mut conn, &[state(nid, None)]).await;
            // An old one, which may be gone by now, and one as a difference to it.
            let old = (nid - nid * 7_919 % 50).max(1);
            let mut room = message(nid, Some(old));
            room.snapshots = vec![state(STATES + nid, Some(old))];
            room.events[0].snapshot =
                Some(SnapshotNid(if nid % 2 == 0 { old } else { STATES + nid }));
            match write(&pruner, room).await {
                Ok(_) => used += 1,
                Err(WriteError::Lost) => lost += 1,
                Err(error) => panic!("{error}"),
            }
        }
        stop.cancel();
        (used, lost)
    };

    let ((used, lost), ()) = tokio::join!(writing, sweeping);

    assert!(used > 0 && lost > 0, "{used} used, {lost} lost: no race");
    let dangling: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT snapshot_nid AS nid FROM event UNION ALL
                               SELECT parent_nid FROM snapshot WHERE parent_nid IS NOT NULL) named
         WHERE NOT EXISTS (SELECT FROM snapshot s WHERE s.nid = named.nid)",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(dangling, 0);
}
