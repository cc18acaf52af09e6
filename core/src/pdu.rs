//! An event as servers exchange it.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId,
    OwnedRoomId, OwnedUserId, RoomId, UserId,
    events::TimelineEventType,
    room_version_rules::{EventIdFormatVersion, EventsReferenceFormatVersion, RoomVersionRules},
    signatures::reference_hash,
    state_res::Event,
};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
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
    /// A name in it has a null character, so that it could not be stored under that name.
    #[error("the event has a null character in its {0}")]
    Null(&'static str),
}

/// The fields of a PDU, read without copying what is not needed; `R` is how it refers to other events.
#[derive(Deserialize)]
struct Fields<'a, R> {
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    #[serde(rename = "type")]
    kind: TimelineEventType,
    state_key: Option<String>,
    #[serde(borrow)]
    content: &'a RawValue,
    prev_events: Vec<R>,
    auth_events: Vec<R>,
    depth: i64,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    redacts: Option<OwnedEventId>,
    #[serde(borrow)]
    unsigned: Option<&'a RawValue>,
}

/// How events refer to others before room version 3: by their id and their hash.
#[derive(Deserialize)]
struct Hashed(OwnedEventId, IgnoredAny);

impl From<Hashed> for OwnedEventId {
    fn from(Hashed(id, _): Hashed) -> Self {
        id
    }
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
        if rules.events_reference_format == EventsReferenceFormatVersion::V1 {
            Self::read::<Hashed>(event_id, json, rules)
        } else {
            Self::read::<OwnedEventId>(event_id, json, rules)
        }
    }

    fn read<R: DeserializeOwned + Into<OwnedEventId>>(
        event_id: OwnedEventId,
        json: Box<RawValue>,
        rules: &RoomVersionRules,
    ) -> Result<Self, PduError> {
        let fields: Fields<'_, R> = serde_json::from_str(json.get())?;
        let prev_events: Vec<_> = fields.prev_events.into_iter().map(Into::into).collect();
        let auth_events: Vec<_> = fields.auth_events.into_iter().map(Into::into).collect();
        let cited = prev_events.iter().chain(&auth_events);
        if fields.kind.to_string().contains('\0') {
            return Err(PduError::Null("type"));
        }
        if fields
            .state_key
            .as_ref()
            .is_some_and(|key| key.contains('\0'))
        {
            return Err(PduError::Null("state key"));
        }
        if cited.map(|id| id.as_str()).any(|id| id.contains('\0')) {
            return Err(PduError::Null("references"));
        }
        let redacts = match fields.redacts {
            _ if fields.kind != TimelineEventType::RoomRedaction => None,
            Some(id) if !rules.redaction.content_field_redacts => Some(id),
            None | Some(_) if rules.redaction.content_field_redacts => {
                serde_json::from_str::<RedactsContent>(fields.content.get())?.redacts
            }
            None | Some(_) => None,
        };
        if redacts
            .as_ref()
            .is_some_and(|id| id.as_str().contains('\0'))
        {
            return Err(PduError::Null("target"));
        }
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
            prev_events,
            auth_events,
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

    /// How another event refers to this one.
    pub fn reference(&self, rules: &RoomVersionRules) -> Result<CanonicalJsonValue, PduError> {
        let id = CanonicalJsonValue::from(self.event_id.as_str());
        if rules.events_reference_format != EventsReferenceFormatVersion::V1 {
            return Ok(id);
        }
        let hash = reference_hash(&serde_json::from_str(self.json.get())?, rules)?;
        let hash = CanonicalJsonObject::from([("sha256".to_owned(), hash.into())]);
        Ok(vec![id, hash.into()].into())
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

/// The id of an event: its reference hash, or what it says itself before room version 3.
pub fn event_id(
    object: &CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Result<OwnedEventId, PduError> {
    if rules.event_id_format == EventIdFormatVersion::V1 {
        let id = object.get("event_id").and_then(CanonicalJsonValue::as_str);
        return Ok(EventId::parse(id.ok_or(PduError::Missing("event_id"))?)?);
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(id: &str, previous: &CanonicalJsonValue) -> CanonicalJsonObject {
        let event = json!({
            "event_id": id, "room_id": "!r:a.org", "sender": "@u:a.org", "type": "m.room.message", "content": {},
            "prev_events": [previous], "auth_events": [], "depth": 1, "origin_server_ts": 1,
        });
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn before_version_3_events_bear_their_ids_and_hashes_of_others() {
        let rules = RoomVersionRules::V2;
        let nothing = vec!["$0:a.org".into(), CanonicalJsonObject::new().into()].into();
        let first = Pdu::from_canonical(&event("$1:a.org", &nothing), &rules).unwrap();

        let reference = first.reference(&rules).unwrap();
        let second = Pdu::from_canonical(&event("$2:a.org", &reference), &rules).unwrap();

        assert_eq!(first.event_id, "$1:a.org");
        assert_eq!(second.prev_events, [first.event_id]);
        let hash = &reference.as_array().unwrap()[1].as_object().unwrap()["sha256"];
        assert_eq!(hash.as_str().unwrap().len(), 43);
    }

    #[test]
    fn since_version_3_references_are_ids_alone() {
        let rules = RoomVersionRules::V11;
        let id = CanonicalJsonValue::from("$0");
        let pair = vec![id.clone(), CanonicalJsonObject::new().into()].into();

        let pdu = Pdu::from_canonical(&event("$1:a.org", &id), &rules).unwrap();

        assert_ne!(pdu.event_id, "$1:a.org");
        assert_eq!(
            pdu.reference(&rules).unwrap(),
            CanonicalJsonValue::from(pdu.event_id.as_str())
        );
        assert!(Pdu::from_canonical(&event("$1:a.org", &pair), &rules).is_err());
    }
}
