//! `/sync`: what clients want to see

use std::collections::HashSet;

use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    chat::ids,
    server::TestServer,
    sync::{filter, members, since, types},
};

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn filters_leave_events_out_and_the_state_keeps_what_they_changed(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let other = server.create_public_room(&alice).await;
    let wanted = filter(&json!({ "room": {
        "not_rooms": [other],
        "timeline": { "types": ["m.room.mess*"], "limit": 5 },
    } }));
    let first = server.sync_with(&alice, &wanted).await;
    assert!(first["rooms"]["join"].get(&other).is_none());
    assert!(types(&first["rooms"]["join"][&room]["state"]["events"]).contains(&"m.room.create"));

    let topic = json!({ "topic": "new" });
    let path = format!("/rooms/{room}/state/m.room.topic");
    server.put(&alice, &path, topic).await;
    let said = server.say(&alice, &room, "x").await;
    let second = server
        .sync_with(&alice, &format!("{wanted}&{}", since(&first)))
        .await;

    let joined = &second["rooms"]["join"][&room];
    assert_eq!(ids(&joined["timeline"]["events"]), [said]);
    assert_eq!(types(&joined["state"]["events"]), ["m.room.topic"]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_event_is_written_as_the_filter_says(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    server.say(&alice, &room, "x").await;
    let fields =
        json!({ "event_fields": ["content.body"], "room": { "timeline": { "limit": 1 } } });
    let federation =
        json!({ "event_format": "federation", "room": { "timeline": { "limit": 1 } } });

    let fields = server.sync_with(&alice, &filter(&fields)).await;
    let federation = server.sync_with(&alice, &filter(&federation)).await;

    let events = |answer: &Value| answer["rooms"]["join"][&room]["timeline"]["events"].clone();
    assert_eq!(events(&fields), json!([{ "content": { "body": "x" } }]));
    assert!(events(&federation)[0]["hashes"].is_object());
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn all_state_is_sent_again_to_who_asks(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let first = server.sync_with(&alice, "").await;

    let query = format!("full_state=true&timeout=10000&{}", since(&first));
    let full = server.sync_with(&alice, &query).await;

    let joined = &full["rooms"]["join"][&room];
    assert_eq!(joined["timeline"]["events"], json!([]));
    assert!(types(&joined["state"]["events"]).contains(&"m.room.create"));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_state_after_the_timeline_holds_what_the_timeline_changes(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let first = server.sync_with(&alice, "use_state_after=true").await;
    let topic = json!({ "topic": "new" });
    let path = format!("/rooms/{room}/state/m.room.topic");
    server.put(&alice, &path, topic).await;

    let stable = format!("use_state_after=true&{}", since(&first));
    let stable = server.sync_with(&alice, &stable).await;
    let unstable = format!("org.matrix.msc4222.use_state_after=true&{}", since(&first));
    let unstable = server.sync_with(&alice, &unstable).await;

    let after = &first["rooms"]["join"][&room]["state_after"]["events"];
    assert!(types(after).contains(&"m.room.member"));
    let joined = &stable["rooms"]["join"][&room];
    assert_eq!(types(&joined["state_after"]["events"]), ["m.room.topic"]);
    assert_eq!(types(&joined["timeline"]["events"]), ["m.room.topic"]);
    assert!(joined.get("state").is_none());
    let joined = &unstable["rooms"]["join"][&room];
    assert!(joined["org.matrix.msc4222.state_after"].is_object());
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn members_come_when_they_are_needed(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let (bob, carol) = (server.register("bob").await, server.register("carol").await);
    let room = server.create_public_room(&alice).await;
    let path = format!("/rooms/{room}/state/m.room.name");
    server.put(&alice, &path, json!({ "name": "named" })).await;
    server.join(&bob, &room).await;
    server.join(&carol, &room).await;
    let lazy = filter(&json!({ "room": {
        "state": { "lazy_load_members": true }, "timeline": { "limit": 1 },
    } }));
    server.say(&alice, &room, "one").await;
    let next = async |before: &Value| {
        server
            .sync_with(&alice, &format!("{lazy}&{}", since(before)))
            .await
    };
    let told = |answer: &Value| -> HashSet<String> {
        let events = &answer["rooms"]["join"][&room]["state"]["events"];
        members(events).into_iter().map(ToOwned::to_owned).collect()
    };

    let first = server.sync_with(&alice, &lazy).await;
    assert_eq!(told(&first), HashSet::from([alice.id.clone()]));

    server.say(&bob, &room, "two").await;
    let second = next(&first).await;
    assert_eq!(told(&second), HashSet::from([bob.id.clone()]));
    let retried = next(&first).await;
    assert_eq!(told(&retried), HashSet::from([bob.id.clone()]));

    server.say(&bob, &room, "three").await;
    let third = next(&second).await;
    assert_eq!(told(&third), HashSet::new());
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn members_that_changed_in_a_gap_come_with_it(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    let path = format!("/rooms/{room}/state/m.room.name");
    server.put(&alice, &path, json!({ "name": "named" })).await;
    let lazy = filter(&json!({ "room": {
        "state": { "lazy_load_members": true }, "timeline": { "limit": 2 },
    } }));
    let first = server.sync_with(&alice, &lazy).await;
    server.join(&bob, &room).await;
    for n in 0..5 {
        server.say(&alice, &room, &n.to_string()).await;
    }

    let second = server
        .sync_with(&alice, &format!("{lazy}&{}", since(&first)))
        .await;

    let joined = &second["rooms"]["join"][&room];
    assert_eq!(joined["timeline"]["limited"], true);
    let told = members(&joined["state"]["events"]);
    assert!(told.contains(bob.id.as_str()), "{second}");
    assert_eq!(joined["summary"]["m.joined_member_count"], 2);
}
