//! The aliases that a room gives out as its own.
//!
//! Client-Server API, `m.room.canonical_alias`.

use futures_util::{StreamExt as _, stream};
use hearth_store::room_alias;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomAliasId, RoomAliasId,
    events::{StateEventType, TimelineEventType},
};

use super::Directory;
use crate::{draft::Draft, error::SendError, room::Room};

/// How many new aliases of other servers one event may name: each is a question to a server.
const ELSEWHERE: usize = 20;

/// How many servers are asked at the same time.
const AT_ONCE: usize = 4;

impl Directory {
    /// Looks at what a client is about to send: if it is a canonical alias, each alias that was not there before must
    /// lead to the room.
    ///
    /// # Errors
    ///
    /// [`SendError::InvalidParam`], [`SendError::BadAlias`].
    pub async fn check_aliases(&self, room: &Room, draft: &Draft) -> Result<(), SendError> {
        if draft.kind != TimelineEventType::RoomCanonicalAlias {
            return Ok(());
        }
        let mut wanted = aliases(&draft.content)?;
        let kind = StateEventType::RoomCanonicalAlias;
        if let Some(current) = self.rooms.current(room).await?
            && let Some(old) = self.rooms.state_event(&current.snapshot, &kind, "").await?
            && let Ok(old) = old.pdu.content_as::<CanonicalJsonObject>()
        {
            let old = aliases(&old).unwrap_or_default();
            wanted.retain(|alias| !old.contains(alias));
        }
        let is_ours = |alias: &OwnedRoomAliasId| self.is_ours(alias.server_name());
        let (ours, elsewhere): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_ours);
        self.check_ours(room, &ours).await?;
        if elsewhere.len() > ELSEWHERE {
            let reason = format!("more than {ELSEWHERE} new aliases of other servers at once");
            return Err(SendError::InvalidParam(reason));
        }
        let asked = elsewhere
            .into_iter()
            .map(|alias| async move { self.check_elsewhere(room, &alias).await });
        let mut asked = stream::iter(asked).buffer_unordered(AT_ONCE);
        while let Some(answer) = asked.next().await {
            answer?;
        }
        Ok(())
    }

    async fn check_ours(&self, room: &Room, aliases: &[OwnedRoomAliasId]) -> Result<(), SendError> {
        if aliases.is_empty() {
            return Ok(());
        }
        let mut conn = self.rooms.pool().acquire().await?;
        let names: Vec<&str> = aliases.iter().map(|alias| alias.as_str()).collect();
        let bound = room_alias::list(&mut conn, &names).await?;
        let leads_here = |alias: &&OwnedRoomAliasId| {
            let mut bound = bound.iter();
            bound.any(|(name, nid)| *name == alias.as_str() && *nid == room.nid)
        };
        match aliases.iter().find(|alias| !leads_here(alias)) {
            Some(alias) => Err(bad_alias(alias)),
            None => Ok(()),
        }
    }

    /// An alias of a server that does not answer may lead anywhere.
    async fn check_elsewhere(&self, room: &Room, alias: &RoomAliasId) -> Result<(), SendError> {
        match self.remote.resolve(alias).await {
            Ok(Some(resolved)) if resolved.room_id == room.id => Ok(()),
            Ok(_) | Err(_) => Err(bad_alias(alias)),
        }
    }
}

fn bad_alias(alias: &RoomAliasId) -> SendError {
    SendError::BadAlias(format!("{alias} does not lead to this room"))
}

/// The aliases that a canonical alias event names.
fn aliases(content: &CanonicalJsonObject) -> Result<Vec<OwnedRoomAliasId>, SendError> {
    let invalid = || SendError::InvalidParam("an alias looks like #name:server".into());
    let text = |value: &CanonicalJsonValue| {
        let alias = value.as_str().ok_or_else(invalid)?;
        RoomAliasId::parse(alias).map_err(|_| invalid())
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
