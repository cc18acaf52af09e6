//! What push gateways are told (Push Gateway API).

use std::fmt::Debug;

use futures_util::future::BoxFuture;
use ruma::push::{HighlightTweakValue, Tweak};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

/// What this crate needs of push gateways.
///
/// The binary implements it with a client that goes to no private address. Gateways are strangers: the implementation
/// bounds how long they take and how much they say.
pub trait Gateways: Debug + Send + Sync {
    /// Sends the body of a notification to `url` (`POST /_matrix/push/v1/notify`); gives the body of the answer.
    fn notify<'a>(
        &'a self,
        url: &'a str,
        body: Vec<u8>,
    ) -> BoxFuture<'a, Result<Vec<u8>, GatewayError>>;
}

/// Why a gateway did not take a notification.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// It cannot be reached, or does not answer in time: this concerns all whom it serves.
    #[error("{0}")]
    Unreachable(String),
    /// It answered, but not as it should.
    #[error("{0}")]
    Refused(String),
}

/// What a gateway answers.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    /// The pushkeys that are good for nothing any more.
    #[serde(default)]
    pub rejected: Vec<String>,
}

/// The body of a request.
#[derive(Debug, Serialize)]
pub(crate) struct Body<'a> {
    pub notification: Notification<'a>,
}

/// What is told of an event, or of counts alone.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Notification<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_alias: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_is_target: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<&'a RawValue>,
    pub prio: Priority,
    pub counts: Told,
    pub devices: [Device<'a>; 1],
}

/// How soon a device is to be woken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Priority {
    /// At once.
    High,
    /// When it suits the battery.
    #[default]
    Low,
}

/// What a user has not seen.
///
/// A count of unread messages that is zero is told when it is all there is to tell: applications take a badge away when
/// they hear of it, and not when they hear nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    pub missed_calls: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Whom a gateway passes a notification on to.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Device<'a> {
    pub app_id: &'a str,
    pub pushkey: &'a str,
    /// Seconds since the epoch.
    pub pushkey_ts: i64,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub tweaks: Map<String, Value>,
}

/// Tweaks as a gateway reads them.
pub(crate) fn tweaks<'a>(tweaks: impl Iterator<Item = &'a Tweak>) -> Map<String, Value> {
    let written = tweaks.filter_map(|tweak| {
        let value = if let Tweak::Highlight(value) = tweak {
            (*value == HighlightTweakValue::Yes).into()
        } else {
            serde_json::from_str(tweak.value()?.get()).ok()?
        };
        Some((tweak.set_tweak().to_owned(), value))
    });
    written.collect()
}

/// How soon the device of a user is to be woken: what makes a sound, stands out or may do so once it is decrypted does not
/// wait.
pub(crate) fn priority(kind: &str, tweaks: &Map<String, Value>) -> Priority {
    let is_loud =
        tweaks.contains_key("sound") || tweaks.get("highlight") == Some(&Value::Bool(true));
    match is_loud || kind == "m.room.encrypted" {
        true => Priority::High,
        false => Priority::Low,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_loud_wakes_the_device() {
        let map = |value: Value| value.as_object().unwrap().clone();

        assert_eq!(priority("m.room.message", &Map::new()), Priority::Low);
        let silent = map(json!({ "highlight": false }));
        assert_eq!(priority("m.room.message", &silent), Priority::Low);
        let sound = map(json!({ "sound": "ring" }));
        assert_eq!(priority("m.room.message", &sound), Priority::High);
        assert_eq!(priority("m.room.encrypted", &Map::new()), Priority::High);
    }

    #[test]
    fn counts_alone_say_zero() {
        let told = |unread, missed_calls| {
            serde_json::to_value(Told {
                unread,
                missed_calls,
            })
            .unwrap()
        };

        assert_eq!(told(Some(0), 0), json!({ "unread": 0 }));
        assert_eq!(told(None, 0), json!({}));
        assert_eq!(told(Some(2), 1), json!({ "unread": 2, "missed_calls": 1 }));
    }
}
