//! Whatever other servers send, reading it ends with an event or an error.

use hearth_core::signing::ServerKey;
use hearth_rooms::{Incoming, version};
use proptest::{collection::vec, prelude::*, sample::Index};
use ruma::{CanonicalJsonObject, RoomVersionId, room_id, signatures::hash_and_sign_event};
use serde_json::{json, value::RawValue};

/// An event as it should be, of a version.
fn event(version: &RoomVersionId) -> String {
    let names_hashes = matches!(version, RoomVersionId::V1 | RoomVersionId::V2);
    let reference = if names_hashes {
        json!([["$a:there.org", { "sha256": "AAAA" }]])
    } else {
        json!(["$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"])
    };
    let event = json!({
        "type": "m.room.member", "state_key": "@bob:there.org", "sender": "@bob:there.org",
        "room_id": "!room:example.org", "event_id": "$b:there.org", "depth": 5, "origin": "there.org",
        "content": { "membership": "join", "displayname": "Bob \u{1F375}", "x": [1, { "y": null }] },
        "prev_events": reference, "auth_events": reference, "origin_server_ts": 1_750_000_000_000_i64,
    });
    let mut object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
    let key = ServerKey::from_seed(&[3; 32]);
    let rules = version.rules().unwrap();
    hash_and_sign_event("there.org", &key, &mut object, &rules.redaction).unwrap();
    serde_json::to_string(&object).unwrap()
}

/// Reads an event in all room versions; what was read must be the same when it is written and read again.
fn read(text: &str) {
    let Ok(json) = RawValue::from_string(text.to_owned()) else {
        return;
    };
    let object = serde_json::from_str::<CanonicalJsonObject>(text).unwrap_or_default();
    let room_id = room_id!("!room:example.org");
    for rules in version::SUPPORTED
        .iter()
        .map(|version| version.rules().unwrap())
    {
        let Ok(event) = Incoming::read(&json, room_id, &rules) else {
            continue;
        };
        let written = RawValue::from_string(serde_json::to_string(&object).unwrap()).unwrap();
        let again = Incoming::read(&written, room_id, &rules).unwrap();
        assert_eq!(event.event_id(), again.event_id());
        assert_eq!(event.sender(), again.sender());
    }
}

/// What is put into an event: parts that mean something to who reads it.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("1.5".to_owned()),
        Just("-0".to_owned()),
        Just("9007199254740992".to_owned()),
        Just("1e400".to_owned()),
        Just("\\ud800".to_owned()),
        Just("\\u0000".to_owned()),
        Just("\"sender\":\"@eve:evil.org\",".to_owned()),
        Just("{}".to_owned()),
        Just("null".to_owned()),
        (1_usize..300).prop_map(|depth| "[".repeat(depth)),
        ".{0,4}",
        "[\\[\\]{}:,\"0-9]{1,4}",
    ]
}

proptest! {
    #[test]
    fn an_event_that_was_changed_anywhere(
        version in any::<Index>(),
        changes in vec((any::<Index>(), 0_usize..20, piece()), 1..4),
    ) {
        let mut text = event(version.get(&version::SUPPORTED));
        for (place, removed, piece) in changes {
            let begin = text.floor_char_boundary(place.index(text.len()));
            let end = text.ceil_char_boundary((begin + removed).min(text.len()));
            text.replace_range(begin..end, &piece);
        }
        read(&text);
    }

    #[test]
    fn any_text(text in ".{0,200}") {
        read(&text);
    }
}

#[test]
fn an_event_as_it_should_be_is_read_in_its_version() {
    for version in version::SUPPORTED {
        let rules = version.rules().unwrap();
        let text = event(&version);
        read(&text);
        let json = RawValue::from_string(text).unwrap();
        Incoming::read(&json, room_id!("!room:example.org"), &rules).unwrap();
    }
}
