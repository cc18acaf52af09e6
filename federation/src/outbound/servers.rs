//! Who hears of what is no event.

use hearth_core::{RoomNid, UserNid};
use hearth_store::shared_room;
use ruma::{OwnedServerName, OwnedUserId, ServerName};

use super::Outbound;

/// How many servers hear of a user's presence.
const MOST_SERVERS: i64 = 2_000;

impl Outbound {
    /// The id of a user, if it is one of ours.
    pub(super) async fn own_user(&self, user: UserNid) -> sqlx::Result<Option<OwnedUserId>> {
        let ids = self.0.parts.rooms.interner().user_ids(&[user]).await?;
        let own = &self.0.parts.identity.server_name;
        Ok(ids
            .into_values()
            .next()
            .filter(|user_id| user_id.server_name() == own))
    }

    /// The servers in a room now.
    pub(super) async fn servers_in(&self, room: RoomNid) -> sqlx::Result<Vec<OwnedServerName>> {
        let rooms = &self.0.parts.rooms;
        let Some(room) = rooms.find_by_nid(room).await? else {
            return Ok(Vec::new());
        };
        let Some(current) = rooms.current(&room).await? else {
            return Ok(Vec::new());
        };
        rooms.servers_in(&room, &current.snapshot).await
    }

    /// The servers that share a room with a user.
    pub(super) async fn servers_sharing(
        &self,
        user: UserNid,
    ) -> sqlx::Result<Vec<OwnedServerName>> {
        let mut conn = self.0.parts.pool.acquire().await?;
        let names = shared_room::list_servers(&mut conn, user, MOST_SERVERS).await?;
        Ok(names
            .iter()
            .filter_map(|name| ServerName::parse(name).ok())
            .collect())
    }
}
