//! What one server tells users of another.

use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use super::pair::{Pair, encode};

#[sqlx::test(migrations = false)]
async fn users_find_rooms_and_people_of_the_other_server(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let (host, guest) = (&pair.host, &pair.guest);
    let (alice, bob) = (host.register("alice").await, guest.register("bob").await);
    let body = json!({
        "preset": "public_chat", "visibility": "public", "room_alias_name": "tea", "name": "Tea",
    });
    let room = host.room(&alice, body).await;
    let path = format!("/profile/{}/displayname", encode(&alice.id));
    let body = json!({ "displayname": "Alice" });
    host.ask(&alice, "PUT", &path, Some(body)).await;

    let alias = encode(&format!("#tea:{}", host.name));
    let found = guest
        .ask(&bob, "GET", &format!("/directory/room/{alias}"), None)
        .await;
    assert_eq!(found["room_id"], room);
    assert_eq!(found["servers"], json!([host.name]));

    let path = format!("/publicRooms?server={}", encode(&host.name));
    let list = guest.ask(&bob, "GET", &path, None).await;
    assert_eq!(list["chunk"][0]["name"], "Tea");

    let path = format!("/profile/{}", encode(&alice.id));
    let profile = guest.ask(&bob, "GET", &path, None).await;
    assert_eq!(profile["displayname"], "Alice");
    let path = format!("/profile/{}", encode(&format!("@nobody:{}", host.name)));
    let (status, _) = guest.send(Some(&bob), "GET", &path, None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn a_room_of_a_space_appears_once_its_server_knows_who_is_in_the_space(pool: PgPool) {
    let pair = Pair::start(pool).await;
    let (host, guest) = (&pair.host, &pair.guest);
    let (alice, bob) = (host.register("alice").await, guest.register("bob").await);
    let body = json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } });
    let space = host.room(&alice, body).await;
    let rule = json!({
        "join_rule": "restricted",
        "allow": [{ "type": "m.room_membership", "room_id": space }],
    });
    let body = json!({
        "preset": "public_chat",
        "initial_state": [{ "type": "m.room.join_rules", "state_key": "", "content": rule }],
    });
    let room = guest.room(&bob, body).await;
    let path = format!(
        "/rooms/{}/state/m.space.child/{}",
        encode(&space),
        encode(&room)
    );
    let body = json!({ "via": [guest.name] });
    host.ask(&alice, "PUT", &path, Some(body)).await;
    let path = format!("/_matrix/client/v1/rooms/{}/hierarchy", encode(&space));
    let found = async || {
        let answer = host.ask(&alice, "GET", &path, None).await;
        let rooms = answer["rooms"].as_array().unwrap().clone();
        rooms.iter().any(|found| found["room_id"] == room)
    };
    assert!(!found().await);

    guest.join(&bob, &space, &host.name).await;

    assert!(found().await);
    pair.end().await;
}
