//! Invites by e-mail address that found their user.
//!
//! Server-Server API, "Third-party invites": the server of the user who is bound to the address now asks the one whose user
//! sent the invite to make a proper one of it. We are either.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomId, OwnedUserId, ServerName, UserId,
    events::TimelineEventType,
};
use serde::Deserialize;

use super::PeerError;
use crate::{
    Rooms, create::object, draft::Draft, error::SendError, membership::MembershipError,
    residents::ResidentError,
};

/// A member event without its place in the room's graph.
#[derive(Clone, Debug, Deserialize)]
pub struct PartialInvite {
    /// `m.room.member`
    #[serde(rename = "type")]
    pub kind: TimelineEventType,
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who sent the invite.
    pub sender: OwnedUserId,
    /// Who is invited.
    pub state_key: OwnedUserId,
    /// The content, with `third_party_invite`.
    pub content: CanonicalJsonObject,
}

/// How many invites of one user are taken on at once.
const MOST: usize = 10;

impl Rooms {
    /// Has proper invites made of those that were sent to an address, now that a user of ours is bound to it.
    ///
    /// Anybody may say so; whether it is true is for the authorisation rules of each room, which know the keys of the
    /// identity server.
    ///
    /// # Errors
    ///
    /// When the user is none of ours. That an invite cannot be had is no error.
    pub async fn take_bound(
        &self,
        user: &UserId,
        invites: Vec<PartialInvite>,
    ) -> Result<(), PeerError> {
        let ours = &self.identity().server_name;
        if user.server_name() != ours {
            return Err(PeerError::Invalid("the user is not one of ours".into()));
        }
        self.check_account(user).await?;
        let his = invites.iter().filter(|invite| invite.state_key == user);
        for invite in his.take(MOST) {
            let server = invite.sender.server_name();
            let had = if server == ours {
                let made = self.exchange_invite(ours, invite.clone()).await;
                made.map_err(|error| error.to_string())
            } else {
                let asked = self.residents().exchange_invite(server, invite).await;
                asked.map_err(|error| error.to_string())
            };
            if let Err(error) = had {
                tracing::info!(room_id = %invite.room_id, error, "an invite to an address could not be had");
            }
        }
        Ok(())
    }

    /// Invites the user who turned out to be meant by an invite that a user of ours sent to an address.
    ///
    /// Whether the identity server's signature is good is for the authorisation rules.
    ///
    /// # Errors
    ///
    /// See [`PeerError`].
    pub async fn exchange_invite(
        &self,
        origin: &ServerName,
        invite: PartialInvite,
    ) -> Result<(), PeerError> {
        let room = self.room_for(origin, &invite.room_id).await?;
        let draft = invite.draft(&self.identity().server_name)?;
        let (sender, invited): (&UserId, &UserId) = (&invite.sender, &invite.state_key);
        match self.send_invite(&room, sender, invited, draft).await {
            Ok(_) => Ok(()),
            Err(MembershipError::Event(SendError::Forbidden(reason))) => {
                Err(PeerError::Forbidden(reason))
            }
            Err(MembershipError::Event(error)) => Err(error.into()),
            Err(MembershipError::Elsewhere(ResidentError::Refused { message, .. })) => {
                Err(PeerError::Forbidden(message))
            }
            Err(error) => Err(PeerError::Forbidden(error.to_string())),
        }
    }
}

impl PartialInvite {
    /// Checks the shape, and takes of the content what belongs into the invite.
    fn draft(&self, server: &ServerName) -> Result<Draft, PeerError> {
        let invalid = |reason: &str| PeerError::Invalid(reason.to_owned());
        if self.kind != TimelineEventType::RoomMember {
            return Err(invalid("the event is no member event"));
        }
        if self.sender.server_name() != server {
            return Err(invalid("the sender is not one of our users"));
        }
        let membership = self.content.get("membership");
        if membership.and_then(CanonicalJsonValue::as_str) != Some("invite") {
            return Err(invalid("the membership is not invite"));
        }
        let third_party = self.content.get("third_party_invite");
        let third_party = third_party.ok_or(PeerError::Missing("third_party_invite is missing"))?;
        let content = object([
            ("membership", "invite".into()),
            ("third_party_invite", third_party.clone()),
        ]);
        Ok(Draft::state(
            TimelineEventType::RoomMember,
            self.state_key.as_str(),
            content,
        ))
    }
}
