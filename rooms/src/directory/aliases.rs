//! Names of rooms.
//!
//! Client-Server API, "Room aliases".

use hearth_store::room_alias::{self, Deleted, Inserted};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomAliasId, OwnedRoomId, OwnedServerName,
    RoomAliasId, RoomId, UserId,
    events::{
        StateEventType, TimelineEventType,
        room::{history_visibility::HistoryVisibility, member::MembershipState},
    },
};

use super::{Caller, Directory, RemoteError, parse_alias};
use crate::{Draft, SendError, room::Room};

/// How many aliases of a room are listed.
const LISTED: i64 = 1_000;

/// How many servers are named with a room.
const SERVERS: usize = 100;

/// What an alias means.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers that are in the room.
    pub servers: Vec<OwnedServerName>,
}

/// Why an alias is not made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum AliasError {
    /// It belongs to another server.
    #[error("the alias belongs to another server")]
    NotLocal,
    /// It is in use.
    #[error("the alias is in use")]
    AlreadyBound,
    /// It leads nowhere.
    #[error("the alias leads nowhere")]
    NotFound,
    /// It has characters that no alias may have.
    #[error("the alias has characters that no alias may have")]
    Malformed,
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The server of the alias gave no answer.
    #[error("the alias's server gave no answer")]
    Remote(#[from] RemoteError),
    /// The room cannot be read or changed.
    #[error(transparent)]
    Room(#[from] SendError),
}

impl From<sqlx::Error> for AliasError {
    fn from(error: sqlx::Error) -> Self {
        Self::Room(SendError::Storage(error))
    }
}

impl Directory {
    /// Points an alias of this server at a room that the caller is in.
    ///
    /// # Errors
    ///
    /// See [`AliasError`].
    pub async fn bind(
        &self,
        alias: &RoomAliasId,
        room_id: &RoomId,
        caller: Caller<'_>,
    ) -> Result<(), AliasError> {
        if !self.is_ours(alias.server_name()) {
            return Err(AliasError::NotLocal);
        }
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if alias.alias().is_empty() || alias.alias().contains(odd) {
            return Err(AliasError::Malformed);
        }
        let outside = AliasError::Forbidden("you must be in a room to give it an alias");
        let Some(room) = self.rooms.find(room_id).await? else {
            return Err(outside);
        };
        if !caller.is_admin && !self.is_joined(&room, caller.user_id).await? {
            return Err(outside);
        }
        let creator = self.rooms.interner().user(caller.user_id).await?;
        let now = self.rooms.clock().millis();
        let mut conn = self.rooms.pool().acquire().await?;
        match room_alias::insert(&mut conn, alias, room.nid, creator, now).await? {
            Inserted::Yes => Ok(()),
            Inserted::AlreadyBound => Err(AliasError::AlreadyBound),
        }
    }

    /// Which room an alias means, here or elsewhere.
    ///
    /// # Errors
    ///
    /// [`AliasError::NotFound`], [`AliasError::Remote`].
    pub async fn resolve(&self, alias: &RoomAliasId) -> Result<Resolved, AliasError> {
        if !self.is_ours(alias.server_name()) {
            let resolved = self.remote.resolve(alias).await?;
            return resolved.ok_or(AliasError::NotFound);
        }
        let mut conn = self.rooms.pool().acquire().await?;
        let found = room_alias::find(&mut conn, alias).await?;
        let found = found.ok_or(AliasError::NotFound)?;
        drop(conn);
        let room = self.rooms.find_by_nid(found.room).await?;
        let room = room.ok_or(AliasError::NotFound)?;
        let servers = self.rooms.list_servers(&room).await?;
        Ok(Resolved {
            room_id: room.id.clone(),
            servers: self.ours_first(&servers),
        })
    }

    fn ours_first(&self, servers: &[OwnedServerName]) -> Vec<OwnedServerName> {
        let own = &self.rooms.identity().server_name;
        let others = servers.iter().filter(|server| *server != own);
        let all = std::iter::once(own).chain(others);
        all.take(SERVERS).cloned().collect()
    }

    /// Takes an alias of this server away, and out of the room's canonical aliases if the caller may change those.
    ///
    /// # Errors
    ///
    /// [`AliasError::NotFound`]; [`AliasError::Forbidden`] unless the caller made the alias, administers the server or
    /// has the power to change the room's canonical alias.
    pub async fn unbind(&self, alias: &RoomAliasId, caller: Caller<'_>) -> Result<(), AliasError> {
        if !self.is_ours(alias.server_name()) {
            return Err(AliasError::NotFound);
        }
        let mut conn = self.rooms.pool().acquire().await?;
        let found = room_alias::find(&mut conn, alias).await?;
        drop(conn);
        let found = found.ok_or(AliasError::NotFound)?;
        let room = self.rooms.find_by_nid(found.room).await?;
        let room = room.ok_or(AliasError::NotFound)?;
        let creator = self.rooms.interner().user_id(found.creator).await?;
        let may = caller.is_admin
            || creator == caller.user_id
            || self.may_name(&room, caller.user_id).await?;
        if !may {
            return Err(AliasError::Forbidden(
                "only its maker or a moderator may remove an alias",
            ));
        }
        let mut conn = self.rooms.pool().acquire().await?;
        let deleted = room_alias::delete(&mut conn, alias, room.nid).await?;
        drop(conn);
        match deleted {
            Deleted::Yes => self.take_from_canonical(&room, alias, caller.user_id).await,
            Deleted::NotThere => Err(AliasError::NotFound),
        }
    }

    /// Lists this server's aliases of a room for one of its members, or for anyone if its history is public.
    ///
    /// # Errors
    ///
    /// [`AliasError::Forbidden`].
    pub async fn aliases(
        &self,
        room_id: &RoomId,
        caller: Caller<'_>,
    ) -> Result<Vec<OwnedRoomAliasId>, AliasError> {
        let outside = AliasError::Forbidden("you are not in this room");
        let Some(room) = self.rooms.find(room_id).await? else {
            return Err(outside);
        };
        if !caller.is_admin
            && !self.is_joined(&room, caller.user_id).await?
            && !self.is_world_readable(&room).await?
        {
            return Err(outside);
        }
        let mut conn = self.rooms.pool().acquire().await?;
        let aliases = room_alias::list_of_room(&mut conn, room.nid, LISTED).await?;
        aliases
            .iter()
            .map(|alias| Ok(parse_alias(alias)?))
            .collect()
    }

    pub(super) async fn is_joined(&self, room: &Room, user: &UserId) -> sqlx::Result<bool> {
        let Some(current) = self.rooms.current(room).await? else {
            return Ok(false);
        };
        let membership = self.rooms.membership(&current.snapshot, user).await?;
        Ok(membership == MembershipState::Join)
    }

    async fn is_world_readable(&self, room: &Room) -> sqlx::Result<bool> {
        let Some(current) = self.rooms.current(room).await? else {
            return Ok(false);
        };
        let visibility = self.rooms.history_visibility(&current.snapshot).await?;
        Ok(visibility == HistoryVisibility::WorldReadable)
    }

    /// Whether a user is in the room and has the power to change its canonical alias.
    pub(super) async fn may_name(&self, room: &Room, user: &UserId) -> Result<bool, SendError> {
        let Some(current) = self.rooms.current(room).await? else {
            return Ok(false);
        };
        if self.rooms.membership(&current.snapshot, user).await? != MembershipState::Join {
            return Ok(false);
        }
        let powers = self.rooms.power(room, &current.snapshot).await?;
        Ok(powers.may_send(user, &TimelineEventType::RoomCanonicalAlias, Some("")))
    }

    /// Sends a canonical alias event without the alias, if it is in there; without the power to, it stays.
    async fn take_from_canonical(
        &self,
        room: &Room,
        alias: &RoomAliasId,
        user: &UserId,
    ) -> Result<(), AliasError> {
        let Some(current) = self.rooms.current(room).await? else {
            return Ok(());
        };
        let kind = StateEventType::RoomCanonicalAlias;
        let Some(event) = self.rooms.state_event(&current.snapshot, &kind, "").await? else {
            return Ok(());
        };
        let Some(content) = event
            .pdu
            .content_as()
            .ok()
            .and_then(|old| without(old, alias))
        else {
            return Ok(());
        };
        let mut draft = Draft::state(TimelineEventType::RoomCanonicalAlias, "", content);
        draft.replaces = Some(event.nid);
        match self.rooms.send(room, user, draft).await {
            Ok(_) => Ok(()),
            Err(error @ (SendError::Forbidden(_) | SendError::Superseded)) => {
                tracing::debug!(room_id = %room.id, %error, "the canonical alias stays as it is");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The content of a canonical alias event without an alias; `None` when it does not name it.
fn without(mut content: CanonicalJsonObject, alias: &RoomAliasId) -> Option<CanonicalJsonObject> {
    let is_it = |value: &CanonicalJsonValue| value.as_str() == Some(alias.as_str());
    let mut named = false;
    if content.get("alias").is_some_and(is_it) {
        content.remove("alias");
        named = true;
    }
    if let Some(CanonicalJsonValue::Array(others)) = content.get_mut("alt_aliases") {
        let before = others.len();
        others.retain(|other| !is_it(other));
        named |= others.len() < before;
        if others.is_empty() {
            content.remove("alt_aliases");
        }
    }
    named.then_some(content)
}

#[cfg(test)]
mod tests {
    use ruma::room_alias_id;
    use serde_json::json;

    use super::*;

    fn object(value: serde_json::Value) -> CanonicalJsonObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_alias_is_taken_out_of_both_places() {
        let content = object(json!({ "alias": "#a:b.c", "alt_aliases": ["#a:b.c", "#d:b.c"] }));

        let rest = without(content, room_alias_id!("#a:b.c"));

        assert_eq!(rest, Some(object(json!({ "alt_aliases": ["#d:b.c"] }))));
    }

    #[test]
    fn the_last_alias_leaves_nothing() {
        let content = object(json!({ "alt_aliases": ["#a:b.c"] }));

        assert_eq!(
            without(content, room_alias_id!("#a:b.c")),
            Some(object(json!({})))
        );
    }

    #[test]
    fn other_aliases_change_nothing() {
        let content = object(json!({ "alias": "#a:b.c", "alt_aliases": ["#d:b.c"] }));

        assert_eq!(without(content, room_alias_id!("#x:b.c")), None);
    }
}
