//! What is refused because there was too much of it.

use axum::body::Body;
use hearth::http::ClientAddress;
use hearth_core::config::{Config, Limits, Rate, Registration};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    chat::encode,
    peer::Peer,
    server::{TestServer, User},
};

/// A server that lets a user make two requests of the kind that is limited, and change two events.
async fn strict(pool: PgPool) -> TestServer {
    let config = Config {
        server_name: ruma::server_name!("example.org").to_owned(),
        registration: Registration {
            enabled: true,
            ..Registration::default()
        },
        limits: Limits {
            request: Rate::new(0.001, 2),
            message: Rate::new(0.001, 2),
            ..Limits::default()
        },
        ..Config::default()
    };
    TestServer::with_config(pool, config).await
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn what_the_specification_wants_limited_is_counted_together_for_each_user(pool: PgPool) {
    let server = strict(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let search = json!({ "search_term": "bob" });
    assert_eq!(
        server.get(&alice, "/account/whoami").await.0,
        StatusCode::OK
    );
    let path = "/user_directory/search";
    assert_eq!(
        server.post(&alice, path, search.clone()).await.0,
        StatusCode::OK
    );

    let (status, body) = server.post(&alice, path, search).await;

    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(body["errcode"], "M_LIMIT_EXCEEDED");
    assert!(body["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0));
    let (status, _) = server.get(&alice, "/account/whoami").await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(server.get(&bob, "/account/whoami").await.0, StatusCode::OK);
    // What is not to be limited goes on.
    assert_eq!(
        server.get(&alice, "/sync?timeout=0").await.0,
        StatusCode::OK
    );
    assert_eq!(server.get(&alice, "/joined_rooms").await.0, StatusCode::OK);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn profiles_are_not_changed_all_the_time(pool: PgPool) {
    let server = strict(pool).await;
    let alice = server.register("alice").await;
    let path = format!("/profile/{}/displayname", alice.id);
    for name in ["one", "two"] {
        let (status, _) = server
            .put(&alice, &path, json!({ "displayname": name }))
            .await;
        assert_eq!(status, StatusCode::OK);
    }

    let (status, body) = server
        .put(&alice, &path, json!({ "displayname": "three" }))
        .await;

    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(body["errcode"], "M_LIMIT_EXCEEDED");
    let (_, body) = server.get_anonymously(&path).await;
    assert_eq!(body["displayname"], "two");
}

/// A server that takes few requests of one other server, and few invites of one user.
async fn strict_with_others(pool: PgPool, (federation, invite): (u32, u32)) -> TestServer {
    let config = Config {
        server_name: ruma::server_name!("example.org").to_owned(),
        registration: Registration {
            enabled: true,
            ..Registration::default()
        },
        limits: Limits {
            federation: Rate::new(0.001, federation),
            invite: Rate::new(0.001, invite),
            ..Limits::default()
        },
        ..Config::default()
    };
    TestServer::with_config(pool, config).await
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_requests_of_each_other_server_are_counted(pool: PgPool) {
    let server = strict_with_others(pool.clone(), (2, 50)).await;
    let busy = Peer::known(&pool, &server, "busy.example").await;
    let quiet = Peer::known(&pool, &server, "quiet.example").await;
    let uri = "/_matrix/federation/v1/publicRooms";
    for _ in 0..2 {
        assert_eq!(busy.get(&server, uri).await.0, StatusCode::OK);
    }

    let (status, body) = busy.get(&server, uri).await;

    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(body["errcode"], "M_LIMIT_EXCEEDED");
    assert!(body["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0));
    assert_eq!(quiet.get(&server, uri).await.0, StatusCode::OK);
    // What somebody sends in the name of another does not count.
    let forger = Peer {
        key: hearth_core::signing::ServerKey::from_seed(&[3; 32]),
        name: quiet.name.clone(),
    };
    for _ in 0..3 {
        assert_eq!(forger.get(&server, uri).await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(quiet.get(&server, uri).await.0, StatusCode::OK);
}

/// Has a peer invite a user of ours into a room that only the peer knows.
async fn invite(
    server: &TestServer,
    peer: &Peer,
    (user, number): (&User, u32),
) -> (StatusCode, Value) {
    let sender = format!("@bob:{}", peer.name);
    let create = json!({
        "type": "m.room.create", "state_key": "", "sender": sender, "depth": 1, "auth_events": [],
        "prev_events": [], "origin_server_ts": number, "content": { "room_version": "12" },
    });
    let mut create = serde_json::from_value(create).unwrap();
    let create_id = peer.complete(&mut create);
    let room_id = create_id.replacen('$', "!", 1);
    let invite = json!({
        "type": "m.room.member", "state_key": user.id, "sender": sender, "room_id": room_id, "depth": 2,
        "auth_events": [], "prev_events": [create_id], "origin_server_ts": 1,
        "content": { "membership": "invite" },
    });
    let mut invite = serde_json::from_value(invite).unwrap();
    let event_id = peer.complete(&mut invite);
    let uri = format!(
        "/_matrix/federation/v2/invite/{}/{}",
        encode(&room_id),
        encode(&event_id)
    );
    let body = json!({ "event": invite, "invite_room_state": [create], "room_version": "12" });
    peer.send(server, Method::PUT, &uri, body).await
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn nobody_is_drowned_in_invites(pool: PgPool) {
    let server = strict_with_others(pool.clone(), (1_000, 2)).await;
    let alice = server.register("alice").await;
    let carol = server.register("carol").await;
    let one = Peer::known(&pool, &server, "one.example").await;
    let two = Peer::known(&pool, &server, "two.example").await;
    for (peer, number) in [(&one, 1), (&two, 2)] {
        let (status, body) = invite(&server, peer, (&alice, number)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }

    let (status, body) = invite(&server, &one, (&alice, 3)).await;

    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{body}");
    let (status, body) = invite(&server, &one, (&carol, 4)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let (_, synced) = server.get(&alice, "/sync").await;
    let invited = synced["rooms"]["invite"].as_object().unwrap();
    assert_eq!(invited.len(), 2);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn strangers_cannot_have_this_server_ask_others_without_end(pool: PgPool) {
    for path in [
        "/profile/@bob:peer.example",
        "/profile/@bob:peer.example/displayname",
        "/directory/room/%23tea:peer.example",
        "/publicRooms?server=peer.example",
        "/_matrix/key/v2/query/peer.example",
    ] {
        let server = strict(pool.clone()).await;
        let ask = async || {
            let stranger = ClientAddress::new(Some([192, 0, 2, 1].into()));
            let uri = match path.starts_with("/_") {
                true => path.to_owned(),
                false => format!("/_matrix/client/v3{path}"),
            };
            let request = Request::get(uri).extension(stranger);
            server.answer(request.body(Body::empty()).unwrap()).await
        };
        for _ in 0..2 {
            let (status, body) = ask().await;
            assert_ne!(status, StatusCode::TOO_MANY_REQUESTS, "{path}: {body}");
        }

        let (status, body) = ask().await;

        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{path}: {body}");
    }
}
