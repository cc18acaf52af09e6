//! Knocking on rooms of other servers.

use std::slice::from_ref;

use hearth_rooms::Preset;
use hearth_store::MIGRATOR;
use ruma::RoomVersionId;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::server::Server;

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_knocks_is_told_of_the_room_and_let_in(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let rules = vec![("m.room.join_rules", json!({ "join_rule": "knock" }))];
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Private, rules)
        .await;

    let via = from_ref(&there.name);
    here.rooms
        .knock_by_id(&tea, via, &ann, Some("please"))
        .await
        .unwrap();

    assert_eq!(there.in_state(&tea, &ann).await, "knock");
    let row = here.row(&tea, &ann).await.unwrap();
    assert_eq!(row.membership, "knock");
    let told: Vec<Value> = serde_json::from_str(&row.stripped.unwrap()).unwrap();
    assert!(told.iter().any(|event| event["type"] == "m.room.name"));
    assert_eq!(told.last().unwrap()["content"]["reason"], "please");

    let room = there.room(&tea).await;
    let inviting = there.rooms.invite(&room, &bob.user_id, &ann, None);
    inviting.await.unwrap();
    assert_eq!(here.membership(&tea, &ann).await, "invite");
    here.rooms.join_by_id(&tea, &[], &ann).await.unwrap();
    assert_eq!(there.in_state(&tea, &ann).await, "join");
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_knock_is_taken_back(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let rules = vec![("m.room.join_rules", json!({ "join_rule": "knock" }))];
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Private, rules)
        .await;
    let via = from_ref(&there.name);
    here.rooms.knock_by_id(&tea, via, &ann, None).await.unwrap();

    let room = here.room(&tea).await;
    here.rooms.leave(&room, &ann.user_id, None).await.unwrap();

    assert_eq!(here.membership(&tea, &ann).await, "leave");
    assert_eq!(there.in_state(&tea, &ann).await, "leave");
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn nobody_knocks_on_a_room_that_does_not_want_it(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Private, vec![])
        .await;

    let via = from_ref(&there.name);
    let knocked = here.rooms.knock_by_id(&tea, via, &ann, None).await;

    assert!(knocked.is_err());
    assert_eq!(here.membership(&tea, &ann).await, "");
    here.end().await;
    there.end().await;
}
