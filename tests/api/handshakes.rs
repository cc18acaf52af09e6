//! `/_matrix/federation/*/send_*`: what other servers hand over for their users.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{peer::Peer, server::TestServer};

const BOB: &str = "@bob:peer.example";

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn version_1_answers_with_the_status_and_the_answer(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let peer = Peer::known(&pool, &server, "peer.example").await;

    let (join, event) = peer.member(&server, &room, (BOB, "join")).await;
    let (status, joined) = peer
        .hand_over(&server, "v1/send_join", (&join, &event))
        .await;
    let (leave, event) = peer.member(&server, &room, (BOB, "leave")).await;
    let (_, left) = peer
        .hand_over(&server, "v1/send_leave", (&leave, &event))
        .await;

    assert_eq!(status, StatusCode::OK, "{joined}");
    assert_eq!(joined[0], 200);
    assert!(!joined[1]["state"].as_array().unwrap().is_empty());
    assert_eq!(left, json!([200, {}]));
    let path = format!("/rooms/{room}/state/m.room.member/{BOB}");
    let (_, member) = server.get(&alice, &path).await;
    assert_eq!(member["membership"], "leave");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn only_what_belongs_there_is_handed_over(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let peer = Peer::known(&pool, &server, "peer.example").await;
    let joined = peer.join(&server, &room, "bob").await;
    let message = peer.message(&joined, "hello");
    let member = |state_key: Option<&str>, membership: &str| {
        let mut event = json!({
            "type": "m.room.member", "content": { "membership": membership }, "depth": 50,
        });
        if let Some(key) = state_key {
            event["state_key"] = json!(key);
        }
        peer.event(&joined, event)
    };

    for endpoint in [
        "v1/send_join",
        "v2/send_join",
        "v1/send_leave",
        "v2/send_leave",
    ] {
        let wanted = endpoint.split('_').next_back().unwrap();
        let mut wrong = vec![
            message.clone(),
            member(None, wanted),
            member(Some("@doris:peer.example"), wanted),
        ];
        let others = ["join", "leave", "knock", "invite"].into_iter();
        let others = others.filter(|membership| *membership != wanted);
        wrong.extend(others.map(|membership| member(Some(BOB), membership)));
        for (event_id, event) in &wrong {
            let (status, answer) = peer.hand_over(&server, endpoint, (event_id, event)).await;
            assert_eq!(
                status,
                StatusCode::BAD_REQUEST,
                "{endpoint} {event} {answer}"
            );
        }
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_server_that_can_wait_is_told_only_of_the_heroes(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let room = server.create_public_room(&alice).await;
    let mut members = vec![alice];
    for number in 0..6 {
        let user = server.register(&format!("user{number}")).await;
        server.join(&user, &room).await;
        members.push(user);
    }
    let peer = Peer::known(&pool, &server, "peer.example").await;
    let (join, event) = peer.member(&server, &room, (BOB, "join")).await;

    let uri = format!(
        "/_matrix/federation/v2/send_join/{}/{}?omit_members=true",
        super::chat::encode(&room),
        super::chat::encode(&join)
    );
    let (status, answer) = peer.send(&server, Method::PUT, &uri, event).await;

    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["members_omitted"], true);
    assert_eq!(answer["servers_in_room"], json!(["example.org"]));
    let keys = |list: &Value| -> BTreeSet<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let events = list.as_array().unwrap().iter();
        events
            .map(|event| (text(&event["type"]), text(&event["state_key"])))
            .collect()
    };
    let mut wanted: BTreeSet<(String, String)> = members[..5]
        .iter()
        .map(|user| ("m.room.member".to_owned(), user.id.clone()))
        .collect();
    for kind in ["create", "power_levels", "join_rules", "history_visibility"] {
        wanted.insert((format!("m.room.{kind}"), String::new()));
    }
    assert_eq!(keys(&answer["state"]), wanted);
    assert_eq!(answer["auth_chain"], json!([]));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_query_of_an_unknown_type_is_not_recognised(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let peer = Peer::known(&pool, &server, "peer.example").await;

    let path = "/_matrix/federation/v1/query/x.tea?cup=2";
    let (status, body) = peer.get(&server, path).await;

    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["errcode"], "M_UNRECOGNIZED");
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn an_identity_server_tells_of_users_of_ours(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let alice = server.register("alice").await;
    let bind = async |user_id: &str, sender: &str| {
        let invite = json!({
            "medium": "email", "address": "alice@example.com", "mxid": user_id, "room_id": "!tea:example.org",
            "sender": sender, "signed": { "mxid": user_id, "token": "cup", "signatures": {} },
        });
        let body = json!({
            "medium": "email", "address": "alice@example.com", "mxid": user_id, "invites": [invite],
        });
        let path = "/_matrix/federation/v1/3pid/onbind";
        server.send(Method::PUT, path, None, body).await
    };

    // That there is no such room is not for the identity server to see to.
    assert_eq!(
        bind(&alice.id, "@bob:example.org").await,
        (StatusCode::OK, json!({}))
    );
    let (status, body) = bind("@carol:other.example", "@bob:example.org").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["errcode"], "M_INVALID_PARAM");
    let (status, _) = bind("@nobody:example.org", "@bob:example.org").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}
