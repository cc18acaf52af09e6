//! The face `GET /_matrix/client/v3/initialSync`: everything of a user, as it was asked for before `/sync`.
//!
//! It is a first sync, written otherwise: rooms are a list, and events carry the room that they are in.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use hearth_core::{EventNid, token::PageToken};
use hearth_rooms::{ClientEvent, Receiver, Relations, RoomIdField, membership_of};
use ruma::{
    OwnedRoomId, RoomId, UserId,
    events::{StateEventType, room::member::MembershipState},
    presence::PresenceState,
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    filter::{Leave, SyncFilter},
    response::{AccountData, JoinedRoom, LeftRoom, OutsideRoom, TimelineAndState},
    service::{Sync, SyncError},
    view::{FullState, Request, StateMode},
};

/// How many messages of a room are shown at the most.
const MAX_MESSAGES: usize = 100;

/// Whether rooms that the user left are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archived {
    /// They are, unless he forgot them.
    Included,
    /// They are not.
    Left,
}

/// Everything of a user.
#[derive(Debug, Serialize)]
pub struct InitialSync {
    /// From where `/events` goes on.
    end: String,
    presence: Vec<Box<RawValue>>,
    rooms: Vec<RoomInfo>,
    account_data: Vec<AccountData>,
}

#[derive(Debug, Serialize)]
struct RoomInfo {
    room_id: OwnedRoomId,
    membership: MembershipState,
    visibility: Visibility,
    #[serde(skip_serializing_if = "Option::is_none")]
    invite: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Messages>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    state: Vec<ClientEvent>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    account_data: Vec<AccountData>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Visibility {
    Public,
    Private,
}

#[derive(Debug, Serialize)]
struct Messages {
    /// Left out when there is nothing before the first event.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    end: String,
    chunk: Vec<ClientEvent>,
}

impl Sync {
    /// Everything of the receiver by now, with up to `messages` of the newest messages of each room, or ten.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn initial(
        &self,
        receiver: Receiver,
        messages: Option<usize>,
        archived: Archived,
    ) -> Result<InitialSync, SyncError> {
        let mut filter = SyncFilter::default();
        filter.timeline.limit = messages.map(|messages| messages.min(MAX_MESSAGES));
        filter.leave = match archived {
            Archived::Included => Leave::All,
            Archived::Left => Leave::Recent,
        };
        let request = Request {
            receiver: receiver.clone(),
            filter: Arc::new(filter),
            since: None,
            full_state: FullState::Changed,
            state: StateMode::AfterTimeline,
            // Who looks once does not stay.
            set_presence: PresenceState::Offline,
            timeout: Duration::ZERO,
        };
        let response = self.wait(request, std::future::pending()).await?;
        let ids = response.join.iter().map(|room| &*room.room_id);
        let ids = ids.chain(response.leave.iter().map(|room| &*room.room_id));
        let ids = ids.chain(response.invite.iter().map(|room| &*room.room_id));
        let ids: Vec<&RoomId> = ids.collect();
        let published = self.rooms().published_among(&ids).await?;
        let mut invites = self.invites(&response.invite, &receiver).await?;
        let end = PageToken::Stream {
            order: response.next.position.0,
        };
        let writer = Writer {
            end: end.to_string(),
            user: &receiver.user_id,
            published,
        };
        let joined = response.join.into_iter().map(|room| writer.joined(room));
        let invited = response.invite.into_iter().map(|room| {
            let event = room.event.and_then(|event| invites.remove(&event));
            writer.invited(room, event)
        });
        let left = response.leave.into_iter().map(|room| writer.left(room));
        Ok(InitialSync {
            rooms: joined.chain(invited).chain(left).collect(),
            end: writer.end,
            presence: response.presence,
            account_data: response.account_data,
        })
    }

    /// The invites that are stored here, all at once.
    async fn invites(
        &self,
        rooms: &[OutsideRoom],
        receiver: &Receiver,
    ) -> sqlx::Result<HashMap<EventNid, ClientEvent>> {
        let nids: Vec<EventNid> = rooms.iter().filter_map(|room| room.event).collect();
        let events = self.rooms().events().map(nids).await?;
        let events = events.into_values().collect();
        let served = self
            .rooms()
            .serve(events, receiver, RoomIdField::Written, Relations::Left)
            .await?;
        let by_nid = served.into_iter().map(|event| (event.event().nid, event));
        Ok(by_nid.collect())
    }
}

