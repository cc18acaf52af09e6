//! Requests that mean no good.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde_json::json;
use sqlx::PgPool;

use super::{
    certificates::Authority,
    foreign_room::ForeignRoom,
    peer::{Peer, trusting},
    process::Hearth,
    watch::{Usage, watch},
};

const MIB: usize = 1024 * 1024;

const TRANSACTION: &str = "/_matrix/federation/v1/send/1";

/// How many requests are made at once, how large they are, and what each may cost.
const AT_ONCE: usize = 4;
const SIZE: usize = 2 * MIB;
const SHARE: usize = 8 * SIZE;

async fn scene(pool: &PgPool) -> (Hearth, Peer, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let hearth = Hearth::start_with(pool, &trusting(&authority), None).await;
    let peer = Peer::start(&authority, folder.path()).await;
    (hearth, peer, folder)
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_event_that_is_nested_too_deeply_is_dropped_alone(pool: PgPool) {
    let (hearth, peer, _folder) = scene(&pool).await;
    let room = ForeignRoom::new(&peer);
    let (room_id, carol) = (room.id.clone(), room.creator.clone());
    let room = Arc::new(Mutex::new(room));
    let told = Arc::clone(&room);
    peer.answer(move |question| told.lock().unwrap().admit(question));
    let alice = hearth.register("alice").await;
    let path = format!("/join/{room_id}?via={}", peer.name);
    hearth
        .ask("POST", &path, Some(&alice), Some(json!({})))
        .await;
    let topic = json!({ "topic": "tea" });
    let sender = (carol.as_str(), &peer.key);
    let good = room
        .lock()
        .unwrap()
        .set(sender, ("m.room.topic", ""), &topic);
    let deep = format!(
        "{{\"room_id\":\"{room_id}\",\"content\":{}{}}}",
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    let body = format!(
        "{{\"origin\":\"{}\",\"origin_server_ts\":1,\"pdus\":[{deep},{}]}}",
        peer.name, good.json
    );

    let sent = peer.send(&hearth, Method::PUT, TRANSACTION, body.into_bytes());
    let (status, answer) = sent.await;

    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["pdus"][&good.id], json!({}), "{answer}");
    let path = format!("/rooms/{room_id}/state/m.room.topic");
    let held = hearth.ask("GET", &path, Some(&alice), None).await;
    assert_eq!(held, topic);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn nobody_makes_requests_in_the_name_of_others(pool: PgPool) {
    let (hearth, peer, folder) = scene(&pool).await;
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let victim = Peer::start(&Authority::new(&elsewhere), &elsewhere).await;
    let path = "/_matrix/federation/v1/publicRooms";
    let request = (&Method::GET, path, &[] as &[u8]);

    for names in [
        (victim.name.as_str(), "localhost"),
        ("localhost", "localhost"),
        (peer.name.as_str(), "elsewhere.example"),
    ] {
        let header = peer.authorization(names, request);
        let sent = peer.send_under(&hearth, header, (Method::GET, path, Vec::new()));
        let (status, answer) = sent.await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{names:?}: {answer}");
    }
    let honest = peer.send(&hearth, Method::GET, path, Vec::new()).await;
    assert_eq!(honest.0, StatusCode::OK, "{}", honest.1);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn what_a_stranger_sends_costs_little(pool: PgPool) {
    let (hearth, peer, _folder) = scene(&pool).await;
    let list = |entry: &str| format!("[{}0]", entry.repeat(SIZE / entry.len()));
    let keys = (0..SIZE / 12).map(|number| format!("\"{number:x}\":0"));
    let bodies = [
        list("{\"\":0},"),
        list("[],"),
        list("0,"),
        format!("{{{}}}", keys.collect::<Vec<_>>().join(",")),
        "[".repeat(SIZE),
        "{\"b\":0,\"a\":".repeat(SIZE / 20) + "1" + &"}".repeat(SIZE / 20),
    ];

    for (number, body) in bodies.into_iter().enumerate() {
        let before = Usage::of(&hearth);
        let sent = (0..AT_ONCE).map(|_| {
            let header = peer.authorization(
                (peer.name.as_str(), "localhost"),
                (&Method::PUT, TRANSACTION, b"{}"),
            );
            let body = body.clone().into_bytes();
            peer.send_under(&hearth, header, (Method::PUT, TRANSACTION, body))
        });
        let (answers, most) = watch(&hearth, join_all(sent)).await;

        let more = most.memory.saturating_sub(before.memory);
        println!("body {number}: {more} bytes more in memory");
        for (status, answer) in answers {
            assert!(status.is_client_error(), "body {number}: {status} {answer}");
        }
        assert!(more < AT_ONCE * SHARE, "body {number}: {more}");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_body_has_a_largest_size(pool: PgPool) {
    let (hearth, peer, _folder) = scene(&pool).await;
    let names = (peer.name.as_str(), "localhost");
    let header = peer.authorization(names, (&Method::PUT, TRANSACTION, b"{}"));
    let request = (Method::PUT, TRANSACTION, vec![b' '; 11 * MIB]);

    let (status, answer) = peer.send_under(&hearth, header, request).await;

    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{answer}");
}
