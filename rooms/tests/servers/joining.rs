//! Joining rooms of other servers.

use std::slice::from_ref;

use hearth_rooms::{MembershipError, Preset, residents::ResidentError};
use hearth_store::{MIGRATOR, write::Status};
use ruma::{RoomVersionId, api::error::ErrorKind};
use serde_json::{json, value::RawValue};
use sqlx::PgPool;

use crate::server::Server;

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_user_joins_a_room_of_another_server_and_both_talk(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    for version in [RoomVersionId::V6, RoomVersionId::V10, RoomVersionId::V12] {
        let tea = there.create(&bob, version, Preset::Public, vec![]).await;

        let via = from_ref(&there.name);
        let mut thirsty = ann.clone();
        thirsty.more.insert("reason".to_owned(), "thirst".into());
        here.rooms.join_by_id(&tea, via, &thirsty).await.unwrap();

        assert_eq!(here.state(&tea).await, there.state(&tea).await);
        for server in [&here, &there] {
            assert_eq!(server.membership(&tea, &ann).await, "join");
            assert_eq!(server.membership(&tea, &bob).await, "join");
        }
        let join = here.member_event(&tea, &ann).await.unwrap();
        assert!(join.stream_order().is_some());
        assert!(join.pdu.content.get().contains("thirst"));
        let hello = here.say(&tea, &ann, "hello").await;
        assert_eq!(hello.pdu.prev_events, from_ref(&join.pdu.event_id));
        assert_eq!(there.hear(&here, &hello).await.status, Status::Accepted);
        let answer = there.say(&tea, &bob, "hello yourself").await;
        assert_eq!(here.hear(&there, &answer).await.status, Status::Accepted);
    }
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_second_user_joins_without_help(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let ada = here.user("ada").await;
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Public, vec![])
        .await;
    let via = from_ref(&there.name);
    here.rooms.join_by_id(&tea, via, &ann).await.unwrap();
    here.wire.cut(&there.name);

    here.rooms.join_by_id(&tea, via, &ada).await.unwrap();

    assert_eq!(here.membership(&tea, &ada).await, "join");
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn two_users_who_join_at_once_both_get_in(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let bob = there.user("bob").await;
    let (ann, ada) = (here.user("ann").await, here.user("ada").await);
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Public, vec![])
        .await;
    let via = from_ref(&there.name);

    let (one, other) = tokio::join!(
        here.rooms.join_by_id(&tea, via, &ann),
        here.rooms.join_by_id(&tea, via, &ada)
    );

    one.unwrap();
    other.unwrap();
    assert_eq!(here.membership(&tea, &ann).await, "join");
    assert_eq!(here.membership(&tea, &ada).await, "join");
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_next_server_helps_when_the_first_is_away(pool: PgPool) {
    let names = ["here.org", "there.org", "yonder.org"];
    let [here, there, yonder] = Server::start_all(pool, names).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let tea = there
        .create(&bob, RoomVersionId::V11, Preset::Public, vec![])
        .await;
    here.wire.cut(&yonder.name);

    let via = [yonder.name.clone(), there.name.clone()];
    here.rooms.join_by_id(&tea, &via, &ann).await.unwrap();

    assert_eq!(there.membership(&tea, &ann).await, "join");
    for server in [here, there, yonder] {
        server.end().await;
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_closed_room_stays_closed(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Private, vec![])
        .await;

    let via = from_ref(&there.name);
    let error = here.rooms.join_by_id(&tea, via, &ann).await.unwrap_err();

    let MembershipError::Elsewhere(ResidentError::Refused { kind, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(*kind, ErrorKind::Forbidden);
    assert_eq!(here.membership(&tea, &ann).await, "");
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_left_long_ago_comes_back_to_the_room_as_it_is_now(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Public, vec![])
        .await;
    let via = from_ref(&there.name);
    here.rooms.join_by_id(&tea, via, &ann).await.unwrap();
    let room = here.room(&tea).await;
    here.rooms.leave(&room, &ann.user_id, None).await.unwrap();
    let leave = here.member_event(&tea, &ann).await.unwrap();
    there.hear(&here, &leave).await;
    let carol = there.user("carol").await;
    there.rooms.join_by_id(&tea, &[], &carol).await.unwrap();
    there
        .set(&tea, &bob, "m.room.topic", json!({ "topic": "new" }))
        .await;

    here.rooms.join_by_id(&tea, via, &ann).await.unwrap();

    assert_eq!(here.state(&tea).await, there.state(&tea).await);
    assert_eq!(here.membership(&tea, &carol).await, "join");
    assert_eq!(here.membership(&tea, &ann).await, "join");
    let hello = here.say(&tea, &ann, "back").await;
    assert_eq!(there.hear(&here, &hello).await.status, Status::Accepted);
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn members_of_another_room_get_into_a_restricted_one(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let club = there
        .create(&bob, RoomVersionId::V11, Preset::Public, vec![])
        .await;
    let rule = json!({
        "join_rule": "restricted",
        "allow": [{ "type": "m.room_membership", "room_id": club }],
    });
    let rules = vec![("m.room.join_rules", rule)];
    let tea = there
        .create(&bob, RoomVersionId::V11, Preset::Private, rules)
        .await;
    let via = from_ref(&there.name);
    let refused = here.rooms.join_by_id(&tea, via, &ann).await;
    assert!(refused.is_err());
    here.rooms.join_by_id(&club, via, &ann).await.unwrap();

    here.rooms.join_by_id(&tea, via, &ann).await.unwrap();

    let join = here.member_event(&tea, &ann).await.unwrap();
    let signatures = |json: &RawValue| {
        let event: serde_json::Value = serde_json::from_str(json.get()).unwrap();
        event["signatures"].as_object().unwrap().len()
    };
    assert!(join.pdu.content.get().contains(bob.user_id.as_str()));
    assert_eq!(signatures(&join.pdu.json), 2);
    let theirs = there.event(&join.pdu.event_id).await.unwrap();
    assert_eq!(signatures(&theirs.pdu.json), 2);
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn another_server_lets_a_user_into_a_restricted_room_that_we_are_in(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let ada = here.user("ada").await;
    let club = there
        .create(&bob, RoomVersionId::V11, Preset::Public, vec![])
        .await;
    let rule = json!({
        "join_rule": "restricted",
        "allow": [{ "type": "m.room_membership", "room_id": club }],
    });
    // Only Bob may invite, so nobody of ours can let anybody in.
    let rules = vec![
        ("m.room.join_rules", rule),
        (
            "m.room.power_levels",
            json!({ "invite": 100, "users": { bob.user_id.as_str(): 100 } }),
        ),
    ];
    let tea = there
        .create(&bob, RoomVersionId::V11, Preset::Private, rules)
        .await;
    let via = from_ref(&there.name);
    for user in [&ann, &ada] {
        here.rooms.join_by_id(&club, via, user).await.unwrap();
    }
    let ada_in_club = here.member_event(&club, &ada).await.unwrap();
    there.hear(&here, &ada_in_club).await;
    here.rooms.join_by_id(&tea, via, &ann).await.unwrap();

    here.rooms.join_by_id(&tea, &[], &ada).await.unwrap();

    assert_eq!(here.in_state(&tea, &ada).await, "join");
    assert_eq!(there.in_state(&tea, &ada).await, "join");
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_room_is_joined_through_the_servers_that_were_named_and_no_other(pool: PgPool) {
    let names = ["here.org", "there.org", "yonder.org"];
    let [here, there, yonder] = Server::start_all(pool, names).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let yan = yonder.user("yan").await;
    let club = there
        .create(&bob, RoomVersionId::V10, Preset::Public, vec![])
        .await;
    let rule = json!({
        "join_rule": "restricted",
        "allow": [{ "type": "m.room_membership", "room_id": club }],
    });
    let rules = vec![
        ("m.room.join_rules", rule),
        (
            "m.room.power_levels",
            json!({ "invite": 100, "users": { bob.user_id.as_str(): 100 } }),
        ),
    ];
    let tea = there
        .create(&bob, RoomVersionId::V10, Preset::Private, rules)
        .await;
    let via = from_ref(&there.name);
    for room in [&club, &tea] {
        yonder.rooms.join_by_id(room, via, &yan).await.unwrap();
    }
    here.rooms.join_by_id(&club, via, &ann).await.unwrap();
    let in_club = here.member_event(&club, &ann).await.unwrap();
    yonder.hear(&here, &in_club).await;

    // Nobody of that server may let anybody in.
    let refusing = from_ref(&yonder.name);
    let refused = here.rooms.join_by_id(&tea, refusing, &ann).await;
    let Err(MembershipError::Elsewhere(ResidentError::Refused { kind, .. })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(*kind, ErrorKind::UnableToGrantJoin);
    assert_eq!(here.membership(&tea, &ann).await, "");
    let both = [yonder.name.clone(), there.name.clone()];
    here.rooms.join_by_id(&tea, &both, &ann).await.unwrap();

    let join = here.member_event(&tea, &ann).await.unwrap();
    assert!(join.pdu.content.get().contains(bob.user_id.as_str()));
    // What is known of the room after a leave names no servers either.
    let room = here.room(&tea).await;
    here.rooms.leave(&room, &ann.user_id, None).await.unwrap();
    let refused = here.rooms.join_by_id(&tea, refusing, &ann).await;
    assert!(refused.is_err());
    for server in [here, there, yonder] {
        server.end().await;
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_forged_event_in_an_answer_is_left_out(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let tea = there
        .create(&bob, RoomVersionId::V11, Preset::Public, vec![])
        .await;
    here.wire.spoil(|answer| {
        for event in &mut answer.state {
            let forged = event.get().replace("\"name\":\"Tea\"", "\"name\":\"Gin\"");
            let forged = forged.replace("\"depth\":", "\"depth\":1");
            if event.get().contains("\"type\":\"m.room.name\"") {
                *event = RawValue::from_string(forged).unwrap();
            }
        }
    });

    let via = from_ref(&there.name);
    here.rooms.join_by_id(&tea, via, &ann).await.unwrap();

    let (ours, theirs) = (here.state(&tea).await, there.state(&tea).await);
    assert_eq!(theirs.difference(&ours).count(), 1);
    assert!(ours.is_subset(&theirs));
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_answer_that_does_not_allow_the_join_is_refused(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let spoils: [fn(&mut hearth_rooms::residents::JoinAnswer); 3] = [
        |answer| {
            answer
                .state
                .retain(|event| !event.get().contains("m.room.create"));
        },
        |answer| {
            answer
                .state
                .retain(|event| !event.get().contains("m.room.join_rules"));
        },
        |answer| {
            answer.state.clear();
            answer.auth_chain.clear();
        },
    ];
    for spoil in spoils {
        let tea = there
            .create(&bob, RoomVersionId::V11, Preset::Public, vec![])
            .await;
        here.wire.spoil(spoil);

        let via = from_ref(&there.name);
        let joined = here.rooms.join_by_id(&tea, via, &ann).await;

        assert!(joined.is_err());
        assert_eq!(here.membership(&tea, &ann).await, "");
    }
    here.end().await;
    there.end().await;
}
