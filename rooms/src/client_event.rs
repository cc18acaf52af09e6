//! Events as clients see them: the stored content spliced between the fields that clients get.

use std::{collections::HashSet, sync::Arc};

use ruma::{OwnedUserId, events::TimelineEventType};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::{RawValue, to_raw_value};

use crate::event::RoomEvent;

/// Whether the receiver knows the room from where the event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomIdField {
    /// `/sync` puts events under their room.
    Left,
    /// Everywhere else they carry it.
    Written,
}

/// What an event looks like to one client.
#[derive(Clone, Debug)]
pub struct ClientEvent {
    event: Arc<RoomEvent>,
    room_id: RoomIdField,
    /// What goes into `unsigned`.
    pub unsigned: Unsigned,
}

/// `unsigned`, as it is computed for one client.
#[derive(Clone, Debug, Default)]
pub struct Unsigned {
    /// Milliseconds since the event was made.
    pub age: Option<i64>,
    /// The transaction id, for the device that sent the event.
    pub transaction_id: Option<String>,
    /// The state event that this one replaced.
    pub replaces: Option<Arc<RoomEvent>>,
    /// The membership of the receiving user at the event.
    pub membership: Option<String>,
    /// `m.relations`: what refers to the event, aggregated.
    pub relations: Option<Box<RawValue>>,
}

impl ClientEvent {
    /// The event without anything that depends on who receives it.
    #[must_use]
    pub fn new(event: Arc<RoomEvent>, room_id: RoomIdField) -> Self {
        Self {
            event,
            room_id,
            unsigned: Unsigned::default(),
        }
    }

    /// The same with the room that it is in.
    #[must_use]
    pub fn with_room_id(self) -> Self {
        Self {
            room_id: RoomIdField::Written,
            ..self
        }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &Arc<RoomEvent> {
        &self.event
    }

    /// The JSON.
    ///
    /// # Panics
    ///
    /// Never: maps with string keys and raw JSON serialize.
    #[must_use]
    pub fn to_raw(&self) -> Box<RawValue> {
        to_raw_value(self).expect("maps with string keys and raw JSON serialize")
    }
}

impl Serialize for ClientEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pdu = &self.event.pdu;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("content", &pdu.content)?;
        map.serialize_entry("event_id", &pdu.event_id)?;
        map.serialize_entry("origin_server_ts", &pdu.origin_server_ts)?;
        if self.room_id == RoomIdField::Written {
            map.serialize_entry("room_id", &pdu.room_id)?;
        }
        map.serialize_entry("sender", &pdu.sender)?;
        if let Some(key) = &pdu.state_key {
            map.serialize_entry("state_key", key)?;
        }
        map.serialize_entry("type", &pdu.kind)?;
        if pdu.kind == TimelineEventType::RoomRedaction
            && let Some(redacts) = &pdu.redacts
        {
            map.serialize_entry("redacts", redacts)?;
        }
        let unsigned = UnsignedOf {
            unsigned: &self.unsigned,
            event: &self.event,
        };
        if !unsigned.is_empty() {
            map.serialize_entry("unsigned", &unsigned)?;
        }
        map.end()
    }
}

struct UnsignedOf<'a> {
    unsigned: &'a Unsigned,
    event: &'a RoomEvent,
}

impl UnsignedOf<'_> {
    fn is_empty(&self) -> bool {
        let unsigned = self.unsigned;
        unsigned.age.is_none()
            && unsigned.transaction_id.is_none()
            && unsigned.replaces.is_none()
            && unsigned.membership.is_none()
            && unsigned.relations.is_none()
            && self.event.redaction.is_none()
    }
}

impl Serialize for UnsignedOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let unsigned = self.unsigned;
        let mut map = serializer.serialize_map(None)?;
        if let Some(age) = unsigned.age {
            map.serialize_entry("age", &age)?;
        }
        if let Some(membership) = &unsigned.membership {
            map.serialize_entry("membership", membership)?;
        }
        if let Some(replaced) = &unsigned.replaces {
            map.serialize_entry("prev_content", &replaced.pdu.content)?;
            map.serialize_entry("prev_sender", &replaced.pdu.sender)?;
            map.serialize_entry("replaces_state", &replaced.pdu.event_id)?;
        }
        if let Some(redaction) = &self.event.redaction {
            map.serialize_entry("redacted_by", &redaction.pdu.event_id)?;
            map.serialize_entry(
                "redacted_because",
                &ClientEvent::new(Arc::clone(redaction), RoomIdField::Written),
            )?;
        }
        if let Some(id) = &unsigned.transaction_id {
            map.serialize_entry("transaction_id", id)?;
        }
        if let Some(relations) = &unsigned.relations {
            map.serialize_entry("m.relations", relations)?;
        }
        map.end()
    }
}

/// For whom events are written: decides about transaction ids and membership.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// The user.
    pub user_id: OwnedUserId,
    /// The user's number.
    pub user: hearth_core::UserNid,
    /// The device, if the token has one.
    pub device_id: Option<String>,
    /// Whose events the user does not want to see, state events excepted.
    pub ignored: Arc<HashSet<OwnedUserId>>,
}
