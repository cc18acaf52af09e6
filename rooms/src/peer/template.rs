//! Templates of member events for users of other servers: `make_join`, `make_knock`, `make_leave`.

use ruma::{
    CanonicalJsonObject, OwnedUserId, ServerName, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde_json::value::RawValue;

use super::PeerError;
use crate::{
    Rooms,
    changes::Changes,
    create::object,
    draft::Draft,
    error::SendError,
    residents::{Handshake, Template, TemplateRequest},
    room::Room,
    snapshot::Snapshot,
};

impl Rooms {
    /// Builds the member event with which a user of `origin` would join, knock or leave now, without hashes and
    /// signatures.
    ///
    /// # Errors
    ///
    /// See [`PeerError`]: among others, when the rules do not allow the event.
    pub async fn make_template(
        &self,
        origin: &ServerName,
        request: TemplateRequest<'_>,
    ) -> Result<Template, PeerError> {
        let (room_id, user_id) = (request.room_id, request.user_id);
        if user_id.server_name() != origin {
            return Err(PeerError::Forbidden(
                "the user belongs to another server".into(),
            ));
        }
        let room = self.room_for(origin, room_id).await?;
        // Servers that leave have joined before: they are not asked for the versions that they know.
        if request.handshake != Handshake::Leave && !request.versions.contains(&room.version) {
            return Err(PeerError::IncompatibleVersion(room.version.clone()));
        }
        let current = self.current(&room).await?.ok_or(PeerError::NotFound)?;
        let mut content = object([("membership", request.handshake.membership().into())]);
        if request.handshake == Handshake::Join
            && let Some(user) = self.voucher(&room, &current.snapshot, user_id).await?
        {
            let key = "join_authorised_via_users_server".to_owned();
            content.insert(key, user.as_str().into());
        }
        let draft = Draft::state(TimelineEventType::RoomMember, user_id.as_str(), content);
        Ok(Template {
            version: Some(room.version.clone()),
            event: self.draft_for(&room, user_id, draft).await?,
        })
    }

    /// Builds and authorises an event of another server's user, and takes our hashes and signatures off again.
    async fn draft_for(
        &self,
        room: &Room,
        user_id: &UserId,
        draft: Draft,
    ) -> Result<Box<RawValue>, PeerError> {
        let head = self.read_head(room).await?;
        let pdu = Changes::new(self, room, head).propose(user_id, draft).await;
        let pdu = pdu?;
        let mut event: CanonicalJsonObject =
            serde_json::from_str(pdu.json.get()).map_err(SendError::from)?;
        event.remove("hashes");
        event.remove("signatures");
        let origin = self.identity().server_name.as_str();
        event.insert("origin".to_owned(), origin.into());
        let json = serde_json::to_string(&event).map_err(SendError::from)?;
        Ok(RawValue::from_string(json).map_err(SendError::from)?)
    }

    /// The user of ours who lets `user` into a restricted room; `None` when nobody has to.
    ///
    /// # Errors
    ///
    /// Those of the specification's "Restricted rooms" when we cannot.
    pub(super) async fn voucher(
        &self,
        room: &Room,
        snapshot: &Snapshot,
        user: &UserId,
    ) -> Result<Option<OwnedUserId>, PeerError> {
        let now = self.membership(snapshot, user).await?;
        if matches!(
            now,
            MembershipState::Join | MembershipState::Invite | MembershipState::Ban
        ) {
            return Ok(None);
        }
        let Some(allowed) = self.join_rule(room, snapshot).await?.allowed_rooms else {
            return Ok(None);
        };
        if self.is_in_any(&allowed, user).await? {
            let voucher = self.authorising_user(room, snapshot).await?;
            return voucher.map(Some).ok_or(PeerError::UnableToGrantJoin);
        }
        if self.are_resident(&allowed).await? {
            return Err(PeerError::Forbidden(
                "the user fulfils none of the room's conditions".into(),
            ));
        }
        Err(PeerError::UnableToAuthoriseJoin)
    }
}
