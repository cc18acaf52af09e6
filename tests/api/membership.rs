//! `/join`, `/rooms/{roomId}/join`, `leave`, `forget`, `invite`, `kick`, `ban`, `unban`, `/knock`

use hearth_core::{RoomNid, UserNid};
use hearth_store::{
    membership as membership_table,
    write::{MembershipRow, Write},
};
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{TestServer, User};

const OK: StatusCode = StatusCode::OK;
const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;

/// Does something to a room and gives the status and the error code.
async fn act(
    server: &TestServer,
    user: &User,
    room: &str,
    what: &str,
    body: Value,
) -> (StatusCode, String) {
    let (status, answer) = server
        .post(user, &format!("/rooms/{room}/{what}"), body)
        .await;
    (
        status,
        answer["errcode"].as_str().unwrap_or_default().to_owned(),
    )
}

async fn membership(server: &TestServer, user: &User, room: &str, of: &User) -> Value {
    let path = format!("/rooms/{room}/state/m.room.member/{}", of.id);
    let (_, body) = server.get(user, &path).await;
    body["membership"].clone()
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_joins_may_say_more_but_not_what_rules_read(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server
        .create_room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let body = json!({
        "reason": "tea", "org.example.cups": 2, "displayname": "Bob in here",
        "membership": "ban", "join_authorised_via_users_server": alice.id,
    });

    let joined = act(&server, &bob, &room, "join", body).await;

    assert_eq!(joined.0, OK, "{}", joined.1);
    let path = format!("/rooms/{room}/state/m.room.member/{}", bob.id);
    let (_, content) = server.get(&alice, &path).await;
    assert_eq!(
        content,
        json!({
            "membership": "join", "reason": "tea", "org.example.cups": 2, "displayname": "Bob in here",
        })
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_is_invited_joins_and_leaves(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_room(&alice, json!({})).await;
    assert_eq!(
        act(&server, &bob, &room, "join", json!({})).await.0,
        FORBIDDEN
    );

    assert_eq!(
        act(
            &server,
            &alice,
            &room,
            "invite",
            json!({ "user_id": bob.id })
        )
        .await
        .0,
        OK
    );
    assert_eq!(membership(&server, &alice, &room, &bob).await, "invite");
    assert_eq!(act(&server, &bob, &room, "join", json!({})).await.0, OK);
    assert_eq!(
        act(&server, &bob, &room, "join", json!({})).await.0,
        OK,
        "joining twice is joining once"
    );
    let (_, joined) = server.get(&bob, "/joined_rooms").await;
    assert_eq!(joined["joined_rooms"], json!([room]));

    assert_eq!(
        act(&server, &bob, &room, "forget", json!({})).await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        act(&server, &bob, &room, "leave", json!({ "reason": "late" }))
            .await
            .0,
        OK
    );
    assert_eq!(membership(&server, &alice, &room, &bob).await, "leave");
    assert_eq!(act(&server, &bob, &room, "forget", json!({})).await.0, OK);
    let (_, joined) = server.get(&bob, "/joined_rooms").await;
    assert_eq!(joined["joined_rooms"], json!([]));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn moderators_kick_ban_and_unban(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server
        .create_room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let target = json!({ "user_id": bob.id, "reason": "rude" });
    assert_eq!(
        act(&server, &alice, &room, "kick", target.clone()).await.0,
        FORBIDDEN,
        "not there yet"
    );
    act(&server, &bob, &room, "join", json!({})).await;

    let other = json!({ "user_id": alice.id });
    assert_eq!(
        act(&server, &bob, &room, "kick", other.clone()).await,
        (FORBIDDEN, "M_FORBIDDEN".into())
    );
    assert_eq!(act(&server, &bob, &room, "ban", other).await.0, FORBIDDEN);
    assert_eq!(
        act(&server, &alice, &room, "kick", target.clone()).await.0,
        OK
    );
    assert_eq!(
        act(&server, &bob, &room, "join", json!({})).await.0,
        OK,
        "a kick is no ban"
    );
    assert_eq!(
        act(&server, &alice, &room, "ban", target.clone()).await.0,
        OK
    );
    assert_eq!(membership(&server, &alice, &room, &bob).await, "ban");
    assert_eq!(
        act(&server, &bob, &room, "join", json!({})).await.0,
        FORBIDDEN
    );
    assert_eq!(
        act(
            &server,
            &alice,
            &room,
            "unban",
            json!({ "user_id": bob.id })
        )
        .await
        .0,
        OK
    );
    assert_eq!(
        act(
            &server,
            &alice,
            &room,
            "unban",
            json!({ "user_id": bob.id })
        )
        .await
        .0,
        FORBIDDEN
    );
    assert_eq!(act(&server, &bob, &room, "join", json!({})).await.0, OK);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_knocks_is_let_in(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let rules = json!([{ "type": "m.room.join_rules", "content": { "join_rule": "knock" } }]);
    let room = server
        .create_room(&alice, json!({ "initial_state": rules }))
        .await;
    let closed = server.create_room(&alice, json!({})).await;

    let (status, _) = server
        .post(&bob, &format!("/knock/{closed}"), json!({}))
        .await;
    assert_eq!(status, FORBIDDEN);
    let (status, body) = server
        .post(&bob, &format!("/knock/{room}"), json!({ "reason": "hi" }))
        .await;
    assert_eq!((status, &body["room_id"]), (OK, &json!(room)));
    assert_eq!(membership(&server, &alice, &room, &bob).await, "knock");
    assert_eq!(
        act(&server, &bob, &room, "join", json!({})).await.0,
        FORBIDDEN
    );
    assert_eq!(
        act(
            &server,
            &alice,
            &room,
            "invite",
            json!({ "user_id": bob.id })
        )
        .await
        .0,
        OK
    );
    assert_eq!(act(&server, &bob, &room, "join", json!({})).await.0, OK);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_restricted_room_opens_to_members_of_another(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let club = server
        .create_room(&alice, json!({ "preset": "public_chat" }))
        .await;
    let rule = json!({
        "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": club }],
    });
    let rules = json!([{ "type": "m.room.join_rules", "content": rule }]);
    let room = server
        .create_room(&alice, json!({ "initial_state": rules }))
        .await;

    assert_eq!(
        act(&server, &bob, &room, "join", json!({})).await.0,
        FORBIDDEN
    );
    act(&server, &bob, &club, "join", json!({})).await;
    assert_eq!(act(&server, &bob, &room, "join", json!({})).await.0, OK);

    let path = format!("/rooms/{room}/state/m.room.member/{}", bob.id);
    let (_, member) = server.get(&alice, &path).await;
    assert_eq!(member["join_authorised_via_users_server"], json!(alice.id));
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn rooms_that_nobody_knows_are_not_found(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;

    let (status, body) = server
        .post(&alice, "/join/!nowhere:example.org", json!({}))
        .await;
    assert_eq!(
        (status, &body["errcode"]),
        (StatusCode::NOT_FOUND, &json!("M_NOT_FOUND"))
    );
    let (status, body) = server
        .post(&alice, "/join/%23nowhere:example.org", json!({}))
        .await;
    assert_eq!(
        (status, &body["errcode"]),
        (StatusCode::NOT_FOUND, &json!("M_NOT_FOUND"))
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_forgotten_room_shows_no_event_any_more(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let said = server.say(&alice, &room, "tea").await;
    server.leave(&bob, &room).await;
    let paths = ["event", "context"].map(|what| format!("/rooms/{room}/{what}/{said}"));
    for path in &paths {
        assert_eq!(server.get(&bob, path).await.0, OK, "{path}");
    }

    assert_eq!(act(&server, &bob, &room, "forget", json!({})).await.0, OK);

    for path in &paths {
        let (status, body) = server.get(&bob, path).await;
        assert_ne!(status, OK, "{path}: {body}");
    }
    let (status, _) = server.get(&alice, &paths[0]).await;
    assert_eq!(status, OK);
}

/// A row that says no more than that a user is not in a room.
fn gone(user: UserNid, room: RoomNid) -> MembershipRow {
    MembershipRow {
        user,
        room,
        membership: "leave".to_owned(),
        event: None,
        sender: user,
        stripped: None,
        forgotten: false,
        display_name: None,
        avatar_url: None,
        words: Vec::new(),
    }
}

/// What was decided on before a user came back does not take him out again.
#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn who_came_back_meanwhile_stays(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    server.leave(&bob, &room).await;
    let mut conn = pool.acquire().await.unwrap();
    let user_id = ruma::OwnedUserId::try_from(bob.id.as_str()).unwrap();
    let user = server.state.interner.user(&user_id).await.unwrap();
    let rows = membership_table::list_of_user(&mut conn, user)
        .await
        .unwrap();
    let left = rows.into_iter().next().unwrap();
    server.join(&bob, &room).await;

    for (event, forgotten) in [(left.event, true), (None, false)] {
        let mut row = gone(user, left.room);
        (row.event, row.forgotten) = (event, forgotten);
        let write = Write {
            memberships: vec![row],
            ..Write::default()
        };
        server.state.journal.submit(write).await.unwrap();
    }

    let (_, synced) = server.get(&bob, "/sync").await;
    assert!(synced["rooms"]["join"][&room].is_object(), "{synced}");
}

/// When the state of a room has no member event of a user any more, he is out, whatever was stored.
#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn whom_the_state_drops_is_out(pool: PgPool) {
    let server = TestServer::new(pool.clone()).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.create_public_room(&alice).await;
    server.join(&bob, &room).await;
    let mut conn = pool.acquire().await.unwrap();
    let user_id = ruma::OwnedUserId::try_from(bob.id.as_str()).unwrap();
    let user = server.state.interner.user(&user_id).await.unwrap();
    let joined = async |conn: &mut sqlx::PgConnection| {
        let rows = membership_table::list_of_user(conn, user).await.unwrap();
        let row = rows.into_iter().next().unwrap();
        (row.room, row.position, row.membership)
    };
    let (room_nid, position, _) = joined(&mut conn).await;
    let row = gone(user, room_nid);

    let mut write = async |alone| {
        let row = &row;
        let placed = membership_table::Placed {
            row,
            position,
            alone,
        };
        membership_table::upsert(&mut conn, &[placed])
            .await
            .unwrap();
        joined(&mut conn).await.2
    };

    assert_eq!(write(true).await, "join");
    assert_eq!(write(false).await, "leave");
}
