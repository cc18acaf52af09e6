//! `/initialSync`

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    chat::{encode, ids},
    server::{TestServer, User},
};

impl TestServer {
    /// What `/initialSync` says, and the rooms in it by their ids.
    async fn initial_sync(&self, user: &User, query: &str) -> (Value, BTreeMap<String, Value>) {
        let (status, body) = self.get(user, &format!("/initialSync{query}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let rooms = body["rooms"].as_array().unwrap().iter();
        let rooms = rooms.map(|room| (room["room_id"].as_str().unwrap().to_owned(), room.clone()));
        let rooms = rooms.collect();
        (body, rooms)
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn everything_comes_at_once_and_goes_on_with_events(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let body = json!({ "preset": "public_chat", "visibility": "public" });
    let room = server.create_room(&alice, body).await;
    let one = server.say(&alice, &room, "one").await;
    let two = server.say(&alice, &room, "two").await;
    for place in [String::new(), format!("/rooms/{room}")] {
        let path = format!("/user/{}{place}/account_data/x.y", alice.id);
        let (status, _) = server.put(&alice, &path, json!({ "at": place })).await;
        assert_eq!(status, StatusCode::OK);
    }

    let (body, rooms) = server.initial_sync(&alice, "?limit=2").await;

    assert!(body["presence"].is_array(), "{body}");
    let global = body["account_data"].as_array().unwrap();
    assert!(global.contains(&json!({ "type": "x.y", "content": { "at": "" } })));
    let info = &rooms[&room];
    assert_eq!(info["membership"], "join");
    assert_eq!(info["visibility"], "public");
    assert_eq!(info["account_data"][0]["type"], "x.y");
    assert_eq!(ids(&info["messages"]["chunk"]), [&*one, &*two]);
    assert_eq!(info["messages"]["chunk"][0]["room_id"], room.as_str());
    let state = info["state"].as_array().unwrap();
    assert!(
        state
            .iter()
            .any(|event| event["type"] == "m.room.create" && event["room_id"] == room.as_str())
    );

    let start = encode(info["messages"]["start"].as_str().unwrap());
    let query = format!("dir=b&limit=100&from={start}");
    let (_, earlier) = server.messages(&alice, &room, &query).await;
    let earlier = ids(&earlier["chunk"]);
    assert!(!earlier.is_empty() && !earlier.contains(&&*one));
    let three = server.say(&alice, &room, "three").await;
    let from = encode(body["end"].as_str().unwrap());
    let path = format!("/events?room_id={}&from={from}&timeout=0", encode(&room));
    let (_, later) = server.get(&alice, &path).await;
    assert_eq!(ids(&later["chunk"]), [&*three]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_invited_user_sees_the_invite_and_nothing_of_the_room(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let body = json!({ "preset": "private_chat", "invite": [bob.id] });
    let room = server.create_room(&alice, body).await;

    let (_, rooms) = server.initial_sync(&bob, "").await;

    let info = &rooms[&room];
    assert_eq!(info["membership"], "invite");
    assert_eq!(info["visibility"], "private");
    assert_eq!(info["invite"]["state_key"], bob.id.as_str());
    assert_eq!(info["invite"]["content"]["membership"], "invite");
    assert!(info["invite"]["event_id"].is_string());
    assert!(info.get("messages").is_none() && info.get("state").is_none());
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn rooms_that_were_left_come_when_archived_ones_are_wanted(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let left = server.create_public_room(&alice).await;
    let banned = server.create_public_room(&alice).await;
    let refused = server
        .create_room(
            &alice,
            json!({ "preset": "private_chat", "invite": [bob.id] }),
        )
        .await;
    for room in [&left, &banned] {
        server.join(&bob, room).await;
    }
    server.leave(&bob, &left).await;
    server.leave(&bob, &refused).await;
    let path = format!("/rooms/{banned}/ban");
    let body = json!({ "user_id": bob.id });
    let (status, _) = server.post(&alice, &path, body).await;
    assert_eq!(status, StatusCode::OK);
    let later = server.say(&alice, &left, "later").await;

    let (_, without) = server.initial_sync(&bob, "").await;
    let (_, with) = server.initial_sync(&bob, "?archived=true&limit=500").await;

    assert!(without.is_empty(), "{without:?}");
    assert_eq!(with[&left]["membership"], "leave");
    assert_eq!(with[&banned]["membership"], "ban");
    assert_eq!(with[&refused]["membership"], "leave");
    assert!(!ids(&with[&left]["messages"]["chunk"]).contains(&&*later));
    assert!(!with[&left]["state"].as_array().unwrap().is_empty());
    assert!(with[&refused].get("state").is_none());
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_limit_that_is_no_number_is_refused(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;

    let (status, body) = server.get(&alice, "/initialSync?limit=-1").await;

    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert_eq!(body["errcode"], "M_INVALID_PARAM");
}
