//! Reading what was said before this server came.

use std::{slice::from_ref, sync::Arc};

use hearth_core::token::PageToken;
use hearth_rooms::{Filter, Member, Page, PageRequest, Preset, Receiver, RoomEvent};
use hearth_store::MIGRATOR;
use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId, api::Direction};
use serde_json::json;
use sqlx::PgPool;

use crate::server::Server;

/// A page of history, back from the end.
async fn page(server: &Server, room_id: &OwnedRoomId, user: &Member, limit: usize) -> Page {
    page_from(server, room_id, user, (None, limit)).await
}

/// A page of history, back from a token.
async fn page_from(
    server: &Server,
    room_id: &OwnedRoomId,
    user: &Member,
    (from, limit): (Option<PageToken>, usize),
) -> Page {
    let room = server.room(room_id).await;
    let receiver = Receiver {
        user: server.rooms.interner().user(&user.user_id).await.unwrap(),
        user_id: user.user_id.clone(),
        device_id: None,
        ignored: Arc::default(),
    };
    let request = PageRequest {
        direction: Direction::Backward,
        from,
        to: None,
        ceiling: None,
        limit,
        filter: &Filter::default(),
    };
    server.rooms.page(&room, &receiver, &request).await.unwrap()
}

fn ids(events: &[Arc<RoomEvent>]) -> Vec<OwnedEventId> {
    events.iter().map(|e| e.pdu.event_id.clone()).collect()
}

/// A room of Bob's where thirty things were said before Ann came.
async fn scene(pool: PgPool) -> (Server, Server, Member, OwnedRoomId, Vec<Arc<RoomEvent>>) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Public, vec![])
        .await;
    let mut said = Vec::new();
    for number in 0..30 {
        said.push(there.say(&tea, &bob, &number.to_string()).await);
        if number == 15 {
            let topic = json!({ "topic": "half" });
            said.push(there.set(&tea, &bob, "m.room.topic", topic).await);
        }
    }
    here.rooms
        .join_by_id(&tea, from_ref(&there.name), &ann)
        .await
        .unwrap();
    (here, there, ann, tea, said)
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn history_goes_back_to_the_beginning_of_the_room(pool: PgPool) {
    let (here, there, ann, tea, mut said) = scene(pool).await;

    let page = page(&here, &tea, &ann, 100).await;

    said.reverse();
    let found = ids(&page.events);
    assert_eq!(&found[1..=said.len()], ids(&said));
    let first = page.events.last().unwrap();
    assert_eq!(first.pdu.kind.to_string(), "m.room.create");
    let orders: Vec<i64> = page
        .events
        .iter()
        .filter_map(|e| e.stream_order())
        .collect();
    assert!(orders.is_sorted_by(|later, earlier| later > earlier));
    assert!(orders[1..].iter().all(|order| *order < 0));
    here.end().await;
    there.end().await;
}

/// A page waits for one answer of another server; where that does not tell of everything, the page says where to go on.
#[sqlx::test(migrator = "MIGRATOR")]
async fn long_history_comes_page_by_page(pool: PgPool) {
    let (here, there, ann, tea, mut said) = scene(pool).await;
    let bob = there.user("bob").await;
    here.wire.cut(&there.name);
    let empty = page(&here, &tea, &ann, 1_000).await;
    assert_eq!(empty.end, None, "what nobody has is not promised");
    here.wire.mend(&there.name);
    let other = there
        .create(&bob, RoomVersionId::V12, Preset::Public, vec![])
        .await;
    said.clear();
    for number in 0..150 {
        said.push(there.say(&other, &bob, &number.to_string()).await);
    }
    here.rooms
        .join_by_id(&other, from_ref(&there.name), &ann)
        .await
        .unwrap();

    let mut found = Vec::new();
    let mut from = None;
    let mut pages = 0;
    loop {
        let page = page_from(&here, &other, &ann, (from, 1_000)).await;
        found.extend(ids(&page.events));
        pages += 1;
        from = page.end;
        if from.is_none() {
            break;
        }
    }

    assert_eq!(pages, 2);
    said.reverse();
    assert_eq!(found[1..=said.len()], ids(&said));
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_state_of_the_past_is_that_of_its_time(pool: PgPool) {
    let (here, there, ann, tea, said) = scene(pool).await;
    page(&here, &tea, &ann, 100).await;

    for event in said {
        let ours = here.event(&event.pdu.event_id).await.unwrap();
        let mut states = Vec::new();
        for (server, event) in [(&here, ours), (&there, event)] {
            let state = server
                .rooms
                .snapshot(event.snapshot.unwrap())
                .await
                .unwrap();
            let mut state = ids(&server.rooms.state_events(&state).await.unwrap());
            state.sort();
            states.push(state);
        }
        assert_eq!(states[0], states[1]);
    }
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_present_is_not_moved_by_the_past(pool: PgPool) {
    let (here, there, ann, tea, _) = scene(pool).await;
    let state = here.state(&tea).await;
    let join = here.member_event(&tea, &ann).await.unwrap();

    page(&here, &tea, &ann, 100).await;

    assert_eq!(here.state(&tea).await, state);
    let next = here.say(&tea, &ann, "next").await;
    assert_eq!(next.pdu.prev_events, from_ref(&join.pdu.event_id));
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn history_ends_where_nobody_answers(pool: PgPool) {
    let (here, there, ann, tea, _) = scene(pool).await;
    here.wire.cut(&there.name);

    let page = page(&here, &tea, &ann, 100).await;

    assert_eq!(page.events.len(), 1);
    here.end().await;
    there.end().await;
}

/// A server that does not know our newest event does not stop at it, and tells of what was before we came.
#[sqlx::test(migrator = "MIGRATOR")]
async fn what_was_before_a_join_is_no_news_after_an_outage(pool: PgPool) {
    let (here, there, ann, tea, said) = scene(pool).await;
    let bob = there.user("bob").await;
    let join = here.member_event(&tea, &ann).await.unwrap();
    here.say(&tea, &ann, "only we know of this").await;
    let missed = there.say(&tea, &bob, "missed").await;
    let heard = there.say(&tea, &bob, "heard").await;

    here.hear(&there, &heard).await;

    let order = join.stream_order().unwrap();
    for event in [missed, heard] {
        let event = here.event(&event.pdu.event_id).await.unwrap();
        assert!(event.stream_order().unwrap() > order);
    }
    for event in said {
        let ours = here.event(&event.pdu.event_id).await;
        let place = ours.and_then(|event| event.stream_order());
        assert_eq!(place, None, "{}", event.pdu.json);
    }
    here.end().await;
    there.end().await;
}
