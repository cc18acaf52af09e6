use std::time::Duration;

use hearth_core::{EventNid, RoomNid, SnapshotNid, UserNid};
use hearth_store::{
    intern::{Blocks, Interner},
    write::{EventRow, Placement, RoomWrite, SnapshotRow, Source, Status, Write},
};
use sqlx::{PgConnection, PgPool};
use tokio_util::task::TaskTracker;

use super::*;
use crate::journal::Parts;

pub(super) const DAY: Duration = Duration::from_hours(24);

/// Half a year after the epoch.
const START: u64 = 15_552_000_000;

pub(super) const ROOM: RoomNid = RoomNid(1);

/// A pruner that keeps a week and so many positions.
pub(super) async fn pruner(pool: PgPool, positions: i64) -> Pruner {
    let tasks = TaskTracker::new();
    let blocks = Blocks::new(pool.clone());
    let journal = Journal::start(Parts {
        interner: Interner::new(pool.clone()),
        pool,
        blocks,
        redis: None,
        tasks: &tasks,
        stop: CancellationToken::new(),
    });
    Pruner {
        journal: journal.await.unwrap(),
        clock: Clock::mock(START),
        bounds: Bounds {
            positions,
            chunk: 2,
            ..Bounds::USUAL
        },
    }
}

/// Writes `count` positions.
pub(super) async fn fill(journal: &Journal, count: usize) {
    let write = Write {
        device_lists: vec![UserNid(1); count],
        ..Write::default()
    };
    journal.submit(write).await.unwrap();
}

/// The positions that are left.
async fn left(journal: &Journal) -> Vec<i64> {
    let entries = journal.read(Position(0), journal.head()).await.unwrap();
    entries.iter().map(|entry| entry.position.0).collect()
}

/// Makes the room [`ROOM`].
pub(super) async fn make_room(conn: &mut PgConnection) {
    let nid = hearth_store::room::insert(conn, "!tea:example.org", "12").await;
    assert_eq!(nid.unwrap(), Some(ROOM));
}

pub(super) fn room_write(revision: i64) -> RoomWrite {
    RoomWrite {
        room: ROOM,
        expected_revision: revision,
        events: Vec::new(),
        snapshots: Vec::new(),
        new_state: None,
        extremities_gone: Vec::new(),
        extremities_new: Vec::new(),
        memberships: Vec::new(),
        transaction: None,
        redacted: Vec::new(),
        redactions_seen: Vec::new(),
        gaps: Vec::new(),
    }
}

/// A write of a message before which the state is `snapshot`.
pub(super) fn message(nid: i64, snapshot: Option<i64>) -> RoomWrite {
    let event = EventRow {
        nid: EventNid(nid),
        room: ROOM,
        event_id: format!("${nid}"),
        sender: UserNid(1),
        kind: "m.room.message".to_owned(),
        state_key: None,
        depth: 1,
        origin_server_ts: 1,
        source: Source::Made,
        placement: Placement::Live,
        snapshot: snapshot.map(SnapshotNid),
        auth: Vec::new(),
        status: Status::Accepted,
        json: "{}".to_owned(),
        relation: None,
        redacts: None,
    };
    RoomWrite {
        extremities_new: vec![event.nid],
        events: vec![event],
        ..room_write(0)
    }
}

/// A state without entries, as a difference to `parent`.
pub(super) fn state(nid: i64, parent: Option<i64>) -> SnapshotRow {
    SnapshotRow {
        nid: SnapshotNid(nid),
        room: ROOM,
        parent: parent.map(SnapshotNid),
        depth: i32::from(parent.is_some()),
        delta: vec![1],
    }
}

/// Makes `snapshot`, which is new, the room's current state.
pub(super) async fn change(journal: &Journal, revision: i64, snapshot: i64) {
    let room = RoomWrite {
        snapshots: vec![state(snapshot, None)],
        new_state: Some(SnapshotNid(snapshot)),
        ..room_write(revision)
    };
    let write = Write {
        room: Some(room),
        ..Write::default()
    };
    journal.submit(write).await.unwrap();
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_tail_moves_first_and_the_rows_before_it_go_a_round_later(pool: PgPool) {
    let pruner = pruner(pool, 3).await;
    fill(&pruner.journal, 5).await;
    pruner.round().await.unwrap();
    pruner.clock.advance(8 * DAY);
    fill(&pruner.journal, 5).await;

    pruner.round().await.unwrap();
    assert_eq!(pruner.journal.tail(), Position(5));
    assert_eq!(left(&pruner.journal).await.len(), 10);

    pruner.clock.advance(ROUND);
    pruner.round().await.unwrap();
    assert_eq!(left(&pruner.journal).await, [6, 7, 8, 9, 10]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_last_positions_stay_however_old_they_are(pool: PgPool) {
    let pruner = pruner(pool, 8).await;
    fill(&pruner.journal, 10).await;
    pruner.round().await.unwrap();
    for _ in 0..2 {
        pruner.clock.advance(8 * DAY);
        pruner.round().await.unwrap();
    }

    assert_eq!(pruner.journal.tail(), Position(2));
    assert_eq!(left(&pruner.journal).await.len(), 8);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn young_positions_stay_however_many_they_are(pool: PgPool) {
    let pruner = pruner(pool, 1).await;
    fill(&pruner.journal, 10).await;
    for _ in 0..3 {
        pruner.round().await.unwrap();
        pruner.clock.advance(DAY);
    }

    assert_eq!(pruner.journal.tail(), Position(0));
    assert_eq!(left(&pruner.journal).await.len(), 10);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn what_is_current_at_the_tail_stays(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    make_room(&mut conn).await;
    let pruner = pruner(pool, 1).await;
    change(&pruner.journal, 0, 100).await;
    change(&pruner.journal, 1, 200).await;
    fill(&pruner.journal, 1).await;
    pruner.round().await.unwrap();
    change(&pruner.journal, 2, 300).await;
    for _ in 0..2 {
        pruner.clock.advance(8 * DAY);
        pruner.round().await.unwrap();
    }

    let mut found = Vec::new();
    for position in 1..=4 {
        let at = current_state::find_at(&mut conn, ROOM, Position(position)).await;
        found.push(at.unwrap().map(|nid| nid.0));
    }
    assert_eq!(pruner.journal.tail(), Position(3));
    assert_eq!(found, [None, Some(200), Some(200), Some(300)]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_pruner_that_fell_asleep_in_its_round_does_nothing_more(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let pruner = pruner(pool, 1).await;
    fill(&pruner.journal, 8).await;
    for _ in 0..2 {
        pruner.clock.advance(8 * DAY);
        pruner.round().await.unwrap();
    }
    let asleep = log_tail::find(&mut conn).await.unwrap();
    pruner.clock.advance(ROUND);
    pruner.round().await.unwrap();

    let now = pruner.clock.millis();
    pruner.prune_log(asleep, now).await.unwrap();

    let tail = log_tail::find(&mut conn).await.unwrap();
    assert_eq!((tail.position, tail.pruned), (Position(7), Position(7)));
    assert_eq!(left(&pruner.journal).await, [8]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_round_is_taken_once(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let now = i64::try_from(START).unwrap();

    let first = log_tail::update_round(&mut conn, now, now - millis(ROUND))
        .await
        .unwrap();
    let second = log_tail::update_round(&mut conn, now, now - millis(ROUND))
        .await
        .unwrap();

    assert!(first.is_some());
    assert!(second.is_none());
}
