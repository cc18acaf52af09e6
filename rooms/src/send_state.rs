//! State as clients set it: what is checked beyond the authorisation rules.

use hearth_core::UserNid;
use hearth_store::{membership, room_alias};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomId, RoomAliasId, RoomId, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};

use crate::{
    Rooms, draft::Draft, error::SendError, membership::MembershipError, room::Room, send::Sent,
};

impl Rooms {
    /// Sends a state event for a client.
    ///
    /// # Errors
    ///
    /// Besides what [`Rooms::send`] refuses: a second creation, power levels for those whose power is unlimited, and
    /// invites that [`Rooms::invite`] refuses. Aliases are looked at by [`crate::Directory::check_aliases`].
    pub async fn send_state(
        &self,
        room: &Room,
        sender: &UserId,
        mut draft: Draft,
    ) -> Result<Sent, MembershipError> {
        if draft.kind == TimelineEventType::RoomCreate {
            return Err(SendError::InvalidParam("a room is created once".into()).into());
        }
        if draft.kind == TimelineEventType::RoomMember {
            // A server sets it, for those who come in by a restricted rule.
            draft.content.remove("join_authorised_via_users_server");
        }
        if draft.kind == TimelineEventType::RoomPowerLevels {
            self.check_users(room, sender, &draft.content).await?;
        }
        if draft.kind == TimelineEventType::RoomMember
            && draft
                .content
                .get("membership")
                .and_then(CanonicalJsonValue::as_str)
                == Some("invite")
        {
            let invited = UserId::parse(draft.state_key.as_deref().unwrap_or_default());
            let invited = invited.map_err(|_| {
                SendError::BadEvent("the state key of a member event is a user id".into())
            })?;
            let event_id = self.send_invite(room, sender, &invited, draft).await?;
            return Ok(Sent { event_id });
        }
        Ok(self.send(room, sender, draft).await?)
    }

    /// Creators whose power is unlimited are given none.
    async fn check_users(
        &self,
        room: &Room,
        sender: &UserId,
        content: &CanonicalJsonObject,
    ) -> Result<(), SendError> {
        let Some(CanonicalJsonValue::Object(users)) = content.get("users") else {
            return Ok(());
        };
        let Some(current) = self.current(room).await? else {
            return Ok(());
        };
        // Strangers are refused later, and do not learn who the creators are.
        if self.membership(&current.snapshot, sender).await? != MembershipState::Join {
            return Ok(());
        }
        let powers = self.power(room, &current.snapshot).await?;
        if powers
            .unlimited()
            .any(|user| users.contains_key(user.as_str()))
        {
            let reason = "the power of creators is unlimited: they are not among `users`";
            return Err(SendError::InvalidParam(reason.into()));
        }
        Ok(())
    }

    /// The room that an alias of this server leads to.
    pub async fn room_of_alias(&self, alias: &RoomAliasId) -> sqlx::Result<Option<OwnedRoomId>> {
        let mut conn = self.pool().acquire().await?;
        let found = room_alias::find(&mut conn, alias).await?;
        drop(conn);
        match found {
            Some(row) => Ok(self
                .find_by_nid(row.room)
                .await?
                .map(|room| room.id.clone())),
            None => Ok(None),
        }
    }

    /// The rooms that a user is joined to.
    pub async fn joined(&self, user: UserNid) -> sqlx::Result<Vec<OwnedRoomId>> {
        let mut conn = self.pool().acquire().await?;
        let ids = membership::list_joined(&mut conn, user).await?;
        ids.iter()
            .map(|id| RoomId::parse(id).map_err(|error| sqlx::Error::Decode(error.into())))
            .collect()
    }
}
