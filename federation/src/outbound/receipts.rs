//! Telling other servers how far our users have read.

use hearth_core::{Position, RoomNid, UserNid};
use hearth_store::receipt;
use ruma::{RoomId, UserId, events::receipt::ReceiptType};
use serde_json::{Map, Value, json};

use super::{Outbound, registry::Topic};

impl Outbound {
    /// Tells the servers in a room what a user of ours has read there after `since`.
    ///
    /// Each thread in a message of its own: one message has place for one receipt of a user, and the last one need not
    /// say the most.
    pub(super) async fn tell_receipts(
        &self,
        room: RoomNid,
        user: UserNid,
        since: Position,
    ) -> sqlx::Result<()> {
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
        let public = receipts
            .iter()
            .filter(|receipt| receipt.kind == ReceiptType::Read.as_str());
        for receipt in public.filter(|receipt| receipt.position > since) {
            let edu = edu(&room_id.id, &user_id, receipt);
            let topic = Topic::Receipt(room, user, receipt.thread.clone());
            self.tell(&servers, &topic, &edu).await?;
        }
        Ok(())
    }
}

fn edu(room_id: &RoomId, user_id: &UserId, receipt: &receipt::Stored) -> Value {
    let mut data = Map::from_iter([("ts".to_owned(), Value::from(receipt.ts))]);
    if !receipt.thread.is_empty() {
        data.insert("thread_id".to_owned(), receipt.thread.as_str().into());
    }
    json!({
        "edu_type": "m.receipt",
        "content": { (room_id.as_str()): { "m.read": { (user_id.as_str()): {
            "data": data,
            "event_ids": [receipt.event_id],
        } } } },
    })
}
