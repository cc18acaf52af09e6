//! The children of spaces.

use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::event::RoomEvent;

/// How many children of a space are looked at.
const CHILDREN: usize = 1_000;

/// The longest valid `order`.
const LONGEST_ORDER: usize = 50;

/// A child of a space.
#[derive(Clone, Debug)]
pub struct SpaceChild {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers that are in it.
    pub via: Vec<OwnedServerName>,
    /// Whether it is suggested.
    pub suggested: bool,
    /// `m.space.child`, stripped, with its time.
    pub json: Box<RawValue>,
    order: Option<String>,
    origin_server_ts: u64,
}

#[derive(Deserialize)]
struct StrippedChild {
    #[serde(rename = "type")]
    kind: String,
    state_key: String,
    content: ChildContent,
    origin_server_ts: u64,
}

#[derive(Default, Deserialize)]
struct ChildContent {
    #[serde(default)]
    via: serde_json::Value,
    #[serde(default)]
    order: serde_json::Value,
    #[serde(default)]
    suggested: serde_json::Value,
}

#[derive(Serialize)]
struct Stripped<'a> {
    content: &'a RawValue,
    origin_server_ts: ruma::MilliSecondsSinceUnixEpoch,
    sender: &'a UserId,
    state_key: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

impl SpaceChild {
    /// Reads a stripped `m.space.child` event with its time; `None` when it names no child.
    #[must_use]
    pub fn parse(json: Box<RawValue>) -> Option<Self> {
        let event: StrippedChild = serde_json::from_str(json.get()).ok()?;
        if event.kind != "m.space.child" {
            return None;
        }
        let room_id = RoomId::parse(&event.state_key).ok()?;
        let via: Vec<OwnedServerName> = event
            .content
            .via
            .as_array()?
            .iter()
            .filter_map(|server| ServerName::parse(server.as_str()?).ok())
            .collect();
        if via.is_empty() {
            return None;
        }
        let order = event.content.order.as_str();
        let order = order.filter(|order| {
            order.len() <= LONGEST_ORDER && order.chars().all(|c| ('\x20'..='\x7E').contains(&c))
        });
        Some(Self {
            room_id,
            via,
            suggested: event.content.suggested.as_bool().unwrap_or(false),
            order: order.map(ToOwned::to_owned),
            origin_server_ts: event.origin_server_ts,
            json,
        })
    }

    pub(super) fn of(event: &RoomEvent) -> Option<Self> {
        let stripped = Stripped {
            content: &event.pdu.content,
            origin_server_ts: event.pdu.origin_server_ts,
            sender: &event.pdu.sender,
            state_key: event.pdu.state_key.as_deref()?,
            kind: "m.space.child",
        };
        Self::parse(to_raw_value(&stripped).ok()?)
    }

    /// Children with an order come first, in that order; then the older ones.
    fn rank(&self) -> (bool, Option<&str>, u64, &RoomId) {
        let order = self.order.as_deref();
        (order.is_none(), order, self.origin_server_ts, &self.room_id)
    }
}

/// Puts the children of a space into their order and drops what is not of interest.
pub(super) fn arranged(mut children: Vec<SpaceChild>, suggested_only: bool) -> Vec<SpaceChild> {
    children.retain(|child| child.suggested || !suggested_only);
    children.sort_by(|a, b| a.rank().cmp(&b.rank()));
    children.truncate(CHILDREN);
    children
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn child(room_id: &str, ts: u64, content: &serde_json::Value) -> Option<SpaceChild> {
        let json = json!({
            "type": "m.space.child", "sender": "@a:b.c", "state_key": room_id,
            "origin_server_ts": ts, "content": content,
        });
        SpaceChild::parse(to_raw_value(&json).unwrap())
    }

    #[test]
    fn children_are_ordered_as_the_specification_says() {
        let via = json!(["b.c"]);
        let children = vec![
            child("!e:b.c", 3, &json!({ "via": via })),
            child("!c:b.c", 9, &json!({ "via": via, "order": "first" })),
            child("!d:b.c", 8, &json!({ "via": via, "order": "\u{1}" })),
            child("!a:b.c", 5, &json!({ "via": via, "order": "aaaa" })),
            child("!b:b.c", 7, &json!({ "via": via, "order": " " })),
        ];

        let children = arranged(children.into_iter().flatten().collect(), false);

        let order: Vec<_> = children.iter().map(|c| c.room_id.as_str()).collect();
        assert_eq!(order, ["!b:b.c", "!a:b.c", "!c:b.c", "!e:b.c", "!d:b.c"]);
    }

    #[test]
    fn a_child_without_servers_is_none() {
        assert!(child("!e:b.c", 3, &json!({})).is_none());
        assert!(child("!e:b.c", 3, &json!({ "via": [] })).is_none());
        assert!(child("!e:b.c", 3, &json!({ "via": "b.c" })).is_none());
        assert!(child("e", 3, &json!({ "via": ["b.c"] })).is_none());
    }
}
