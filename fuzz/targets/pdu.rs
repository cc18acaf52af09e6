//! Events of other servers, in every room version: whatever comes, reading it ends with an event or an error, and what
//! was read is the same event when it is written and read again.

#![no_main]

use hearth_rooms::{Incoming, version};
use libfuzzer_sys::fuzz_target;
use ruma::{CanonicalJsonObject, RoomId};
use serde_json::value::RawValue;

fuzz_target!(|text: &str| {
    let Ok(json) = RawValue::from_string(text.to_owned()) else {
        return;
    };
    let object = serde_json::from_str::<CanonicalJsonObject>(text).unwrap_or_default();
    let named = object.get("room_id").and_then(|id| id.as_str());
    let room_id = named.unwrap_or("!room:example.org");
    let Ok(room_id) = <&RoomId>::try_from(room_id) else {
        return;
    };
    for version in version::SUPPORTED {
        let rules = version.rules().expect("supported versions have rules");
        let Ok(event) = Incoming::read(&json, room_id, &rules) else {
            continue;
        };
        let written = serde_json::to_string(&object).expect("what was read can be written");
        let written = RawValue::from_string(written).expect("what was written is JSON");
        let again = Incoming::read(&written, room_id, &rules).expect("it is the same event");
        assert_eq!(event.event_id(), again.event_id());
        assert_eq!(event.sender(), again.sender());
    }
});
