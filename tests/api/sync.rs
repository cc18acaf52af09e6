//! `/sync`: rooms

use std::collections::HashSet;

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    chat::{encode, ids},
    server::{TestServer, User},
};

impl TestServer {
    /// What is new for a user, with everything in the query.
    pub(crate) async fn sync_with(&self, user: &User, query: &str) -> Value {
        let (status, body) = self.get(user, &format!("/sync?{query}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// What is new for a user since an answer.
    pub(crate) async fn sync_since(&self, user: &User, before: &Value) -> Value {
        self.sync_with(user, &since(before)).await
    }
}

/// `since` of an answer.
pub(crate) fn since(answer: &Value) -> String {
    format!("since={}", answer["next_batch"].as_str().unwrap())
}

/// `filter` as it stands in a query.
pub(crate) fn filter(filter: &Value) -> String {
    format!("filter={}", encode(&filter.to_string()))
}

/// The types of events.
pub(crate) fn types(events: &Value) -> Vec<&str> {
    let events = events.as_array().unwrap();
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

/// Whose member events are among events.
pub(crate) fn members(events: &Value) -> HashSet<&str> {
    let events = events.as_array().unwrap().iter();
    events
        .filter(|event| event["type"] == "m.room.member")
        .map(|event| event["state_key"].as_str().unwrap())
        .collect()
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_first_sync_tells_everything_and_the_next_what_is_new(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let hello = server.say(&bob, &room, "hello").await;

    let first = server.sync_with(&alice, "").await;

    let joined = &first["rooms"]["join"][&room];
    let timeline = &joined["timeline"];
    assert_eq!(ids(&timeline["events"]).last(), Some(&hello.as_str()));
    assert_eq!(joined["summary"]["m.joined_member_count"], 2);
    assert_eq!(joined["summary"]["m.heroes"], json!([bob.id]));
    assert_eq!(joined["unread_notifications"]["notification_count"], 1);
    let all = [
        types(&joined["state"]["events"]),
        types(&timeline["events"]),
    ]
    .concat();
    assert!(all.contains(&"m.room.create"), "{first}");
    let push_rules = |event: &Value| event["type"] == "m.push_rules";
    let account_data = first["account_data"]["events"].as_array().unwrap();
    assert!(account_data.iter().any(push_rules));
    assert_eq!(first["device_one_time_keys_count"]["signed_curve25519"], 0);

    let quiet = server.sync_since(&alice, &first).await;
    assert!(quiet["rooms"]["join"].get(&room).is_none(), "{quiet}");

    let again = server.say(&bob, &room, "again").await;
    let second = server.sync_since(&alice, &first).await;
    let joined = &second["rooms"]["join"][&room];
    assert_eq!(ids(&joined["timeline"]["events"]), [again]);
    assert_eq!(joined["timeline"]["limited"], false);
    assert_eq!(joined["state"]["events"], json!([]));
    assert!(joined.get("summary").is_none());
    assert_eq!(joined["unread_notifications"]["notification_count"], 2);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_long_timeline_is_cut_and_goes_on_where_it_was(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let before = server.sync_with(&alice, "").await;
    let mut sent = Vec::new();
    for n in 0..15 {
        sent.push(server.say(&alice, &room, &n.to_string()).await);
        if n == 2 {
            let name = json!({ "name": "in the gap" });
            let path = format!("/rooms/{room}/state/m.room.name");
            server.put(&alice, &path, name).await;
        }
    }

    let after = server.sync_since(&alice, &before).await;

    let joined = &after["rooms"]["join"][&room];
    assert_eq!(ids(&joined["timeline"]["events"]), sent[5..]);
    assert_eq!(joined["timeline"]["limited"], true);
    assert_eq!(types(&joined["state"]["events"]), ["m.room.name"]);
    let prev_batch = joined["timeline"]["prev_batch"].as_str().unwrap();
    let query = format!("dir=b&limit=2&from={prev_batch}");
    let (_, page) = server.messages(&alice, &room, &query).await;
    assert_eq!(ids(&page["chunk"]), [sent[4].as_str(), &sent[3]]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_room_that_is_new_comes_whole(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    let before = server.sync_with(&bob, "").await;
    for n in 0..12 {
        server.say(&alice, &room, &n.to_string()).await;
    }
    server.join(&bob, &room).await;

    let after = server.sync_since(&bob, &before).await;

    let joined = &after["rooms"]["join"][&room];
    assert_eq!(joined["timeline"]["limited"], true);
    assert!(types(&joined["state"]["events"]).contains(&"m.room.create"));
    let last = joined["timeline"]["events"].as_array().unwrap().last();
    assert_eq!(last.unwrap()["state_key"], bob.id);
    let changed = &after["device_lists"]["changed"];
    assert!(changed.as_array().unwrap().contains(&json!(alice.id)));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn invites_knocks_and_what_became_of_them(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let body = json!({ "preset": "private_chat", "name": "Tea", "invite": [bob.id] });
    let room = server.create_room(&alice, body).await;

    let first = server.sync_with(&bob, "").await;
    let state = &first["rooms"]["invite"][&room]["invite_state"]["events"];
    assert!(types(state).contains(&"m.room.name"), "{first}");

    server.leave(&bob, &room).await;
    let second = server.sync_since(&bob, &first).await;
    assert!(second["rooms"]["leave"].get(&room).is_some(), "{second}");
    assert!(second["rooms"].get("invite").is_none());
    let timeline = &second["rooms"]["leave"][&room]["timeline"]["events"];
    assert_eq!(members(timeline), HashSet::from([bob.id.as_str()]));
    assert_eq!(
        second["rooms"]["leave"][&room]["state"]["events"],
        json!([])
    );

    let quiet = server.sync_since(&bob, &second).await;
    assert!(quiet.get("rooms").is_none(), "{quiet}");

    let rule = json!({ "join_rule": "knock" });
    let path = format!("/rooms/{room}/state/m.room.join_rules");
    server.put(&alice, &path, rule).await;
    let (status, _) = server
        .post(&bob, &format!("/knock/{room}"), json!({}))
        .await;
    assert_eq!(status, StatusCode::OK);
    let third = server.sync_since(&bob, &quiet).await;
    let state = &third["rooms"]["knock"][&room]["knock_state"]["events"];
    assert!(types(state).contains(&"m.room.member"), "{third}");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_invite_to_a_room_that_all_have_left_is_turned_down(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let body = json!({ "preset": "private_chat", "invite": [bob.id] });
    let room = server.create_room(&alice, body).await;
    let invited = server.sync_with(&bob, "").await;
    assert!(invited["rooms"]["invite"].get(&room).is_some());
    server.leave(&alice, &room).await;

    server.leave(&bob, &room).await;

    let left = server.sync_since(&bob, &invited).await;
    assert!(left["rooms"].get("invite").is_none(), "{left}");
    let events = &left["rooms"]["leave"][&room]["timeline"]["events"];
    assert_eq!(events[0]["state_key"], bob.id);
    assert_eq!(events[0]["content"]["membership"], "leave");
    assert!(events.get(1).is_none());
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_is_thrown_out_sees_it_and_nothing_later(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let first = server.sync_with(&bob, "").await;
    let last = server.say(&alice, &room, "last words").await;
    let ban = json!({ "user_id": bob.id });
    server
        .post(&alice, &format!("/rooms/{room}/ban"), ban)
        .await;
    server.say(&alice, &room, "behind the back").await;

    let second = server.sync_since(&bob, &first).await;

    let left = &second["rooms"]["leave"][&room];
    let timeline = left["timeline"]["events"].as_array().unwrap();
    assert_eq!(timeline[0]["event_id"], last);
    assert_eq!(timeline[1]["content"]["membership"], "ban");
    assert_eq!(timeline.len(), 2);

    let unban = json!({ "user_id": bob.id });
    server
        .post(&alice, &format!("/rooms/{room}/unban"), unban)
        .await;
    server.join(&bob, &room).await;
    let third = server.sync_since(&bob, &second).await;
    let joined = &third["rooms"]["join"][&room];
    assert!(types(&joined["state"]["events"]).contains(&"m.room.create"));
    assert!(third["rooms"].get("leave").is_none());
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn rooms_that_were_left_are_shown_to_who_asks(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    server.leave(&bob, &room).await;
    server.say(&alice, &room, "later").await;
    let all = filter(&json!({ "room": { "include_leave": true } }));

    let without = server.sync_with(&bob, "").await;
    let with = server.sync_with(&bob, &all).await;
    let later = server
        .sync_with(&bob, &format!("{all}&{}", since(&with)))
        .await;

    assert!(without.get("rooms").is_none(), "{without}");
    let timeline = &with["rooms"]["leave"][&room]["timeline"]["events"];
    let last = timeline.as_array().unwrap().last().unwrap();
    assert_eq!(last["content"]["membership"], "leave");
    assert!(later.get("rooms").is_none(), "{later}");

    let (status, _) = server
        .post(&bob, &format!("/rooms/{room}/forget"), json!({}))
        .await;
    assert_eq!(status, StatusCode::OK);
    let forgotten = server.sync_with(&bob, &all).await;
    assert!(forgotten.get("rooms").is_none(), "{forgotten}");
    let later = server
        .sync_with(&bob, &format!("{all}&{}", since(&later)))
        .await;
    assert!(later.get("rooms").is_none(), "{later}");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_forgets_a_room_at_once_is_still_told_of_the_leave(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let before = server.sync_with(&bob, "").await;

    server.leave(&bob, &room).await;
    server
        .post(&bob, &format!("/rooms/{room}/forget"), json!({}))
        .await;
    server.say(&alice, &room, "later").await;

    let after = server.sync_with(&bob, &since(&before)).await;
    let timeline = &after["rooms"]["leave"][&room]["timeline"]["events"];
    let timeline = timeline.as_array().unwrap();
    assert_eq!(timeline.len(), 1, "{after}");
    assert_eq!(timeline[0]["content"]["membership"], "leave");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn every_event_is_seen_once_while_many_send(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let (tasks, messages) = (20, 5);
    let mut last = server.sync_with(&alice, "").await;
    let sender = async |task: usize| {
        let mut sent = Vec::new();
        for n in 0..messages {
            sent.push(server.say(&alice, &room, &format!("{task}-{n}")).await);
        }
        sent
    };
    let senders = futures_util::future::join_all((0..tasks).map(sender));
    let reader = async {
        let mut seen = Vec::new();
        let wide = filter(&json!({ "room": { "timeline": { "limit": 1000 } } }));
        while seen.len() < tasks * messages {
            let query = format!("timeout=10000&{wide}&{}", since(&last));
            last = server.sync_with(&alice, &query).await;
            let joined = &last["rooms"]["join"][&room];
            assert!(joined.is_object(), "nothing came: {last}");
            assert_eq!(joined["timeline"]["limited"], false);
            let new = ids(&joined["timeline"]["events"]);
            seen.extend(new.into_iter().map(ToOwned::to_owned));
        }
        seen
    };

    let (sent, seen) = tokio::join!(senders, reader);

    let sent: HashSet<String> = sent.into_iter().flatten().collect();
    assert_eq!(seen.len(), sent.len());
    assert_eq!(HashSet::from_iter(seen), sent);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_left_room_has_the_state_of_the_leave(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let first = server.sync_with(&bob, "").await;
    let path = format!("/rooms/{room}/state/m.room.topic");
    server
        .put(&alice, &path, json!({ "topic": "before" }))
        .await;
    server.leave(&bob, &room).await;
    server.put(&alice, &path, json!({ "topic": "after" })).await;
    let bare = filter(&json!({ "room": { "include_leave": true, "timeline": { "limit": 0 } } }));
    let next = format!("{bare}&{}", since(&first));

    for query in [bare.clone(), next] {
        let answer = server.sync_with(&bob, &query).await;
        let left = &answer["rooms"]["leave"][&room];
        assert_eq!(left["timeline"]["events"], json!([]), "{query}");
        let state = left["state"]["events"].as_array().unwrap();
        let topic = state.iter().find(|event| event["type"] == "m.room.topic");
        assert_eq!(topic.unwrap()["content"]["topic"], "before");
        let own = state.iter().find(|event| event["state_key"] == bob.id);
        assert_eq!(own.unwrap()["content"]["membership"], "leave");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_comes_and_goes_changes_the_summary(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server
        .create_room(
            &alice,
            json!({ "preset": "public_chat", "invite": [bob.id] }),
        )
        .await;
    let summary = |answer: &Value| answer["rooms"]["join"][&room]["summary"].clone();

    let first = server.sync_with(&alice, "").await;
    assert_eq!(
        summary(&first),
        json!({ "m.heroes": [bob.id], "m.joined_member_count": 1, "m.invited_member_count": 1 })
    );

    server.join(&bob, &room).await;
    let second = server.sync_since(&alice, &first).await;
    assert_eq!(
        summary(&second),
        json!({ "m.heroes": [bob.id], "m.joined_member_count": 2, "m.invited_member_count": 0 })
    );

    server.leave(&bob, &room).await;
    let third = server.sync_since(&alice, &second).await;
    assert_eq!(
        summary(&third),
        json!({ "m.heroes": [bob.id], "m.joined_member_count": 1, "m.invited_member_count": 0 })
    );
}
