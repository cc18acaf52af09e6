//! Messages to devices of other servers.

use std::collections::BTreeMap;

use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId, to_device::DeviceIdOrAllDevices};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Messages;

/// `m.direct_to_device`
#[derive(Serialize)]
struct Edu<'a> {
    edu_type: &'static str,
    content: Content<'a>,
}

#[derive(Serialize)]
struct Content<'a> {
    sender: &'a UserId,
    #[serde(rename = "type")]
    kind: &'a str,
    message_id: String,
    messages: BTreeMap<&'a OwnedUserId, BTreeMap<&'a DeviceIdOrAllDevices, &'a RawValue>>,
}

/// What each other server has to be told: an EDU, written out.
pub(super) fn edus(
    own: &ServerName,
    sender: &UserId,
    kind: &str,
    messages: &Messages,
) -> BTreeMap<OwnedServerName, String> {
    let mut by_server: BTreeMap<&ServerName, BTreeMap<_, BTreeMap<_, _>>> = BTreeMap::new();
    for (user_id, messages) in messages {
        if user_id.server_name() != own && !messages.is_empty() {
            let contents = messages.iter();
            let contents = contents.map(|(device, content)| (device, content.json()));
            by_server
                .entry(user_id.server_name())
                .or_default()
                .insert(user_id, contents.collect());
        }
    }
    let edus = by_server.into_iter().map(|(server, messages)| {
        let content = Content {
            sender,
            kind,
            message_id: format!("{:032x}", rand::random::<u128>()),
            messages,
        };
        let edu = Edu {
            edu_type: "m.direct_to_device",
            content,
        };
        let edu = serde_json::to_string(&edu).expect("raw JSON serializes");
        (server.to_owned(), edu)
    });
    edus.collect()
}

#[cfg(test)]
mod tests {
    use ruma::{owned_user_id, serde::Raw, server_name, user_id};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_other_server_gets_what_is_for_its_users() {
        let content = Raw::new(&json!({ "a": 1 })).unwrap().cast_unchecked();
        let all = BTreeMap::from([(DeviceIdOrAllDevices::AllDevices, content)]);
        let messages = Messages::from([
            (owned_user_id!("@a:here.example"), all.clone()),
            (owned_user_id!("@b:there.example"), all.clone()),
            (owned_user_id!("@c:there.example"), all),
        ]);

        let edus = edus(
            server_name!("here.example"),
            user_id!("@a:here.example"),
            "x.y",
            &messages,
        );

        assert_eq!(edus.len(), 1);
        let edu: Value = serde_json::from_str(&edus[server_name!("there.example")]).unwrap();
        assert_eq!(edu["edu_type"], "m.direct_to_device");
        let messages = edu["content"]["messages"].as_object().unwrap();
        assert_eq!(messages.len(), 2);
        assert_eq!(messages["@b:there.example"]["*"]["a"], 1);
    }
}
