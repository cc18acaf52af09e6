//! What servers read of each other's rooms.

use std::slice::from_ref;

use hearth_rooms::{PeerError, Preset, peers::MissingEvents};
use hearth_store::{MIGRATOR, timeline::Towards};
use ruma::{RoomVersionId, server_name};
use serde_json::json;
use sqlx::PgPool;

use crate::server::Server;

#[sqlx::test(migrator = "MIGRATOR")]
async fn strangers_read_nothing(pool: PgPool) {
    let [here] = Server::start_all(pool, ["here.org"]).await;
    let ann = here.user("ann").await;
    let tea = here
        .create(&ann, RoomVersionId::V12, Preset::Public, vec![])
        .await;
    let hello = here.say(&tea, &ann, "hello").await;
    let id = &hello.pdu.event_id;
    let (rooms, stranger) = (&here.rooms, server_name!("stranger.org"));
    let missing = MissingEvents {
        room_id: tea.clone(),
        earliest: vec![],
        latest: vec![id.clone()],
        limit: 10,
        min_depth: 0,
    };

    let refusals = [
        rooms.event_for(stranger, id).await.err(),
        rooms.state_before(stranger, &tea, id).await.err(),
        rooms.state_ids_before(stranger, &tea, id).await.err(),
        rooms.auth_chain_for(stranger, &tea, id).await.err(),
        rooms
            .history_for(stranger, &tea, from_ref(id), 10)
            .await
            .err(),
        rooms.missing_events_for(stranger, &missing).await.err(),
        rooms
            .closest_for(stranger, &tea, 0, Towards::Later)
            .await
            .err(),
    ];

    for refusal in refusals {
        assert!(
            matches!(refusal, Some(PeerError::Forbidden(_))),
            "{refusal:?}"
        );
    }
    here.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn history_is_read_back_to_its_beginning(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Public, vec![])
        .await;
    let mut said = Vec::new();
    for number in 0..20 {
        said.push(there.say(&tea, &bob, &number.to_string()).await);
    }
    let via = from_ref(&there.name);
    here.rooms.join_by_id(&tea, via, &ann).await.unwrap();
    let last = said[19].pdu.event_id.clone();

    let part = there
        .rooms
        .history_for(&here.name, &tea, from_ref(&last), 5)
        .await
        .unwrap();
    let all = there
        .rooms
        .history_for(&here.name, &tea, &[last], 1_000)
        .await
        .unwrap();

    let ids = |events: &[std::sync::Arc<hearth_rooms::RoomEvent>]| -> Vec<_> {
        events.iter().map(|e| e.pdu.event_id.clone()).collect()
    };
    let mut newest = ids(&said[15..]);
    newest.reverse();
    assert_eq!(ids(&part), newest);
    let first = all.last().unwrap();
    assert_eq!(first.pdu.kind.to_string(), "m.room.create");
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn missing_events_are_those_in_between_oldest_first(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Public, vec![])
        .await;
    let via = from_ref(&there.name);
    here.rooms.join_by_id(&tea, via, &ann).await.unwrap();
    let mut said = Vec::new();
    for number in 0..6 {
        said.push(there.say(&tea, &bob, &number.to_string()).await);
    }
    let id = |at: usize| said[at].pdu.event_id.clone();
    let mut wanted = MissingEvents {
        room_id: tea.clone(),
        earliest: vec![id(1)],
        latest: vec![id(5)],
        limit: 10,
        min_depth: 0,
    };

    let between = there.rooms.missing_events_for(&here.name, &wanted).await;
    let ids: Vec<_> = between
        .unwrap()
        .iter()
        .map(|e| e.pdu.event_id.clone())
        .collect();
    assert_eq!(ids, [id(2), id(3), id(4)]);

    wanted.limit = 2;
    let last = there.rooms.missing_events_for(&here.name, &wanted).await;
    let ids: Vec<_> = last
        .unwrap()
        .iter()
        .map(|e| e.pdu.event_id.clone())
        .collect();
    assert_eq!(ids, [id(3), id(4)]);

    wanted.limit = 10;
    wanted.min_depth = said[4].pdu.depth;
    let deep = there.rooms.missing_events_for(&here.name, &wanted).await;
    let ids: Vec<_> = deep
        .unwrap()
        .iter()
        .map(|e| e.pdu.event_id.clone())
        .collect();
    assert_eq!(ids, [id(4)]);
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_was_said_before_a_server_came_is_hidden_where_only_members_see_it(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let hidden = json!({ "history_visibility": "joined" });
    let rules = vec![("m.room.history_visibility", hidden)];
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Public, rules)
        .await;
    let secret = there.say(&tea, &bob, "secret").await;
    let via = from_ref(&there.name);
    here.rooms.join_by_id(&tea, via, &ann).await.unwrap();
    let open = there.say(&tea, &bob, "open").await;

    let read = async |event: &hearth_rooms::RoomEvent| {
        let id = &event.pdu.event_id;
        there.rooms.event_for(&here.name, id).await.unwrap()
    };
    assert_eq!(read(&secret).await.pdu.content.get(), "{}");
    assert!(read(&open).await.pdu.content.get().contains("open"));
    let from = from_ref(&open.pdu.event_id);
    let history = there.rooms.history_for(&here.name, &tea, from, 100).await;
    let history = history.unwrap();
    assert!(
        history
            .iter()
            .any(|e| e.pdu.event_id == secret.pdu.event_id)
    );
    assert!(!history.iter().any(|e| e.pdu.json.get().contains("secret")));
    let ts = i64::try_from(u64::from(secret.pdu.origin_server_ts.get())).unwrap();
    let closest = there
        .rooms
        .closest_for(&here.name, &tea, ts, Towards::Later)
        .await
        .unwrap();
    assert_ne!(closest.pdu.event_id, secret.pdu.event_id);
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_state_before_an_event_comes_with_what_authorises_it(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let tea = there
        .create(&bob, RoomVersionId::V11, Preset::Public, vec![])
        .await;
    let via = from_ref(&there.name);
    here.rooms.join_by_id(&tea, via, &ann).await.unwrap();
    let before = there.state(&tea).await;
    let topic = there
        .set(&tea, &bob, "m.room.topic", json!({ "topic": "tea" }))
        .await;
    let id = &topic.pdu.event_id;

    let ids = there
        .rooms
        .state_ids_before(&here.name, &tea, id)
        .await
        .unwrap();
    let whole = there
        .rooms
        .state_before(&here.name, &tea, id)
        .await
        .unwrap();

    assert_eq!(
        ids.state
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>(),
        before
    );
    assert_eq!(whole.state.len(), before.len());
    let kinds: Vec<String> = whole
        .auth_chain
        .iter()
        .map(|event| event.pdu.kind.to_string())
        .collect();
    assert!(kinds.contains(&"m.room.create".to_owned()));
    let chain = there
        .rooms
        .auth_chain_for(&here.name, &tea, id)
        .await
        .unwrap();
    assert!(
        topic
            .pdu
            .auth_events
            .iter()
            .all(|id| chain.iter().any(|e| e.pdu.event_id == *id))
    );
    here.end().await;
    there.end().await;
}
