//! Telling other servers how far our users have read.

use hearth_core::{RoomNid, UserNid};
use hearth_store::receipt;
use ruma::events::receipt::ReceiptType;
use serde_json::{Map, Value, json};

use super::{Outbound, registry::Topic};

impl Outbound {
    /// Tells the servers in a room what a user of ours has read there.
    pub(super) async fn tell_receipts(&self, room: RoomNid, user: UserNid) -> sqlx::Result<()> {
        let Some(user_id) = self.own_user(user).await? else {
            return Ok(());
        };
        let servers = self.servers_in(room).await?;
        if servers.is_empty() {
            return Ok(());
        }
        let mut conn = self.0.parts.pool.acquire().await?;
        let receipts = receipt::list_of_user(&mut conn, &[room], user).await?;
        drop(conn);
        let Some(room_id) = self.0.parts.rooms.find_by_nid(room).await? else {
            return Ok(());
        };
        // Of several threads, the last one that was read; the others were told when they were.
        let public = receipts
            .iter()
            .filter(|receipt| receipt.kind == ReceiptType::Read.as_str());
        let Some(newest) = public.max_by_key(|receipt| receipt.position) else {
            return Ok(());
        };
        let mut data = Map::from_iter([("ts".to_owned(), Value::from(newest.ts))]);
        if !newest.thread.is_empty() {
            data.insert("thread_id".to_owned(), newest.thread.as_str().into());
        }
        let edu = json!({
            "edu_type": "m.receipt",
            "content": { (room_id.id.as_str()): { "m.read": { (user_id.as_str()): {
                "data": data,
                "event_ids": [newest.event_id],
            } } } },
        });
        self.tell(&servers, &Topic::Receipts(room, user), &edu)
            .await
    }
}
