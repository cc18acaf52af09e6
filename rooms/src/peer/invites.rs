//! Invites of our users by users of other servers.

use hearth_core::Pdu;
use hearth_store::{
    account,
    write::{MembershipRow, Status},
};
use ruma::{
    OwnedUserId, ServerName, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{PeerError, ToldState, handed::Handed};
use crate::{
    Rooms,
    gaps::Budget,
    incoming::Incoming,
    receive::{ReceiveError, Received},
    residents::Invitation,
    room::Room,
    version,
};

/// The user of ours whom a member event keeps out of a room.
fn refused(event: &Pdu, server: &ServerName) -> Option<OwnedUserId> {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
    }
    let content: Content = event.content_as().ok()?;
    let user = UserId::parse(event.state_key.as_deref()?).ok()?;
    let is_refused = event.kind == TimelineEventType::RoomMember
        && matches!(
            content.membership,
            MembershipState::Leave | MembershipState::Ban
        )
        && user.server_name() == server;
    is_refused.then_some(user)
}

impl Rooms {
    /// Takes an invite for a user of ours from `origin`, and gives the event with our signature.
    ///
    /// # Errors
    ///
    /// See [`PeerError`].
    pub async fn accept_invite(
        &self,
        origin: &ServerName,
        invitation: Invitation<'_>,
    ) -> Result<Box<RawValue>, PeerError> {
        let version = invitation.version;
        let rules = version::supported(version)
            .ok_or_else(|| PeerError::IncompatibleVersion(version.clone()))?;
        let mut handed = Handed::read(
            invitation.room_id,
            &rules,
            invitation.event_id,
            invitation.event,
        )?;
        let server = &self.identity().server_name;
        let invited = handed.check_invite(origin, server)?;
        let read = Incoming::read(invitation.event, invitation.room_id, &rules);
        let read = read.map_err(|error| PeerError::Invalid(error.to_string()))?;
        for verified in self.verify(&rules, vec![read]).await {
            verified.map_err(|error| PeerError::Invalid(error.to_string()))?;
        }
        self.check_account(&invited).await?;
        self.refuse_unwanted(&[&invited]).await?;
        let room = self.row_for(invitation.room_id, version).await?;
        if !self.server_allowed(&room, origin).await? {
            return Err(PeerError::Forbidden(
                "the room's access control list excludes this server".into(),
            ));
        }
        handed.sign(self, &room)?;
        if self.is_resident(&room).await? {
            self.refuse_member(&room, &invited).await?;
        } else {
            self.note_invite(&room, &handed, &invited, invitation.room_state)
                .await?;
        }
        Ok(handed.pdu.json)
    }

    /// Takes in an event of a room that this server is not in: of interest is only that an invite of a user of ours was
    /// taken back, or a knock goes unheard.
    pub(crate) async fn receive_outside(
        &self,
        room: &Room,
        event: Incoming,
        budget: &Budget,
    ) -> Result<Received, ReceiveError> {
        let verifying = async { Ok(self.verify(&room.rules, vec![event]).await) };
        let verified = budget.in_time(verifying).await?.pop();
        let event = verified.ok_or(ReceiveError::NotInRoom)??;
        let user = refused(event.pdu(), &self.identity().server_name);
        let user = user.ok_or(ReceiveError::NotInRoom)?;
        if !self.may_end(room, &user, &event.pdu().sender).await? {
            return Err(ReceiveError::NotInRoom);
        }
        self.note_gone(room, &user, event.pdu()).await?;
        Ok(Received {
            event_id: event.event_id().to_owned(),
            status: Status::Accepted,
        })
    }

    /// Whether the invited user exists and has not gone for good.
    pub(super) async fn check_account(&self, user: &UserId) -> Result<(), PeerError> {
        let nid = self.interner().find_user(user).await?;
        let mut conn = self.pool().acquire().await?;
        let row = match nid {
            Some(nid) => account::find(&mut conn, nid).await?,
            None => None,
        };
        match row {
            Some(row) if !row.deactivated => Ok(()),
            Some(_) | None => Err(PeerError::Forbidden("there is no such user here".into())),
        }
    }

    /// In a room that we are in the invite comes as an event soon; it only has to make sense.
    async fn refuse_member(&self, room: &Room, user: &UserId) -> Result<(), PeerError> {
        let current = self.current(room).await?.ok_or(PeerError::NotFound)?;
        match self.membership(&current.snapshot, user).await? {
            MembershipState::Join => Err(PeerError::Forbidden("the user is in the room".into())),
            MembershipState::Ban => Err(PeerError::Forbidden("the user is banned".into())),
            MembershipState::Invite | MembershipState::Knock | MembershipState::Leave | _ => Ok(()),
        }
    }

    /// Lets the user hear of the invite to a room that we know nothing else of.
    async fn note_invite(
        &self,
        room: &Room,
        handed: &Handed,
        user: &UserId,
        told: &[Box<RawValue>],
    ) -> Result<(), PeerError> {
        let told = ToldState::read(self, room, told.to_vec()).await;
        // Since room version 12 whole events are asked for; in older rooms many servers still send stripped ones.
        let strict = room.rules.authorization.room_create_event_id_as_room_id;
        if strict && !(told.has_create() && told.is_sound()) {
            return Err(PeerError::Missing(
                "invite_room_state must hold whole signed events, the create event among them",
            ));
        }
        let row = MembershipRow {
            user: self.interner().user(user).await?,
            room: room.nid,
            membership: "invite".to_owned(),
            event: None,
            sender: self.interner().user(&handed.pdu.sender).await?,
            stripped: Some(told.stripped_with(&handed.pdu)?),
            forgotten: false,
            display_name: None,
            avatar_url: None,
            words: Vec::new(),
        };
        self.write_membership(row).await?;
        Ok(())
    }
}
