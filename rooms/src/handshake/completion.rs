//! Making a member event of a template that another server sent.

use hearth_core::{Identity, Pdu};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, RoomId,
    RoomVersionId, UserId, room_version_rules::EventIdFormatVersion,
    signatures::hash_and_sign_event, state_res::check_pdu_format,
};
use serde_json::{json, value::to_raw_value};

use crate::{
    residents::{Handshake, Template},
    version,
};

/// The room version of templates that do not say theirs.
const UNSAID: RoomVersionId = RoomVersionId::V1;

/// What the other server decides: the event's place in the room's graph, and what authorises it.
const PLACE: [&str; 3] = ["auth_events", "prev_events", "depth"];

/// The member event that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub handshake: Handshake,
    pub room_id: &'a RoomId,
    pub user_id: &'a UserId,
    /// The content, apart from what the other server adds.
    pub content: CanonicalJsonObject,
}

/// A signed member event, and the version of the room that it is for.
#[derive(Debug)]
pub(super) struct Completed {
    pub version: RoomVersionId,
    pub pdu: Pdu,
}

impl Wanted<'_> {
    /// Checks that a template is what was asked for, and makes the event of it.
    ///
    /// Of the template nothing is kept but the event's place and who authorises a join: what a user says of himself is
    /// not for others to write.
    pub(super) fn complete(
        &self,
        template: Template,
        known: Option<RoomVersionId>,
        identity: &Identity,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<Completed, String> {
        let version = template.version.or(known).unwrap_or(UNSAID);
        let rules = version::supported(&version).ok_or("the room version is not supported")?;
        let mut object: CanonicalJsonObject =
            serde_json::from_str(template.event.get()).map_err(|error| error.to_string())?;
        self.check(&object)?;

        let mut content = self.content.clone();
        content.insert("membership".to_owned(), self.handshake.membership().into());
        if self.handshake == Handshake::Join
            && rules.signatures.check_join_authorised_via_users_server
            && let Some(authorising) = authorising(&object)
        {
            let key = "join_authorised_via_users_server".to_owned();
            content.insert(key, authorising.as_str().into());
        }
        let mut event = CanonicalJsonObject::new();
        for key in PLACE {
            let value = object
                .remove(key)
                .ok_or_else(|| format!("it has no {key}"))?;
            event.insert(key.to_owned(), value);
        }
        let server = identity.server_name.as_str();
        let mut put = |key: &str, value: CanonicalJsonValue| event.insert(key.to_owned(), value);
        put("type", "m.room.member".into());
        put("room_id", self.room_id.as_str().into());
        put("sender", self.user_id.as_str().into());
        put("state_key", self.user_id.as_str().into());
        put("origin", server.into());
        put(
            "origin_server_ts",
            CanonicalJsonValue::Integer(now.get().into()),
        );
        put("content", CanonicalJsonValue::Object(content));
        if rules.event_id_format == EventIdFormatVersion::V1 {
            let id = EventId::new_v1(&identity.server_name);
            put("event_id", id.as_str().into());
        }
        hash_and_sign_event(server, &identity.key, &mut event, &rules.redaction)
            .map_err(|error| error.to_string())?;
        check_pdu_format(&event, &rules.event_format)?;
        let pdu = Pdu::from_canonical(&event, &rules).map_err(|error| error.to_string())?;
        Ok(Completed { version, pdu })
    }

    /// The event without a place in the room's graph: for the user alone, when no other server takes it in.
    pub(super) fn alone(
        &self,
        version: &RoomVersionId,
        identity: &Identity,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<Pdu, String> {
        let event = json!({
            "type": "m.room.member",
            "room_id": self.room_id,
            "sender": self.user_id,
            "state_key": self.user_id,
            "content": { "membership": self.handshake.membership() },
            "auth_events": [],
            "prev_events": [],
            "depth": 0,
        });
        let template = Template {
            version: Some(version.clone()),
            event: to_raw_value(&event).map_err(|error| error.to_string())?,
        };
        let completed = self.complete(template, None, identity, now)?;
        Ok(completed.pdu)
    }

    /// Server-Server API, `GET /make_join`: what must be verified before the template is signed.
    fn check(&self, template: &CanonicalJsonObject) -> Result<(), String> {
        let has = |key: &str, wanted: &str| match template
            .get(key)
            .and_then(CanonicalJsonValue::as_str)
        {
            Some(value) if value == wanted => Ok(()),
            Some(_) | None => Err(format!("its {key} is not {wanted}")),
        };
        has("type", "m.room.member")?;
        has("room_id", self.room_id.as_str())?;
        has("sender", self.user_id.as_str())?;
        has("state_key", self.user_id.as_str())?;
        let membership = template
            .get("content")
            .and_then(CanonicalJsonValue::as_object)
            .and_then(|content| content.get("membership"))
            .and_then(CanonicalJsonValue::as_str);
        if membership == Some(self.handshake.membership()) {
            return Ok(());
        }
        Err("its membership is another one".to_owned())
    }
}

/// The user whose server lets a join into a restricted room.
fn authorising(template: &CanonicalJsonObject) -> Option<String> {
    let content = template.get("content")?.as_object()?;
    let user = content.get("join_authorised_via_users_server")?.as_str()?;
    Some(user.to_owned())
}

#[cfg(test)]
mod tests {
    use hearth_core::signing::ServerKey;
    use ruma::{room_id, user_id};
    use serde_json::Value;

    use super::*;

    fn identity() -> Identity {
        Identity {
            server_name: ruma::server_name!("here.example").to_owned(),
            key: ServerKey::from_seed(&[1; 32]),
        }
    }

    fn wanted(handshake: Handshake) -> Wanted<'static> {
        let name = ("displayname".to_owned(), "Ann".into());
        Wanted {
            handshake,
            room_id: room_id!("!tea:there.example"),
            user_id: user_id!("@ann:here.example"),
            content: CanonicalJsonObject::from([name]),
        }
    }

    fn template() -> Value {
        json!({
            "type": "m.room.member",
            "room_id": "!tea:there.example",
            "sender": "@ann:here.example",
            "state_key": "@ann:here.example",
            "content": {
                "membership": "join",
                "displayname": "Mallory",
                "join_authorised_via_users_server": "@bob:there.example",
            },
            "auth_events": ["$a"],
            "prev_events": ["$b"],
            "depth": 7,
            "origin_server_ts": 1,
            "unsigned": { "age": 1 },
        })
    }

    fn now() -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(1_700_000_000_000_u64.try_into().unwrap())
    }

    fn complete(wanted: &Wanted<'_>, event: &Value) -> Result<Completed, String> {
        let template = Template {
            version: Some(RoomVersionId::V10),
            event: to_raw_value(event).unwrap(),
        };
        wanted.complete(template, None, &identity(), now())
    }

    #[test]
    fn a_template_becomes_a_signed_event_that_says_what_we_say() {
        let made = complete(&wanted(Handshake::Join), &template()).unwrap();

        let event: Value = serde_json::from_str(made.pdu.json.get()).unwrap();
        assert_eq!(event["content"]["displayname"], "Ann");
        assert_eq!(
            event["content"]["join_authorised_via_users_server"],
            "@bob:there.example"
        );
        assert_eq!(event["prev_events"], json!(["$b"]));
        assert_eq!(event["origin_server_ts"], 1_700_000_000_000_u64);
        assert!(event["signatures"]["here.example"].is_object());
        assert!(event.get("unsigned").is_none());
    }

    #[test]
    fn a_template_for_something_else_is_refused() {
        let spoiled = [
            ("type", json!("m.room.name")),
            ("room_id", json!("!other:there.example")),
            ("sender", json!("@mallory:there.example")),
            ("state_key", json!("@mallory:there.example")),
            ("content", json!({ "membership": "leave" })),
        ];
        for (key, value) in spoiled {
            let mut event = template();
            event[key] = value;

            assert!(complete(&wanted(Handshake::Join), &event).is_err(), "{key}");
        }
    }

    #[test]
    fn a_template_without_a_place_is_refused() {
        for key in PLACE {
            let mut event = template();
            event.as_object_mut().unwrap().remove(key);

            assert!(complete(&wanted(Handshake::Join), &event).is_err(), "{key}");
        }
    }

    #[test]
    fn an_event_for_the_user_alone_says_what_he_says() {
        let made = wanted(Handshake::Leave)
            .alone(&RoomVersionId::V12, &identity(), now())
            .unwrap();

        assert_eq!(made.state_key.as_deref(), Some("@ann:here.example"));
        let content: Value = made.content_as().unwrap();
        assert_eq!(content["membership"], "leave");
        assert_eq!(content["displayname"], "Ann");
    }

    #[test]
    fn nobody_authorises_a_knock() {
        let mut event = template();
        event["content"]["membership"] = json!("knock");

        let made = complete(&wanted(Handshake::Knock), &event).unwrap();

        assert!(!made.pdu.json.get().contains("join_authorised"));
    }
}
