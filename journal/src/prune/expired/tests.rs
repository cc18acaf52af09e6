use hearth_core::{EventNid, UserNid};
use hearth_store::{
    destination, device, outbox,
    write::{ReceiptRow, RoomWrite, ToDeviceRow, TransactionRow, Write},
};
use sqlx::{PgConnection, PgPool};

use super::super::{
    Pruner, millis,
    tests::{DAY, ROOM, fill, make_room, message, pruner},
};
use crate::Journal;

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
