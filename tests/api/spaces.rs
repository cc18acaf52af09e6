//! `/room_summary` and `/rooms/…/hierarchy`

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{TestServer, User};

/// A space with two levels: the root, `one`, `sub` with `leaf` in it, `two`.
struct Tree {
    root: String,
    one: String,
    sub: String,
    leaf: String,
    two: String,
}

async fn space(server: &TestServer, user: &User) -> String {
    let body = json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } });
    server.create_room(user, body).await
}

async fn add(server: &TestServer, user: &User, parent: &str, child: &str, content: Value) {
    let path = format!("/rooms/{parent}/state/m.space.child/{child}");
    let (status, body) = server.put(user, &path, content).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

impl Tree {
    async fn new(server: &TestServer, user: &User) -> Self {
        let tree = Self {
            root: space(server, user).await,
            one: server.create_public_room(user).await,
            sub: space(server, user).await,
            leaf: server.create_public_room(user).await,
            two: server.create_public_room(user).await,
        };
        let via = ["example.org"];
        for (parent, child, content) in [
            (
                &tree.root,
                &tree.two,
                json!({ "via": via, "order": "c", "suggested": true }),
            ),
            (
                &tree.root,
                &tree.one,
                json!({ "via": via, "order": "a", "suggested": true }),
            ),
            (&tree.root, &tree.sub, json!({ "via": via, "order": "b" })),
            (&tree.sub, &tree.leaf, json!({ "via": via })),
            // A loop, which must not be walked for ever, and a child of what is no space.
            (&tree.sub, &tree.root, json!({ "via": via })),
            (&tree.one, &tree.two, json!({ "via": via })),
        ] {
            add(server, user, parent, child, content).await;
        }
        tree
    }

    async fn walk(&self, server: &TestServer, user: &User, query: &str) -> Value {
        let path = format!("/_matrix/client/v1/rooms/{}/hierarchy{query}", self.root);
        let (status, body) = server.get(user, &path).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }
}

fn ids(page: &Value) -> Vec<&str> {
    let rooms = page["rooms"].as_array().unwrap();
    rooms
        .iter()
        .map(|room| room["room_id"].as_str().unwrap())
        .collect()
}

fn children(room: &Value) -> Vec<&str> {
    let children = room["children_state"].as_array().unwrap();
    children
        .iter()
        .map(|child| child["state_key"].as_str().unwrap())
        .collect()
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_space_is_walked_depth_first(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let tree = Tree::new(&server, &alice).await;

    let page = tree.walk(&server, &alice, "").await;

    let order = [&tree.root, &tree.one, &tree.sub, &tree.leaf, &tree.two];
    assert_eq!(ids(&page), order);
    assert!(page.get("next_batch").is_none());
    let root = &page["rooms"][0];
    assert_eq!(children(root), [&tree.one, &tree.sub, &tree.two]);
    assert_eq!(root["room_type"], "m.space");
    let child = &root["children_state"][0];
    assert_eq!(child["type"], "m.space.child");
    assert_eq!(child["sender"], alice.id);
    assert!(child["origin_server_ts"].is_u64());
    assert!(children(&page["rooms"][1]).is_empty());
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_walk_goes_as_deep_as_it_is_told(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let tree = Tree::new(&server, &alice).await;

    let page = tree.walk(&server, &alice, "?max_depth=1").await;

    assert_eq!(ids(&page), [&tree.root, &tree.one, &tree.sub, &tree.two]);
    assert!(children(&page["rooms"][2]).contains(&tree.leaf.as_str()));
    let page = tree.walk(&server, &alice, "?max_depth=0").await;
    assert_eq!(ids(&page), [&tree.root]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn only_suggested_rooms_if_that_is_wanted(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let tree = Tree::new(&server, &alice).await;

    let page = tree.walk(&server, &alice, "?suggested_only=true").await;

    assert_eq!(ids(&page), [&tree.root, &tree.one, &tree.two]);
    assert_eq!(children(&page["rooms"][0]), [&tree.one, &tree.two]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_walk_goes_on_where_its_page_ended(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let tree = Tree::new(&server, &alice).await;

    let page = tree.walk(&server, &alice, "?limit=3").await;
    assert_eq!(ids(&page), [&tree.root, &tree.one, &tree.sub]);
    let from = page["next_batch"].as_str().unwrap();
    let rest = tree.walk(&server, &alice, &format!("?from={from}")).await;

    assert_eq!(ids(&rest), [&tree.leaf, &tree.two]);
    assert!(rest.get("next_batch").is_none());
    for query in [
        format!("?from={from}&max_depth=1"),
        format!("?from={from}&suggested_only=true"),
        "?from=tea".to_owned(),
        "?limit=0".to_owned(),
    ] {
        let path = format!("/_matrix/client/v1/rooms/{}/hierarchy{query}", tree.root);
        let (status, body) = server.get(&alice, &path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(body["errcode"], "M_INVALID_PARAM", "{query}");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_link_without_servers_is_gone(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let tree = Tree::new(&server, &alice).await;
    add(&server, &alice, &tree.root, &tree.sub, json!({})).await;

    let page = tree.walk(&server, &alice, "").await;

    assert_eq!(ids(&page), [&tree.root, &tree.one, &tree.two]);
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_stranger_sees_what_he_may_join(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let tree = Tree::new(&server, &alice).await;
    let invite_only = json!({ "join_rule": "invite" });
    server
        .set_state(&alice, &tree.sub, "m.room.join_rules", invite_only.clone())
        .await;

    let page = tree.walk(&server, &bob, "").await;
    assert_eq!(ids(&page), [&tree.root, &tree.one, &tree.two]);
    let invite = format!("/rooms/{}/invite", tree.sub);
    server
        .post(&alice, &invite, json!({ "user_id": bob.id }))
        .await;
    let page = tree.walk(&server, &bob, "").await;
    assert_eq!(ids(&page).len(), 5);
    server
        .set_state(&alice, &tree.root, "m.room.join_rules", invite_only)
        .await;
    let path = format!("/_matrix/client/v1/rooms/{}/hierarchy", tree.root);
    for path in [
        path.as_str(),
        "/_matrix/client/v1/rooms/!no:example.org/hierarchy",
    ] {
        let (status, body) = server.get(&bob, path).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(body["errcode"], "M_FORBIDDEN");
    }
}

/// Makes a room that members of `space` may join.
async fn restricted(server: &TestServer, user: &User, space: &str) -> String {
    let allow = json!([{ "type": "m.room_membership", "room_id": space }]);
    let body = json!({
        "initial_state": [{
            "type": "m.room.join_rules", "state_key": "",
            "content": { "join_rule": "restricted", "allow": allow },
        }],
    });
    server.create_room(user, body).await
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_restricted_room_is_seen_from_the_room_that_it_allows(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let space = space(&server, &alice).await;
    let room = restricted(&server, &alice, &space).await;
    let path = format!("/_matrix/client/v1/room_summary/{room}");

    assert_eq!(server.get(&bob, &path).await.0, StatusCode::NOT_FOUND);
    server.join(&bob, &space).await;
    let (status, summary) = server.get(&bob, &path).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(summary["join_rule"], "restricted");
    assert_eq!(summary["allowed_room_ids"], json!([space]));
    assert_eq!(summary["membership"], "leave");
    server.join(&bob, &room).await;
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn a_summary_tells_what_the_room_is(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let body = json!({
        "preset": "public_chat", "room_alias_name": "tea", "name": "Tea", "room_version": "11",
        "initial_state": [{
            "type": "m.room.encryption", "state_key": "",
            "content": { "algorithm": "m.megolm.v1.aes-sha2" },
        }],
    });
    let room = server.create_room(&alice, body).await;
    let expected = json!({
        "room_id": room, "name": "Tea", "canonical_alias": "#tea:example.org",
        "num_joined_members": 1, "world_readable": false, "guest_can_join": false,
        "encryption": "m.megolm.v1.aes-sha2", "room_version": "11",
    });

    for path in [
        "/_matrix/client/v1/room_summary/%23tea:example.org",
        "/_matrix/client/unstable/im.nheko.summary/rooms/%23tea:example.org/summary",
        "/_matrix/client/unstable/im.nheko.summary/summary/%23tea:example.org",
    ] {
        let (status, summary) = server.get_anonymously(path).await;
        assert_eq!((status, summary), (StatusCode::OK, expected.clone()));
        let (_, summary) = server.get(&alice, path).await;
        assert_eq!(summary["membership"], "join");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn there_is_no_summary_of_what_one_may_not_know(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.create_room(&alice, json!({})).await;
    let path = format!("/_matrix/client/v1/room_summary/{room}");

    for (status, body) in [
        server.get(&bob, &path).await,
        server.get_anonymously(&path).await,
        server
            .get(&bob, "/_matrix/client/v1/room_summary/%23no:example.org")
            .await,
    ] {
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body["errcode"], "M_NOT_FOUND");
    }
    assert_eq!(server.get(&alice, &path).await.0, StatusCode::OK);
}
