//! Finding rooms and people.

use serde_json::{Value, json};

use crate::interop::{
    scene::Scene,
    user::{User, eventually},
};

pub(super) async fn aliases(scene: Scene) {
    let (alice, bob) = scene.users().await;
    let alias = scene.host.new_name("found");
    let room = alice.create(json!({ "room_alias_name": alias })).await;
    let address = format!("#{alias}:{}", scene.host.name);

    let found = bob.get(&["v3", "directory", "room", &address]).ok().await;

    assert_eq!(found["room_id"], room);
    assert!(
        found["servers"]
            .as_array()
            .is_some_and(|servers| servers.contains(&json!(scene.host.name))),
        "{found}"
    );
    let wrong = format!("#{alias}-not:{}", scene.host.name);
    bob.get(&["v3", "directory", "room", &wrong])
        .refused(404, "M_NOT_FOUND")
        .await;
}

pub(super) async fn profile(scene: Scene) {
    let (alice, bob) = scene.users().await;
    let names =
        json!({ "displayname": "Alice in Chains", "avatar_url": "mxc://example.org/alice" });
    for field in ["displayname", "avatar_url"] {
        let path = ["v3", "profile", &alice.id, field];
        alice.put(&path, &json!({ field: names[field] })).ok().await;
    }

    let profile = bob.get(&["v3", "profile", &alice.id]).ok().await;
    let name = bob
        .get(&["v3", "profile", &alice.id, "displayname"])
        .ok()
        .await;

    assert_eq!(profile["displayname"], names["displayname"]);
    assert_eq!(profile["avatar_url"], names["avatar_url"]);
    assert_eq!(name["displayname"], names["displayname"]);
    let nobody = format!("@nobody:{}", scene.host.name);
    bob.get(&["v3", "profile", &nobody])
        .refused(404, "M_NOT_FOUND")
        .await;
}

pub(super) async fn public_rooms(scene: Scene) {
    let (alice, bob) = scene.users().await;
    let name = scene.host.new_name("Published");
    let room = alice
        .create(json!({ "preset": "public_chat", "visibility": "public", "name": name, "topic": "All" }))
        .await;
    let hidden = alice.create_public().await;

    let listed = bob
        .get(&["v3", "publicRooms"])
        .query("server", &scene.host.name)
        .query("limit", 500)
        .ok()
        .await;
    let path = ["v3", "publicRooms"];
    let search = json!({ "limit": 10, "filter": { "generic_search_term": name } });
    let found = bob
        .post(&path, &search)
        .query("server", &scene.host.name)
        .ok()
        .await;

    let entry = entry(&listed, &room).unwrap_or_else(|| panic!("not in {listed}"));
    assert_eq!(entry["name"], name);
    assert_eq!(entry["topic"], "All");
    assert_eq!(entry["num_joined_members"], 1);
    assert!(self::entry(&listed, &hidden).is_none());
    assert!(self::entry(&found, &room).is_some(), "{found}");
}

pub(super) async fn hierarchy(scene: Scene) {
    let (alice, bob) = scene.users().await;
    let space = alice
        .create(json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } }))
        .await;
    let open = add_room(&alice, &space, "public_chat").await;
    let closed = add_room(&alice, &space, "private_chat").await;
    bob.join(&space, &scene.host).await;

    eventually("Bob sees the rooms of the space", async || {
        let tree = bob.get(&["v1", "rooms", &space, "hierarchy"]).ok().await;
        let rooms: Vec<_> = tree["rooms"]
            .as_array()
            .expect("it is a list")
            .iter()
            .map(|room| room["room_id"].clone())
            .collect();
        assert!(!rooms.contains(&json!(closed)), "nobody may see it");
        match rooms == [json!(space), json!(open)] {
            true => Ok(()),
            false => Err(tree.to_string()),
        }
    })
    .await;
}

/// Makes a room that a space says is in it.
async fn add_room(owner: &User, space: &str, preset: &str) -> String {
    let room = owner
        .create(json!({ "preset": preset, "name": "In the space" }))
        .await;
    let via = json!({ "via": [owner.server.name] });
    owner.set(space, "m.space.child", &room, &via).await;
    room
}

/// A room's entry in a list.
fn entry<'a>(list: &'a Value, room: &str) -> Option<&'a Value> {
    list["chunk"]
        .as_array()?
        .iter()
        .find(|entry| entry["room_id"] == room)
}
