//! Memberships of rooms that this server is not in: no stored event says them, only what other servers told.

use hearth_core::{Pdu, RoomNid};
use hearth_store::{
    membership::{self as membership_table, Stored},
    write::{MembershipRow, Write},
};
use ruma::{CanonicalJsonObject, OwnedServerName, OwnedUserId, UserId};
use serde::Deserialize;

use crate::{Rooms, error::SendError, event::RoomEvent, membership_of, room::Room};

impl Rooms {
    /// Writes down that a user of ours is no longer invited to a room or knocking at it. The event is kept with the
    /// membership, for the user to see: it cannot be checked, and so it is no event of the room.
    pub(crate) async fn note_gone(
        &self,
        room: &Room,
        user: &UserId,
        event: &Pdu,
    ) -> Result<(), SendError> {
        let sender = self.interner().user(&event.sender).await?;
        let event = RoomEvent::outside(room.nid, sender, event.clone());
        self.write_membership(MembershipRow {
            user: self.interner().user(user).await?,
            room: room.nid,
            membership: membership_of(&event).to_string(),
            event: None,
            sender,
            stripped: Some(event.pdu.json.get().to_owned()),
            forgotten: false,
            display_name: None,
            avatar_url: None,
            words: Vec::new(),
        })
        .await
    }

    /// The event that a membership was kept with when the user was gone.
    #[must_use]
    pub fn gone_event(&self, room: &Room, row: &Stored) -> Option<RoomEvent> {
        if row.event.is_some() || !matches!(&*row.membership, "leave" | "ban") {
            return None;
        }
        let object: CanonicalJsonObject = serde_json::from_str(row.stripped.as_deref()?).ok()?;
        let pdu = Pdu::from_canonical(&object, &room.rules).ok()?;
        Some(RoomEvent::outside(room.nid, row.sender, pdu))
    }

    /// The servers of those who sent a user's invite, and what goes with it.
    pub(crate) async fn servers_of_invite(
        &self,
        room: &Room,
        user: &UserId,
    ) -> sqlx::Result<Vec<OwnedServerName>> {
        let Some(row) = self.waiting(room.nid, user).await? else {
            return Ok(Vec::new());
        };
        let sender = self.interner().user_id(row.sender).await?;
        let told = row.stripped.as_deref().map(senders).unwrap_or_default();
        let senders = std::iter::once(sender).chain(told);
        Ok(senders.map(|user| user.server_name().to_owned()).collect())
    }

    /// Whether we believe `sender` that a user of ours is no longer invited, or knocks in vain.
    ///
    /// Who has the power to say so cannot be told from outside of the room. Whoever sent the invite may take it back; a
    /// knock was answered by nobody in particular, so it may be refused from any server that told of the room.
    pub(crate) async fn may_end(
        &self,
        room: &Room,
        user: &UserId,
        sender: &UserId,
    ) -> sqlx::Result<bool> {
        let Some(row) = self.waiting(room.nid, user).await? else {
            return Ok(false);
        };
        if row.membership == "invite" {
            return Ok(self.interner().user_id(row.sender).await? == sender);
        }
        let told = row.stripped.as_deref().map(senders).unwrap_or_default();
        let server = sender.server_name();
        Ok(told.iter().any(|user| user.server_name() == server))
    }

    /// A user's invite or knock.
    async fn waiting(&self, room: RoomNid, user: &UserId) -> sqlx::Result<Option<Stored>> {
        let user = self.interner().user(user).await?;
        let mut conn = self.pool().acquire().await?;
        let row = membership_table::find(&mut conn, user, room).await?;
        Ok(row.filter(|row| matches!(&*row.membership, "invite" | "knock")))
    }

    /// Writes a membership that no stored event says.
    pub(crate) async fn write_membership(&self, row: MembershipRow) -> Result<(), SendError> {
        let write = Write {
            memberships: vec![row],
            ..Write::default()
        };
        self.journal()
            .submit(write)
            .await
            .map_err(SendError::from)?;
        Ok(())
    }
}

/// Who sent the events of a stripped state.
fn senders(stripped: &str) -> Vec<OwnedUserId> {
    #[derive(Deserialize)]
    struct Told {
        sender: OwnedUserId,
    }
    let told: Vec<Told> = serde_json::from_str(stripped).unwrap_or_default();
    told.into_iter().map(|event| event.sender).collect()
}
