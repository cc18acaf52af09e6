//! Inviting users, of other servers too.
//!
//! Server-Server API, "Inviting to a room": the invited user's server signs the event before it goes into the room.

use futures_util::{StreamExt as _, stream};
use hearth_core::{Pdu, pdu::event_id};
use ruma::{CanonicalJsonObject, OwnedEventId, ServerName, UserId};
use serde_json::value::RawValue;

use crate::{
    Rooms,
    changes::Changes,
    draft::Draft,
    error::SendError,
    membership::MembershipError,
    residents::{Invitation, ResidentError},
    room::Room,
    stripped,
};

/// How many users are invited at the same time.
const AT_ONCE: usize = 8;

impl Rooms {
    /// Sends invites to users of other servers; those who cannot be invited are not, whatever the reason.
    pub(crate) async fn send_invites(&self, room: &Room, sender: &UserId, invites: Vec<Draft>) {
        let inviting = invites.into_iter().filter_map(|draft| {
            let invited = UserId::parse(draft.state_key.as_deref()?).ok()?;
            Some(async move { self.send_invite(room, sender, &invited, draft).await })
        });
        let inviting: Vec<_> = inviting.collect();
        let sent = stream::iter(inviting).buffer_unordered(AT_ONCE);
        let sent: Vec<_> = sent.collect().await;
        for error in sent.iter().filter_map(|sent| sent.as_ref().err()) {
            tracing::info!(
                room_id = %room.id,
                error = error as &dyn std::error::Error,
                "a user of another server could not be invited"
            );
        }
    }

    /// Sends an invite, once the server of `invited` has signed it if that is another one.
    pub(crate) async fn send_invite(
        &self,
        room: &Room,
        sender: &UserId,
        invited: &UserId,
        draft: Draft,
    ) -> Result<OwnedEventId, MembershipError> {
        let server = invited.server_name();
        if server == self.identity().server_name {
            self.refuse_unwanted(&[invited]).await?;
            return Ok(self.send(room, sender, draft).await?.event_id);
        }
        let current = self.current(room).await?.ok_or(SendError::UnknownRoom)?;
        let head = self.read_head(room).await?;
        let pdu = Changes::new(self, room, head)
            .propose(sender, draft)
            .await?;
        let told = stripped::for_server(self, &current.snapshot, sender).await?;
        let told: Vec<Box<RawValue>> = told.iter().map(|event| event.pdu.json.clone()).collect();
        let invitation = Invitation {
            room_id: &room.id,
            version: &room.version,
            event_id: &pdu.event_id,
            event: &pdu.json,
            room_state: &told,
        };
        let signed = self.residents().invite(server, invitation).await?;
        check_signed(room, server, &pdu, &signed)?;
        let ours = self.identity().server_name.clone();
        self.take_handed(&ours, &room.id, &signed).await?;
        Ok(pdu.event_id)
    }
}

/// Checks that what came back is the invite that was sent, with the other server's signature.
fn check_signed(
    room: &Room,
    server: &ServerName,
    sent: &Pdu,
    signed: &RawValue,
) -> Result<(), ResidentError> {
    let malformed = |reason: &str| {
        tracing::warn!(%server, room_id = %room.id, reason, "a server answered an invite with rubbish");
        ResidentError::Unreachable
    };
    let object: CanonicalJsonObject =
        serde_json::from_str(signed.get()).map_err(|_| malformed("it is no event"))?;
    let event_id = event_id(&object, &room.rules).map_err(|_| malformed("it is no event"))?;
    if event_id != sent.event_id {
        return Err(malformed("it is another event"));
    }
    let signatures = object.get("signatures").and_then(|value| value.as_object());
    match signatures {
        Some(signatures) if signatures.contains_key(server.as_str()) => Ok(()),
        Some(_) | None => Err(malformed("it is not signed")),
    }
}
