//! An event as servers exchange it.

use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedUserId, RoomId, UserId, events::TimelineEventType, room_version_rules::RoomVersionRules,
    signatures::reference_hash, state_res::Event,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// A parsed PDU beside its bytes, which never change.
#[derive(Clone, Debug)]
pub struct Pdu {
    /// The event's id.
    pub event_id: OwnedEventId,
    /// The room; from version 12 on a create event does not carry it, and it follows from the event id.
    pub room_id: OwnedRoomId,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// The event type.
    pub kind: TimelineEventType,
    /// Present on state events.
    pub state_key: Option<String>,
    /// The content as it stands in the JSON.
    pub content: Box<RawValue>,
    /// The events before this one.
    pub prev_events: Vec<OwnedEventId>,
    /// The events that authorise this one.
    pub auth_events: Vec<OwnedEventId>,
    /// Greater than the depth of any previous event.
    pub depth: i64,
    /// When the origin says that it was made.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// What a redaction redacts: from the content since room version 11, from the top level before.
    pub redacts: Option<OwnedEventId>,
    /// `unsigned` as it came, if it did.
    pub unsigned: Option<Box<RawValue>>,
    /// The whole event, as other servers get it.
    pub json: Box<RawValue>,
}

/// Why bytes are no PDU.
#[derive(Debug, thiserror::Error)]
pub enum PduError {
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("not an event: {0}")]
    Json(#[from] serde_json::Error),
    /// The event's hash cannot be computed.
    #[error("the event's id cannot be computed: {0}")]
    Hash(#[from] ruma::signatures::JsonError),
    /// An id does not parse.
    #[error("an id in the event is malformed: {0}")]
    Id(#[from] ruma::IdParseError),
    /// A field that the room version wants is not there.
    #[error("the event has no {0}")]
    Missing(&'static str),
}

/// The fields of a PDU, read without copying what is not needed.
#[derive(Deserialize)]
struct Fields<'a> {
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    #[serde(rename = "type")]
    kind: TimelineEventType,
    state_key: Option<String>,
    #[serde(borrow)]
    content: &'a RawValue,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    depth: i64,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    redacts: Option<OwnedEventId>,
    #[serde(borrow)]
    unsigned: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RedactsContent {
    redacts: Option<OwnedEventId>,
}

impl Pdu {
    /// Reads a PDU whose id is known.
    pub fn parse(
        event_id: OwnedEventId,
        json: Box<RawValue>,
        rules: &RoomVersionRules,
    ) -> Result<Self, PduError> {
        let fields: Fields<'_> = serde_json::from_str(json.get())?;
        let redacts = match fields.redacts {
            _ if fields.kind != TimelineEventType::RoomRedaction => None,
            Some(id) if !rules.redaction.content_field_redacts => Some(id),
            None | Some(_) if rules.redaction.content_field_redacts => {
                serde_json::from_str::<RedactsContent>(fields.content.get())?.redacts
            }
            None | Some(_) => None,
        };
        let room_id = match fields.room_id {
            Some(id) => id,
            None if rules.authorization.room_create_event_id_as_room_id => {
                RoomId::parse(event_id.as_str().replacen('$', "!", 1))?
            }
            None => return Err(PduError::Missing("room_id")),
        };
        let (content, unsigned) = (
            fields.content.to_owned(),
            fields.unsigned.map(ToOwned::to_owned),
        );
        Ok(Self {
            event_id,
            room_id,
            sender: fields.sender,
            kind: fields.kind,
            state_key: fields.state_key,
            content,
            prev_events: fields.prev_events,
            auth_events: fields.auth_events,
            depth: fields.depth,
            origin_server_ts: fields.origin_server_ts,
            redacts,
            unsigned,
            json,
        })
    }

    /// Reads a PDU from canonical JSON and computes its id.
    pub fn from_canonical(
        object: &CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<Self, PduError> {
        let event_id = event_id(object, rules)?;
        let json = RawValue::from_string(serde_json::to_string(object)?)?;
        Self::parse(event_id, json, rules)
    }

    /// Reads the content as `T`.
    pub fn content_as<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.content.get())
    }

    /// Whether this is the state event of `kind` with the empty state key.
    #[must_use]
    pub fn is_state(&self, kind: &TimelineEventType) -> bool {
        self.kind == *kind && self.state_key.as_deref() == Some("")
    }
}

/// The id of an event: its reference hash (room versions 3 and later).
pub fn event_id(
    object: &CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Result<OwnedEventId, PduError> {
    let hash = reference_hash(object, rules)?;
    Ok(EventId::parse(format!("${hash}"))?)
}

impl Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        // Where the room's id is the create event's, that event does not carry it.
        let own =
            self.event_id.as_str().strip_prefix('$') == self.room_id.as_str().strip_prefix('!');
        (!own).then_some(&*self.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.kind
    }

    fn content(&self) -> &RawValue {
        &self.content
    }

    fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.auth_events.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        false
    }
}
