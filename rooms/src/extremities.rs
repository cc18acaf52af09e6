//! Keeping a room's branches few: when others leave many of them open, an event of ours closes them.

use hearth_store::room_members;
use ruma::{CanonicalJsonObject, OwnedUserId, UserId, events::TimelineEventType};

use crate::{Rooms, draft::Draft, error::SendError, room::Room};

/// How many open branches are left alone.
const FEW: usize = 20;

/// How many events are sent to close them; each closes ten.
const ROUNDS: usize = 5;

/// Among how many of our users somebody is looked for who may send.
const CANDIDATES: i64 = 50;

/// What the event is called; clients know that it means nothing.
const KIND: &str = "org.matrix.dummy_event";

impl Rooms {
    /// Sends events that merge the room's branches while there are too many, if a user of ours may.
    pub(crate) async fn close_branches(&self, room: &Room) -> Result<(), SendError> {
        for _ in 0..ROUNDS {
            if self.count_branches(room).await? <= FEW {
                return Ok(());
            }
            let Some(sender) = self.anybody(room).await? else {
                return Ok(());
            };
            let kind = TimelineEventType::from(KIND);
            let draft = Draft::message(kind, CanonicalJsonObject::new());
            self.send(room, &sender, draft).await?;
        }
        Ok(())
    }

    async fn count_branches(&self, room: &Room) -> Result<usize, SendError> {
        let mut slot = room.head.lock().await;
        let head = self.take_head(room, &mut slot).await?;
        let count = head.extremities.len();
        slot.head = Some(head);
        Ok(count)
    }

    /// A user of ours who may send such an event.
    async fn anybody(&self, room: &Room) -> Result<Option<OwnedUserId>, SendError> {
        let Some(current) = self.current(room).await? else {
            return Ok(None);
        };
        let powers = self.power(room, &current.snapshot).await?;
        let mut conn = self.pool().acquire().await?;
        let users = room_members::list_local_joined(&mut conn, room.nid, CANDIDATES).await?;
        drop(conn);
        let kind = TimelineEventType::from(KIND);
        let mut users = users.iter().filter_map(|id| UserId::parse(id).ok());
        Ok(users.find(|user| powers.may_send(user, &kind, None)))
    }
}