/// What rooms are written with.
struct Writer<'a> {
    end: String,
    user: &'a UserId,
    published: HashSet<OwnedRoomId>,
}

impl Writer<'_> {
    fn joined(&self, room: JoinedRoom) -> RoomInfo {
        let membership = MembershipState::Join;
        self.known(room.room_id, membership, room.events, room.account_data)
    }

    fn left(&self, room: LeftRoom) -> RoomInfo {
        let membership = self.last_membership(&room.events);
        self.known(room.room_id, membership, room.events, room.account_data)
    }

    fn known(
        &self,
        room_id: OwnedRoomId,
        membership: MembershipState,
        events: TimelineAndState,
        account_data: Vec<AccountData>,
    ) -> RoomInfo {
        let written = |events: Vec<ClientEvent>| -> Vec<ClientEvent> {
            let events = events.into_iter();
            events.map(ClientEvent::with_room_id).collect()
        };
        RoomInfo {
            membership,
            visibility: self.visibility(&room_id),
            invite: None,
            messages: Some(Messages {
                start: events.limited.then_some(events.prev_batch),
                end: self.end.clone(),
                chunk: written(events.timeline),
            }),
            state: written(events.state),
            account_data,
            room_id,
        }
    }

    fn invited(&self, room: OutsideRoom, event: Option<ClientEvent>) -> RoomInfo {
        let invite = match event {
            Some(event) => Some(event.to_raw()),
            None => stripped_invite(&room, self.user),
        };
        RoomInfo {
            membership: MembershipState::Invite,
            visibility: self.visibility(&room.room_id),
            invite,
            messages: None,
            state: Vec::new(),
            account_data: Vec::new(),
            room_id: room.room_id,
        }
    }

    /// How the user is out of a room: whether he left it or was banned.
    fn last_membership(&self, events: &TimelineAndState) -> MembershipState {
        let own = |event: &&ClientEvent| {
            let pdu = &event.event().pdu;
            pdu.state_key.as_deref() == Some(self.user.as_str())
                && pdu.kind.to_string() == StateEventType::RoomMember.to_string()
        };
        let mut newest_first = events.timeline.iter().rev().chain(&events.state);
        let last = newest_first.find(own);
        last.map_or(MembershipState::Leave, |event| membership_of(event.event()))
    }

    fn visibility(&self, room_id: &RoomId) -> Visibility {
        match self.published.contains(room_id) {
            true => Visibility::Public,
            false => Visibility::Private,
        }
    }
}

#[derive(Deserialize, Serialize)]
struct StrippedEvent<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(default, skip_deserializing)]
    room_id: &'a str,
    sender: String,
    state_key: String,
    #[serde(rename = "type")]
    kind: String,
}

/// The invite as another server told of it, for a room of which there are no events here.
fn stripped_invite(room: &OutsideRoom, user: &UserId) -> Option<Box<RawValue>> {
    let events: Vec<&RawValue> = serde_json::from_str(room.state.get()).ok()?;
    let events = events.into_iter().filter_map(|event| {
        let event: StrippedEvent<'_> = serde_json::from_str(event.get()).ok()?;
        Some(event)
    });
    let is_invite = |event: &StrippedEvent<'_>| {
        event.state_key == user.as_str() && event.kind == StateEventType::RoomMember.to_string()
    };
    let invite = events.into_iter().find(is_invite)?;
    let written = StrippedEvent {
        room_id: room.room_id.as_str(),
        ..invite
    };
    to_raw_value(&written).ok()
}

#[cfg(test)]
mod tests {
    use ruma::{owned_room_id, user_id};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_invite_to_a_room_of_another_server_is_what_was_told() {
        let state = json!([
            { "type": "m.room.name", "state_key": "", "sender": "@a:b", "content": { "name": "Tea" } },
            { "type": "m.room.member", "state_key": "@a:b", "sender": "@a:b", "content": { "membership": "join" } },
            { "type": "m.room.member", "state_key": "@c:d", "sender": "@a:b", "content": { "membership": "invite" } },
        ]);
        let room = OutsideRoom {
            room_id: owned_room_id!("!tea:b"),
            event: None,
            state: to_raw_value(&state).unwrap(),
        };

        let invite = stripped_invite(&room, user_id!("@c:d")).unwrap();
        let invite: Value = serde_json::from_str(invite.get()).unwrap();

        assert_eq!(invite["content"]["membership"], "invite");
        assert_eq!(invite["room_id"], "!tea:b");
        assert!(stripped_invite(&room, user_id!("@e:f")).is_none());
    }
}
