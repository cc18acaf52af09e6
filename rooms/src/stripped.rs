//! Stripped state: what someone outside a room is told of it with an invite or a knock.
//!
//! Client-Server API, "Stripped state".

use std::sync::Arc;

use hearth_core::Pdu;
use ruma::{OwnedUserId, UserId, events::StateEventType};
use serde::{Deserialize, Serialize};
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

/// A state event without what only servers need.
#[derive(Serialize)]
pub(crate) struct Stripped<'a> {
    content: &'a RawValue,
    sender: &'a str,
    state_key: &'a str,
    #[serde(rename = "type")]
    kind: String,
}

impl<'a> From<&'a Pdu> for Stripped<'a> {
    fn from(event: &'a Pdu) -> Self {
        Self {
            content: &event.content,
            sender: event.sender.as_str(),
            state_key: event.state_key.as_deref().unwrap_or_default(),
            kind: event.kind.to_string(),
        }
    }
}

/// A stripped state event of another server.
#[derive(Debug, Deserialize)]
pub(crate) struct GivenStripped {
    content: Box<RawValue>,
    sender: OwnedUserId,
    state_key: String,
    #[serde(rename = "type")]
    kind: String,
}

impl GivenStripped {
    /// Whether it is the member event of `user` that `sender` sent.
    pub(crate) fn is_member(&self, sender: &UserId, user: Option<&str>) -> bool {
        self.kind == "m.room.member" && self.sender == sender && Some(&*self.state_key) == user
    }
}

impl<'a> From<&'a GivenStripped> for Stripped<'a> {
    fn from(event: &'a GivenStripped) -> Self {
        Self {
            content: &event.content,
            sender: event.sender.as_str(),
            state_key: &event.state_key,
            kind: event.kind.clone(),
        }
    }
}

/// The events that a server outside the room is told, besides the member event of `sender`'s doing.
pub(crate) async fn for_server(
    rooms: &Rooms,
    snapshot: &Snapshot,
    sender: &UserId,
) -> sqlx::Result<Vec<Arc<RoomEvent>>> {
    let mut types: Vec<_> = TOLD.into_iter().map(|kind| (kind, String::new())).collect();
    types.push((StateEventType::RoomMember, sender.to_string()));
    let told = rooms.state_subset(snapshot, types).await?;
    let mut events: Vec<Arc<RoomEvent>> = told.into_values().collect();
    events.sort_by_key(|event| event.nid);
    Ok(events)
}

/// The stripped state that goes with a member event which is already part of `snapshot`: a JSON array.
pub(crate) async fn for_member(
    rooms: &Rooms,
    snapshot: &Snapshot,
    event: &RoomEvent,
) -> Result<String, SendError> {
    let told = for_server(rooms, snapshot, &event.pdu.sender).await?;
    let mut events: Vec<&RoomEvent> = told.iter().map(AsRef::as_ref).collect();
    events.retain(|told| told.nid != event.nid);
    events.push(event);
    let stripped: Vec<Stripped<'_>> = events
        .into_iter()
        .map(|event| Stripped::from(&event.pdu))
        .collect();
    Ok(serde_json::to_string(&stripped)?)
}
