//! State as clients set it: what is checked beyond the authorisation rules.

use hearth_core::UserNid;
use hearth_store::{membership, room_alias};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomId, RoomAliasId, RoomId, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};

use crate::{Rooms, draft::Draft, error::SendError, room::Room, send::Sent};

impl Rooms {
    /// Sends a state event for a client.
    ///
    /// # Errors
    ///
    /// Besides what [`Rooms::send`] refuses: canonical aliases that do not lead to the room, a second creation, power
    /// levels for those whose power is unlimited.
    pub async fn send_state(
        &self,
        room: &Room,
        sender: &UserId,
        mut draft: Draft,
    ) -> Result<Sent, SendError> {
        if draft.kind == TimelineEventType::RoomCreate {
            return Err(SendError::InvalidParam("a room is created once".into()));
        }
        if draft.kind == TimelineEventType::RoomMember {
            // A server sets it, for those who come in by a restricted rule.
            draft.content.remove("join_authorised_via_users_server");
        }
        if draft.kind == TimelineEventType::RoomPowerLevels {
            self.check_users(room, sender, &draft.content).await?;
        }
        if draft.kind == TimelineEventType::RoomCanonicalAlias {
            self.check_aliases(room, &draft.content).await?;
        }
        self.send(room, sender, draft).await
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

    /// Every alias that was not there before must lead to the room.
    async fn check_aliases(
        &self,
        room: &Room,
        content: &CanonicalJsonObject,
    ) -> Result<(), SendError> {
        let mut wanted = aliases(content)?;
        let kind = StateEventType::RoomCanonicalAlias;
        if let Some(current) = self.current(room).await?
            && let Some(old) = self.state_event(&current.snapshot, &kind, "").await?
            && let Ok(old) = old.pdu.content_as::<CanonicalJsonObject>()
        {
            let old = aliases(&old).unwrap_or_default();
            wanted.retain(|alias| !old.contains(alias));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let mut conn = self.pool().acquire().await?;
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let bound = room_alias::list(&mut conn, &names).await?;
        for alias in &wanted {
            let here = bound
                .iter()
                .any(|(name, nid)| name == alias && *nid == room.nid);
            if !here {
                return Err(SendError::BadAlias(format!(
                    "{alias} does not lead to this room"
                )));
            }
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

/// The aliases that a canonical alias event names.
fn aliases(content: &CanonicalJsonObject) -> Result<Vec<String>, SendError> {
    let invalid = || SendError::InvalidParam("an alias looks like #name:server".into());
    let text = |value: &CanonicalJsonValue| {
        let alias = value.as_str().ok_or_else(invalid)?;
        RoomAliasId::parse(alias).map_err(|_| invalid())?;
        Ok::<_, SendError>(alias.to_owned())
    };
    let mut found = Vec::new();
    match content.get("alias") {
        None | Some(CanonicalJsonValue::Null) => {}
        Some(alias) if alias.as_str() == Some("") => {}
        Some(alias) => found.push(text(alias)?),
    }
    match content.get("alt_aliases") {
        None | Some(CanonicalJsonValue::Null) => {}
        Some(list) => {
            for alias in list.as_array().ok_or_else(invalid)? {
                found.push(text(alias)?);
            }
        }
    }
    Ok(found)
}
