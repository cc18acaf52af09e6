//! `/pushrules`

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::server::{TestServer, User};

const GLOBAL: &str = "/pushrules/global";

async fn put(server: &TestServer, user: &User, path: &str, body: Value) -> (StatusCode, String) {
    let (status, body) = server.put(user, &format!("{GLOBAL}/{path}"), body).await;
    (status, body["errcode"].as_str().unwrap_or("").to_owned())
}

/// The ids of the user's own rules of a kind, in their order.
async fn order(server: &TestServer, user: &User, kind: &str) -> Vec<String> {
    let (_, rules) = server.get(user, "/pushrules/").await;
    let rules = rules["global"][kind].as_array().unwrap();
    let ids = rules
        .iter()
        .map(|rule| rule["rule_id"].as_str().unwrap().to_owned());
    ids.filter(|id| !id.starts_with('.')).collect()
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn every_user_has_the_servers_rules(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;

    let (status, all) = server.get(&alice, "/pushrules/").await;
    let (_, global) = server.get(&alice, "/pushrules/global/").await;
    let (_, master) = server
        .get(&alice, "/pushrules/global/override/.m.rule.master")
        .await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(all["global"], global);
    assert_eq!(global["override"][0], master);
    assert_eq!(master["enabled"], false);
    assert_eq!(master["default"], true);
    assert_eq!(global["sender"], json!([]));
    let ids: Vec<&str> = global["underride"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|rule| rule["rule_id"].as_str())
        .collect();
    assert!(
        ids.contains(&".org.matrix.msc3930.rule.poll_start"),
        "{ids:?}"
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn rules_stand_where_they_are_put(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let rule = || json!({ "pattern": "tea", "actions": ["notify"] });

    for path in [
        "content/a",
        "content/b",
        "content/c?after=b",
        "content/d?before=a",
    ] {
        assert_eq!(put(&server, &alice, path, rule()).await.0, StatusCode::OK);
    }
    assert_eq!(
        order(&server, &alice, "content").await,
        ["b", "c", "d", "a"]
    );

    put(&server, &alice, "content/a?before=b", rule()).await;
    assert_eq!(
        order(&server, &alice, "content").await,
        ["a", "b", "c", "d"]
    );

    assert_eq!(
        put(&server, &alice, "content/e?before=x", rule()).await,
        (StatusCode::BAD_REQUEST, "M_UNKNOWN".to_owned())
    );
    assert_eq!(
        put(&server, &alice, "content/e?after=.m.rule.x", rule()).await,
        (StatusCode::BAD_REQUEST, "M_INVALID_PARAM".to_owned())
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn rules_of_every_kind_come_and_go(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let conditions = json!([{ "kind": "event_match", "key": "type", "pattern": "x" }]);

    for (path, body) in [
        (
            "override/mine",
            json!({ "actions": ["notify"], "conditions": conditions }),
        ),
        ("underride/mine", json!({ "actions": [], "conditions": [] })),
        (
            "content/mine",
            json!({ "actions": ["notify"], "pattern": "x" }),
        ),
        ("room/!a:example.org", json!({ "actions": ["notify"] })),
        (
            "sender/@a:example.org",
            json!({ "actions": ["dont_notify"] }),
        ),
    ] {
        let (status, _) = put(&server, &alice, path, body.clone()).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        let path = format!("{GLOBAL}/{path}");
        let (_, rule) = server.get(&alice, &path).await;
        assert_eq!(rule["actions"], body["actions"], "{path}");
        assert_eq!(rule["enabled"], true);

        let (status, _) = server.delete(&alice, &path, json!({})).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(server.get(&alice, &path).await.0, StatusCode::NOT_FOUND);
        let (status, body) = server.delete(&alice, &path, json!({})).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body["errcode"], "M_NOT_FOUND");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn actions_that_do_not_exist_are_refused(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let unknown = json!({ "actions": ["notify", "shout"] });

    for path in [
        "room/!a:example.org",
        "override/.m.rule.suppress_notices/actions",
    ] {
        let (status, code) = put(&server, &alice, path, unknown.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(code, "M_INVALID_PARAM", "{path}");
    }
    for action in ["dont_notify", "coalesce"] {
        let known = json!({ "actions": [action, { "set_tweak": "highlight" }] });
        let (status, _) = put(&server, &alice, "room/!a:example.org", known).await;
        assert_eq!(status, StatusCode::OK, "{action}");
    }
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn rules_are_switched_off_and_changed(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let rule = "override/.m.rule.suppress_notices";

    put(
        &server,
        &alice,
        &format!("{rule}/enabled"),
        json!({ "enabled": false }),
    )
    .await;
    put(
        &server,
        &alice,
        &format!("{rule}/actions"),
        json!({ "actions": ["notify"] }),
    )
    .await;

    let (_, enabled) = server
        .get(&alice, &format!("{GLOBAL}/{rule}/enabled"))
        .await;
    assert_eq!(enabled, json!({ "enabled": false }));
    let (_, actions) = server
        .get(&alice, &format!("{GLOBAL}/{rule}/actions"))
        .await;
    assert_eq!(actions, json!({ "actions": ["notify"] }));
    for part in ["enabled", "actions"] {
        let path = format!("{GLOBAL}/override/none/{part}");
        let (status, body) = server.get(&alice, &path).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body["errcode"], "M_NOT_FOUND");
    }
    let body = json!({ "enabled": true });
    assert_eq!(
        put(&server, &alice, "override/none/enabled", body).await,
        (StatusCode::NOT_FOUND, "M_NOT_FOUND".to_owned())
    );
}

#[sqlx::test(migrator = "hearth_store::MIGRATOR")]
async fn the_servers_rules_can_be_neither_made_nor_removed(pool: PgPool) {
    let server = TestServer::new(pool).await;
    let alice = server.register("alice").await;
    let body = json!({ "actions": [], "conditions": [] });

    for rule in ["override/.mine", "override/a%5Cb"] {
        assert_eq!(
            put(&server, &alice, rule, body.clone()).await,
            (StatusCode::BAD_REQUEST, "M_INVALID_PARAM".to_owned()),
            "{rule}"
        );
    }
    let master = format!("{GLOBAL}/override/.m.rule.master");
    let (status, _) = server.delete(&alice, &master, json!({})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
