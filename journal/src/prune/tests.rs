use std::time::Duration;

use hearth_core::{EventNid, RoomNid, SnapshotNid, UserNid};
use hearth_store::{
    destination, device,
    intern::{Blocks, Interner},
    outbox,
    write::{
        EventRow, Placement, ReceiptRow, RoomWrite, SnapshotRow, Source, Status, ToDeviceRow,
        TransactionRow, Write,
    },
};
use sqlx::{PgConnection, PgPool};
use tokio_util::task::TaskTracker;

use super::*;
use crate::journal::Parts;

const DAY: Duration = Duration::from_hours(24);

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
async fn fill(journal: &Journal, count: usize) {
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

/// Sends a message in a client's transaction.
async fn send(journal: &Journal, nid: i64) {
    let transaction = TransactionRow {
        user: UserNid(1),
        device_id: "PHONE".to_owned(),
        action: "redact".to_owned(),
        txn_id: nid.to_string(),
    };
    let room = RoomWrite {
        transaction: Some(transaction),
        ..message(nid, None)
    };
    let write = Write {
        room: Some(room),
        ..Write::default()
    };
    journal.submit(write).await.unwrap();
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn clients_transactions_are_forgotten_after_a_week_however_long_the_log_is(pool: PgPool) {
    make_room(&mut pool.acquire().await.unwrap()).await;
    let pruner = pruner(pool.clone(), 1_000).await;
    let mut left = Vec::new();
    for nid in 1..=5 {
        send(&pruner.journal, nid).await;
        pruner.round().await.unwrap();
        pruner.clock.advance(3 * DAY);
        let events: Vec<i64> = sqlx::query_scalar("SELECT event_nid FROM sent_event ORDER BY 1")
            .fetch_all(&pool)
            .await
            .unwrap();
        left.push(events);
    }

    // On days 0, 3, 6, 9 and 12.
    let expected = [
        vec![1],
        vec![1, 2],
        vec![1, 2, 3],
        vec![2, 3, 4],
        vec![3, 4, 5],
    ];
    assert_eq!(left, expected);
}

/// Lets everything that was written so far become too old for the log.
async fn outlive_log(pruner: &Pruner) {
    fill(&pruner.journal, 1).await;
    pruner.round().await.unwrap();
    for _ in 0..2 {
        pruner.clock.advance(8 * DAY);
        pruner.round().await.unwrap();
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn messages_to_devices_that_nobody_uses_go(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let pruner = pruner(pool.clone(), 1).await;
    let now = pruner.clock.millis();
    let seen = |ago| now - millis(ago);
    for (device_id, ts) in [("IN USE", now), ("FORGOTTEN", seen(200 * DAY))] {
        let made = device::insert(&mut conn, UserNid(1), device_id, None, ts).await;
        assert_eq!(made.unwrap(), device::Inserted::Yes);
    }
    let to_device = ["IN USE", "FORGOTTEN", "GONE"].map(|device_id| ToDeviceRow {
        user: UserNid(1),
        device_id: device_id.to_owned(),
        message: "{}".to_owned(),
    });
    let write = Write {
        to_device: to_device.into(),
        ..Write::default()
    };
    pruner.journal.submit(write).await.unwrap();

    outlive_log(&pruner).await;

    let left: Vec<String> = sqlx::query_scalar("SELECT device_id FROM to_device")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(left, ["IN USE"]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn receipts_of_threads_that_the_room_was_read_beyond_go(pool: PgPool) {
    let pruner = pruner(pool.clone(), 1).await;
    let receipt = |kind: &str, thread: &str, order| ReceiptRow {
        room: ROOM,
        user: UserNid(1),
        kind: kind.to_owned(),
        thread: thread.to_owned(),
        event_id: "$event".to_owned(),
        stream_order: Some(order),
        ts: 0,
    };
    let receipts = vec![
        receipt("m.read", "$old", 3),
        receipt("m.read", "", 5),
        receipt("m.read", "$new", 7),
        receipt("m.read.private", "$old", 3),
    ];
    let write = Write {
        receipts,
        ..Write::default()
    };
    pruner.journal.submit(write).await.unwrap();

    outlive_log(&pruner).await;

    let left: Vec<(String, String)> =
        sqlx::query_as("SELECT kind, thread FROM receipt ORDER BY kind, thread")
            .fetch_all(&pool)
            .await
            .unwrap();
    let of = |kind: &str, thread: &str| (kind.to_owned(), thread.to_owned());
    let kept = [
        of("m.read", ""),
        of("m.read", "$new"),
        of("m.read.private", "$old"),
    ];
    assert_eq!(left, kept);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn nothing_waits_for_a_server_that_is_gone_for_good(pool: PgPool) {
    let pruner = pruner(pool.clone(), 0).await;
    let names = ["gone.example", "back.example", "good.example"];
    let names = names.map(|name| ruma::ServerName::parse(name).unwrap());
    let names: Vec<&ruma::ServerName> = names.iter().map(AsRef::as_ref).collect();
    let mut conn = pool.acquire().await.unwrap();
    let mut servers = destination::upsert(&mut conn, &names).await.unwrap();
    servers.sort_by_key(|server| {
        names
            .iter()
            .position(|name| name.as_str() == server.server_name)
    });
    let bounds = outbox::Bounds {
        healthy: 1_000,
        failing: 10,
    };
    let addressed: Vec<_> = servers
        .iter()
        .map(|server| outbox::Addressed {
            destination: server.nid,
            room: ROOM,
            event: EventNid(1),
        })
        .collect();
    let (start, month) = (pruner.clock.millis(), DAY * 31);
    for server in &servers[..2] {
        let retry_ts = start + 1;
        let failed = destination::update_failed(&mut conn, server.nid, start, retry_ts).await;
        failed.unwrap();
    }
    let appended = outbox::append(&mut conn, &addressed, bounds, start).await;
    appended.unwrap();
    let waiting = async |conn: &mut PgConnection| {
        let mut waiting = Vec::new();
        for server in &servers {
            let rooms = outbox::list(conn, server.nid, 10).await.unwrap();
            waiting.push(rooms.len());
        }
        waiting
    };
    assert_eq!(waiting(&mut conn).await, [1, 1, 1]);

    pruner.clock.advance(month);
    let now = pruner.clock.millis();
    for server in &servers[..2] {
        let failed = destination::update_failed(&mut conn, server.nid, now, now + 1).await;
        failed.unwrap();
    }
    pruner.round().await.unwrap();

    assert_eq!(waiting(&mut conn).await, [0, 0, 1]);
    let heard = destination::update_heard(&mut conn, names[1], now).await;
    assert!(heard.unwrap().is_some());
    let appended = outbox::append(&mut conn, &addressed, bounds, now).await;
    appended.unwrap();
    assert_eq!(waiting(&mut conn).await, [0, 1, 1]);
    // It is to be tried again.
    let appended = outbox::append(&mut conn, &addressed, bounds, now + 1).await;
    appended.unwrap();
    assert_eq!(waiting(&mut conn).await, [1, 1, 1]);
}
