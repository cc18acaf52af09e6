//! Stripped state: what someone outside a room is told of it with an invite or a knock.
//!
//! Client-Server API, "Stripped state".

use ruma::events::StateEventType;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{Rooms, error::SendError, event::RoomEvent, snapshot::Snapshot};

/// What is told, besides the member event itself.
const TOLD: [StateEventType; 8] = [
    StateEventType::RoomCreate,
    StateEventType::RoomName,
    StateEventType::RoomAvatar,
    StateEventType::RoomTopic,
    StateEventType::RoomJoinRules,
    StateEventType::RoomCanonicalAlias,
    StateEventType::RoomEncryption,
    StateEventType::RoomTombstone,
];

#[derive(Serialize)]
struct Stripped<'a> {
    content: &'a RawValue,
    sender: &'a str,
    state_key: &'a str,
    #[serde(rename = "type")]
    kind: String,
}

impl<'a> From<&'a RoomEvent> for Stripped<'a> {
    fn from(event: &'a RoomEvent) -> Self {
        Self {
            content: &event.pdu.content,
            sender: event.pdu.sender.as_str(),
            state_key: event.pdu.state_key.as_deref().unwrap_or_default(),
            kind: event.pdu.kind.to_string(),
        }
    }
}

/// The stripped state that goes with a member event which is already part of `snapshot`: a JSON array.
pub(crate) async fn for_member(
    rooms: &Rooms,
    snapshot: &Snapshot,
    event: &RoomEvent,
) -> Result<String, SendError> {
    let mut types: Vec<_> = TOLD.into_iter().map(|kind| (kind, String::new())).collect();
    types.push((StateEventType::RoomMember, event.pdu.sender.to_string()));
    let told = rooms.state_subset(snapshot, types).await?;
    let mut events: Vec<&RoomEvent> = told.values().map(AsRef::as_ref).collect();
    events.retain(|told| told.nid != event.nid);
    events.sort_by_key(|event| event.nid);
    events.push(event);
    let stripped: Vec<Stripped<'_>> = events.into_iter().map(Stripped::from).collect();
    Ok(serde_json::to_string(&stripped)?)
}
