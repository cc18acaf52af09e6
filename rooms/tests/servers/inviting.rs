//! Inviting users of other servers, and turning invites down.

use std::slice::from_ref;

use hearth_core::signing::ServerKey;
use hearth_rooms::{Draft, Member, MembershipError, PartialInvite, Preset, Verdict};
use hearth_store::MIGRATOR;
use ruma::{
    CanonicalJsonObject, OwnedRoomId, RoomVersionId, UserId,
    signatures::{hash_and_sign_event, sign_json},
};
use serde_json::{Value, json, value::to_raw_value};
use sqlx::PgPool;

use crate::server::Server;

/// What the invited user is told of the room.
async fn told(server: &Server, room_id: &OwnedRoomId, user: &Member) -> Vec<Value> {
    let row = server.row(room_id, user).await.unwrap();
    serde_json::from_str(&row.stripped.unwrap()).unwrap()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_invited_user_hears_of_it_and_joins(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    for version in [RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
        let tea = there.create(&bob, version, Preset::Private, vec![]).await;
        let room = there.room(&tea).await;

        there
            .rooms
            .invite(&room, &bob.user_id, &ann, Some("come"))
            .await
            .unwrap();

        assert_eq!(there.in_state(&tea, &ann).await, "invite");
        let event = there.member_event(&tea, &ann).await.unwrap();
        assert!(event.pdu.json.get().contains("\"here.org\":{\"ed25519"));
        assert_eq!(here.membership(&tea, &ann).await, "invite");
        let told = told(&here, &tea, &ann).await;
        let kinds: Vec<&str> = told.iter().map(|e| e["type"].as_str().unwrap()).collect();
        assert!(kinds.contains(&"m.room.create") && kinds.contains(&"m.room.name"));
        let last = told.last().unwrap();
        assert_eq!(last["state_key"], ann.user_id.as_str());
        assert_eq!(last["content"]["reason"], "come");

        here.rooms.join_by_id(&tea, &[], &ann).await.unwrap();

        assert_eq!(here.state(&tea).await, there.state(&tea).await);
    }
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_invite_that_is_turned_down_is_gone_on_both_servers(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Private, vec![])
        .await;
    let room = there.room(&tea).await;
    let inviting = there.rooms.invite(&room, &bob.user_id, &ann, None);
    inviting.await.unwrap();

    let room = here.room(&tea).await;
    here.rooms
        .leave(&room, &ann.user_id, Some("no time"))
        .await
        .unwrap();

    assert_eq!(here.membership(&tea, &ann).await, "leave");
    assert_eq!(there.in_state(&tea, &ann).await, "leave");
    let leave = there.member_event(&tea, &ann).await.unwrap();
    assert!(leave.pdu.content.get().contains("no time"));
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_invite_is_turned_down_when_the_other_server_is_gone(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Private, vec![])
        .await;
    let room = there.room(&tea).await;
    let inviting = there.rooms.invite(&room, &bob.user_id, &ann, None);
    inviting.await.unwrap();
    here.wire.cut(&there.name);

    let room = here.room(&tea).await;
    here.rooms.leave(&room, &ann.user_id, None).await.unwrap();

    assert_eq!(here.membership(&tea, &ann).await, "leave");
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_invite_that_is_taken_back_is_gone_and_only_by_who_sent_it(pool: PgPool) {
    let names = ["here.org", "there.org", "yonder.org"];
    let [here, there, yonder] = Server::start_all(pool, names).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Private, vec![])
        .await;
    let room = there.room(&tea).await;
    let inviting = there.rooms.invite(&room, &bob.user_id, &ann, None);
    inviting.await.unwrap();
    let kicking = there
        .rooms
        .moderate(&room, &bob.user_id, &ann.user_id, (Verdict::Kick, None));
    kicking.await.unwrap();
    let kick = there.member_event(&tea, &ann).await.unwrap();

    let mut forged: CanonicalJsonObject = serde_json::from_str(kick.pdu.json.get()).unwrap();
    forged.remove("signatures");
    forged.insert("sender".to_owned(), "@eve:yonder.org".into());
    let key = &yonder.rooms.identity().key;
    hash_and_sign_event("yonder.org", key, &mut forged, &room.rules.redaction).unwrap();
    let forged = to_raw_value(&forged).unwrap();
    assert!(here.try_hear(&yonder, &tea, &forged).await.is_err());
    assert_eq!(here.membership(&tea, &ann).await, "invite");

    assert!(here.try_hear(&there, &tea, &kick.pdu.json).await.is_ok());
    assert_eq!(here.membership(&tea, &ann).await, "leave");
    for server in [here, there, yonder] {
        server.end().await;
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn nobody_is_invited_who_does_not_exist_or_does_not_answer(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Private, vec![])
        .await;
    let room = there.room(&tea).await;
    let mut nobody = ann.clone();
    nobody.user_id = ruma::user_id!("@nobody:here.org").to_owned();

    let inviting = there.rooms.invite(&room, &bob.user_id, &nobody, None);
    assert!(matches!(inviting.await, Err(MembershipError::Elsewhere(_))));
    there.wire.cut(&here.name);
    let inviting = there.rooms.invite(&room, &bob.user_id, &ann, None);
    assert!(matches!(inviting.await, Err(MembershipError::Elsewhere(_))));

    assert_eq!(there.in_state(&tea, &nobody).await, "");
    assert_eq!(there.in_state(&tea, &ann).await, "");
    here.end().await;
    there.end().await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_invite_back_to_a_room_that_was_left_leads_into_it(pool: PgPool) {
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
    let room = there.room(&tea).await;

    let inviting = there.rooms.invite(&room, &bob.user_id, &ann, None);
    inviting.await.unwrap();
    assert_eq!(here.membership(&tea, &ann).await, "invite");
    here.rooms.join_by_id(&tea, &[], &ann).await.unwrap();

    assert_eq!(here.membership(&tea, &ann).await, "join");
    assert_eq!(here.state(&tea).await, there.state(&tea).await);
    here.end().await;
    there.end().await;
}

/// What an identity server says: that `user` is who was meant by the invite with the token `cup`.
fn bound(
    room: &OwnedRoomId,
    sender: &UserId,
    user: &Member,
    identity: &ServerKey,
) -> PartialInvite {
    let signed = json!({ "mxid": user.user_id, "token": "cup" });
    let mut signed: CanonicalJsonObject = serde_json::from_value(signed).unwrap();
    sign_json("identity.org", identity, &mut signed).unwrap();
    let content = json!({
        "membership": "invite",
        "third_party_invite": { "display_name": "Ann", "signed": signed },
    });
    PartialInvite {
        kind: "m.room.member".into(),
        room_id: room.clone(),
        sender: sender.to_owned(),
        state_key: user.user_id.clone(),
        content: serde_json::from_value(content).unwrap(),
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_invite_to_an_address_becomes_one_of_who_is_bound_to_it(pool: PgPool) {
    let [here, there] = Server::start_all(pool, ["here.org", "there.org"]).await;
    let (ann, bob) = (here.user("ann").await, there.user("bob").await);
    let tea = there
        .create(&bob, RoomVersionId::V12, Preset::Private, vec![])
        .await;
    let (identity, liar) = (
        ServerKey::from_seed(&[5; 32]),
        ServerKey::from_seed(&[6; 32]),
    );
    let invite = json!({
        "display_name": "A...", "key_validity_url": "https://identity.org/valid",
        "public_key": identity.public(), "public_keys": [{ "public_key": identity.public() }],
    });
    let invite = serde_json::from_value(invite).unwrap();
    let room = there.room(&tea).await;
    let draft = Draft::state("m.room.third_party_invite", "cup", invite);
    let sending = there.rooms.send(&room, &bob.user_id, draft);
    sending.await.unwrap();

    let lie = bound(&tea, &bob.user_id, &ann, &liar);
    here.rooms
        .take_bound(&ann.user_id, vec![lie])
        .await
        .unwrap();
    assert_eq!(here.membership(&tea, &ann).await, "");
    let truth = bound(&tea, &bob.user_id, &ann, &identity);
    here.rooms
        .take_bound(&ann.user_id, vec![truth])
        .await
        .unwrap();

    assert_eq!(here.membership(&tea, &ann).await, "invite");
    assert_eq!(there.in_state(&tea, &ann).await, "invite");
    here.end().await;
    there.end().await;
}
