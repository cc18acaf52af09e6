//! State events that go with an invite or a knock: what a server outside a room is told of it.
//!
//! Servers exchange whole events; clients get them stripped. Server-Server API, `PUT /invite` and `PUT /send_knock`;
//! Client-Server API, "Stripped state".

use std::collections::HashSet;

use hearth_core::Pdu;
use ruma::OwnedEventId;
use serde_json::value::RawValue;

use crate::{
    Rooms,
    error::SendError,
    incoming::Incoming,
    room::Room,
    stripped::{GivenStripped, Stripped},
};

/// How many events are read; the specification names ten types.
const TOLD: usize = 100;

/// What another server told of a room.
#[derive(Debug)]
pub(crate) struct ToldState {
    /// Events with valid signatures.
    events: Vec<Pdu>,
    /// Events in the form that servers used before whole ones were asked for; nobody signed them.
    unsigned: Vec<GivenStripped>,
    /// How many entries are neither.
    pub spoiled: usize,
}

impl ToldState {
    /// Reads what was told, and leaves out what is not signed as it must be.
    pub(crate) async fn read(rooms: &Rooms, room: &Room, mut told: Vec<Box<RawValue>>) -> Self {
        let total = told.len();
        told.truncate(TOLD);
        let (whole, stripped): (Vec<_>, Vec<_>) =
            told.into_iter().partition(|event| is_whole(event));
        let read = whole.iter();
        let read = read.filter_map(|json| Incoming::read(json, &room.id, &room.rules).ok());
        let verified = rooms.verify(&room.rules, read.collect()).await.into_iter();
        let events: Vec<Pdu> = verified.filter_map(|event| Some(event.ok()?.pdu)).collect();
        let unsigned: Vec<GivenStripped> = stripped
            .iter()
            .filter_map(|event| serde_json::from_str(event.get()).ok())
            .collect();
        Self {
            spoiled: total - events.len() - unsigned.len(),
            events,
            unsigned,
        }
    }

    /// Whether the room's create event is among the signed events.
    pub(crate) fn has_create(&self) -> bool {
        self.events
            .iter()
            .any(|event| event.is_state(&"m.room.create".into()))
    }

    /// Whether every entry is a whole event that is signed as it must be.
    pub(crate) fn is_sound(&self) -> bool {
        self.spoiled == 0 && self.unsigned.is_empty()
    }

    /// The form for clients, the member event last: a JSON array.
    pub(crate) fn stripped_with(&self, member: &Pdu) -> Result<String, SendError> {
        let mut seen: HashSet<OwnedEventId> = HashSet::from([member.event_id.clone()]);
        let events = self
            .events
            .iter()
            .filter(|event| event.state_key.is_some() && seen.insert(event.event_id.clone()));
        let unsigned = self
            .unsigned
            .iter()
            .filter(|event| !event.is_member(&member.sender, member.state_key.as_deref()))
            .map(Stripped::from);
        let stripped: Vec<Stripped<'_>> = unsigned
            .chain(events.map(Stripped::from))
            .chain([Stripped::from(member)])
            .collect();
        Ok(serde_json::to_string(&stripped)?)
    }
}

/// Whether this is an event as servers exchange them.
fn is_whole(event: &RawValue) -> bool {
    #[derive(serde::Deserialize)]
    struct Whole {
        #[serde(rename = "signatures")]
        _signatures: serde::de::IgnoredAny,
        #[serde(rename = "auth_events")]
        _auth_events: serde::de::IgnoredAny,
    }
    serde_json::from_str::<Whole>(event.get()).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;

    #[test]
    fn an_event_with_signatures_is_whole() {
        let stripped =
            json!({ "type": "m.room.name", "state_key": "", "sender": "@a:b", "content": {} });
        let mut whole = stripped.clone();
        whole["signatures"] = json!({});
        whole["auth_events"] = json!([]);

        assert!(is_whole(&to_raw_value(&whole).unwrap()));
        assert!(!is_whole(&to_raw_value(&stripped).unwrap()));
    }
}
