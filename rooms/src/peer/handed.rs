//! Member events that another server hands over for its user, or got from us and signed.

use std::sync::Arc;

use hearth_core::Pdu;
use hearth_store::write::Status;
use ruma::{
    CanonicalJsonObject, EventId, OwnedUserId, RoomId, ServerName, UserId,
    events::{TimelineEventType, room::member::MembershipState},
    signatures::sign_event,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::PeerError;
use crate::{
    Rooms, error::SendError, event::RoomEvent, incoming::Incoming, membership::MembershipError,
    receive::ReceiveError, residents::Handshake, room::Room,
};

/// A member event that has the shape that it must have.
#[derive(Debug)]
pub(super) struct Handed {
    object: CanonicalJsonObject,
    pub pdu: Pdu,
}

#[derive(Deserialize)]
struct Content {
    membership: MembershipState,
    join_authorised_via_users_server: Option<OwnedUserId>,
}

impl Handed {
    /// Reads an event, which must have the id that the other server says.
    pub(super) fn read(
        room_id: &RoomId,
        rules: &ruma::room_version_rules::RoomVersionRules,
        event_id: &EventId,
        event: &RawValue,
    ) -> Result<Self, PeerError> {
        let invalid = |reason: String| PeerError::Invalid(reason);
        let mut object: CanonicalJsonObject =
            serde_json::from_str(event.get()).map_err(|error| invalid(error.to_string()))?;
        object.remove("unsigned");
        let pdu =
            Pdu::from_canonical(&object, rules).map_err(|error| invalid(error.to_string()))?;
        if pdu.event_id != event_id {
            return Err(invalid("the event has another id".into()));
        }
        if pdu.room_id != room_id {
            return Err(invalid("the event belongs to another room".into()));
        }
        if pdu.kind != TimelineEventType::RoomMember {
            return Err(invalid("the event is no member event".into()));
        }
        Ok(Self { object, pdu })
    }

    /// Checks that a user of `origin` says this of himself.
    pub(super) fn check_own(
        &self,
        origin: &ServerName,
        handshake: Handshake,
    ) -> Result<(), PeerError> {
        let wanted = handshake.membership();
        if self.content()?.membership.as_str() != wanted {
            return Err(PeerError::Invalid(format!(
                "the membership is not {wanted}"
            )));
        }
        if self.pdu.sender.server_name() != origin {
            return Err(PeerError::Invalid(
                "the sender belongs to another server".into(),
            ));
        }
        if self.pdu.state_key.as_deref() != Some(self.pdu.sender.as_str()) {
            return Err(PeerError::Invalid("the state key is not the sender".into()));
        }
        Ok(())
    }

    /// Checks that a user of `origin` invites `server`'s user; says whom.
    pub(super) fn check_invite(
        &self,
        origin: &ServerName,
        server: &ServerName,
    ) -> Result<OwnedUserId, PeerError> {
        if self.content()?.membership != MembershipState::Invite {
            return Err(PeerError::Invalid("the membership is not invite".into()));
        }
        if self.pdu.sender.server_name() != origin {
            return Err(PeerError::Invalid(
                "the sender belongs to another server".into(),
            ));
        }
        let invited = self.pdu.state_key.as_deref().unwrap_or_default();
        match UserId::parse(invited) {
            Ok(user) if user.server_name() == server => Ok(user),
            Ok(_) | Err(_) => Err(PeerError::Invalid("the user is not one of ours".into())),
        }
    }

    /// The user who lets the sender into a restricted room.
    pub(super) fn authorising(&self) -> Result<Option<OwnedUserId>, PeerError> {
        Ok(self.content()?.join_authorised_via_users_server)
    }

    fn content(&self) -> Result<Content, PeerError> {
        self.pdu
            .content_as()
            .map_err(|error| PeerError::Invalid(error.to_string()))
    }

    /// Adds our signature.
    pub(super) fn sign(&mut self, rooms: &Rooms, room: &Room) -> Result<(), PeerError> {
        let identity = rooms.identity();
        let name = identity.server_name.as_str();
        sign_event(name, &identity.key, &mut self.object, &room.rules.redaction)
            .map_err(|error| PeerError::Invalid(error.to_string()))?;
        let pdu = Pdu::from_canonical(&self.object, &room.rules).map_err(SendError::from)?;
        self.pdu = pdu;
        Ok(())
    }
}

impl Rooms {
    /// Takes a member event of `origin`'s user into the room.
    ///
    /// What the rules do not allow is refused, and so is what only the present state does not: the other server would
    /// believe that its user is in.
    pub(super) async fn take_member(
        &self,
        origin: &ServerName,
        room: &Room,
        pdu: &Pdu,
    ) -> Result<Arc<RoomEvent>, PeerError> {
        let event = Incoming::read(&pdu.json, &room.id, &room.rules).map_err(invalid)?;
        let received = match self.receive(room, origin, event).await {
            Ok(received) => received,
            Err(ReceiveError::Malformed(error)) => return Err(invalid(error)),
            Err(ReceiveError::NotInRoom) => return Err(PeerError::NotFound),
            Err(error @ (ReceiveError::Missing | ReceiveError::TookTooLong)) => {
                return Err(invalid(error));
            }
            Err(ReceiveError::Failed(error)) => return Err(error.into()),
        };
        if received.status != Status::Accepted {
            let reason = "the room does not allow this".to_owned();
            return Err(PeerError::Forbidden(reason));
        }
        let nids = self.events().nids(&[&received.event_id]).await?;
        let nid = nids.get(&received.event_id).ok_or(PeerError::NotFound)?;
        Ok(self.events().get(*nid).await?)
    }

    /// Takes an event that a handshake brought about into a room that this server is in.
    pub(crate) async fn take_handed(
        &self,
        from: &ServerName,
        room_id: &RoomId,
        event: &RawValue,
    ) -> Result<(), MembershipError> {
        let room = self.find(room_id).await?.ok_or(SendError::UnknownRoom)?;
        let bad = |error: &dyn std::error::Error| SendError::BadEvent(error.to_string());
        let event = Incoming::read(event, room_id, &room.rules).map_err(|error| bad(&error))?;
        match self.receive(&room, from, event).await {
            Ok(received) if received.status == Status::Accepted => Ok(()),
            Ok(_) => Err(SendError::Forbidden("the room does not allow this".into()).into()),
            Err(ReceiveError::Failed(error)) => Err(error.into()),
            Err(error) => Err(bad(&error).into()),
        }
    }
}

fn invalid(error: impl std::error::Error) -> PeerError {
    PeerError::Invalid(error.to_string())
}
