//! Who servers and users are.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::interop::{homeserver::Homeserver, scene::Scene};

pub(super) async fn notary(scene: Scene) {
    let Scene { host, guest } = &scene;
    let url = |server: &Homeserver, path: &str| format!("https://{}{path}", server.name);
    let question = json!({ "server_keys": { &guest.name: {} } });

    let own: Value = host
        .http()
        .get(url(guest, "/_matrix/key/v2/server"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let vouched: Value = host
        .http()
        .post(url(host, "/_matrix/key/v2/query"))
        .json(&question)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();

    let keys = &vouched["server_keys"][0];
    assert_eq!(keys["server_name"], guest.name);
    assert_eq!(keys["verify_keys"], own["verify_keys"]);
    let signers: BTreeSet<_> = keys["signatures"]
        .as_object()
        .unwrap_or_else(|| panic!("no signatures: {vouched}"))
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(signers, BTreeSet::from([&*host.name, &*guest.name]));
}

pub(super) async fn openid(scene: Scene) {
    let alice = scene.local("alice").await;
    let path = ["v3", "user", &alice.id, "openid", "request_token"];
    let token = alice.post(&path, &json!({})).ok().await;

    let ask = async |token: &str| {
        let url = format!(
            "https://{}/_matrix/federation/v1/openid/userinfo?access_token={token}",
            scene.host.name
        );
        let answer = scene.guest.http().get(&url).send().await.unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap(),
        )
    };
    let (status, answer) = ask(token["access_token"].as_str().unwrap()).await;
    let (refused, _) = ask("nonsense").await;

    assert_eq!((status, &answer["sub"]), (200, &json!(alice.id)));
    assert_eq!(refused, 401);
}
