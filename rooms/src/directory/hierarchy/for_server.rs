//! Spaces as another server's users may find them.
//!
//! Server-Server API, "Spaces".

use std::collections::{HashMap, HashSet};

use hearth_store::room_members;
use ruma::{
    OwnedRoomId, RoomId, ServerName,
    room::{RoomSummary, RoomType},
};

use super::SpaceRoom;
use crate::{
    Directory,
    directory::{
        RemoteSpace, parse_room_id,
        summary::{Found, allowed, allowed_in, is_open},
    },
};

impl Directory {
    /// A room and, if it is a space, its children, as far as users of `server` might get into them; `None` when this
    /// server is not in the room, or they cannot.
    pub async fn space_for(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> sqlx::Result<Option<RemoteSpace>> {
        let Some(root) = self.find_all(&[room_id], None).await?.remove(room_id) else {
            return Ok(None);
        };
        let snapshot = root.snapshot;
        let found = HashMap::from([(room_id.to_owned(), root)]);
        let (mut visible, _) = self.parted(server, found).await?;
        let Some(summary) = visible.pop() else {
            return Ok(None);
        };
        let children = match summary.room_type {
            Some(RoomType::Space) => self.children(snapshot, suggested_only).await?,
            Some(_) | None => Vec::new(),
        };
        let ids: Vec<&RoomId> = children.iter().map(|child| &*child.room_id).collect();
        let found = self.find_all(&ids, None).await?;
        let (visible, inaccessible) = self.parted(server, found).await?;
        Ok(Some(RemoteSpace {
            room: SpaceRoom { summary, children },
            children: visible,
            inaccessible,
        }))
    }

    /// Parts rooms into those that users of `server` might get into, and the others.
    async fn parted(
        &self,
        server: &ServerName,
        rooms: HashMap<OwnedRoomId, Found>,
    ) -> sqlx::Result<(Vec<RoomSummary>, Vec<OwnedRoomId>)> {
        let asked: HashSet<&OwnedRoomId> = rooms
            .iter()
            .flat_map(|(id, found)| allowed(&found.summary.join_rule).iter().chain([id]))
            .collect();
        let asked: Vec<&str> = asked.iter().map(|id| id.as_str()).collect();
        let mut conn = self.rooms.pool().acquire().await?;
        let joined =
            room_members::list_joined_of_server(&mut conn, server.as_str(), &asked).await?;
        drop(conn);
        let joined: HashSet<OwnedRoomId> = joined
            .iter()
            .map(|id| parse_room_id(id))
            .collect::<sqlx::Result<_>>()?;
        let is_visible = |id: &OwnedRoomId, summary: &RoomSummary| {
            summary.world_readable
                || is_open(&summary.join_rule)
                || joined.contains(id)
                || allowed_in(&summary.join_rule, &joined)
        };
        let (mut visible, mut hidden) = (Vec::new(), Vec::new());
        for (id, found) in rooms {
            if is_visible(&id, &found.summary) {
                visible.push(found.summary);
            } else {
                hidden.push(id);
            }
        }
        Ok((visible, hidden))
    }
}
