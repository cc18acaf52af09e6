//! Guests: which rooms admit them, and what becomes of those who are in a room that does so no more.
//!
//! Each server sees to its own guests (specification, "Guest Access"). Who changes a room's `m.room.guest_access` makes
//! the guests leave; a start looks at all rooms that have guests, in case the work of another was cut off.

use std::sync::Arc;

use hearth_core::RoomNid;
use hearth_journal::{Announcement, Kind, Origin};
use hearth_store::room_members;
use ruma::{
    UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Live, Member, MembershipError, Rooms, SendError, room::Room};

/// How many guests leave in one round.
const ROUND: i64 = 500;

#[derive(Deserialize)]
struct GuestAccess {
    guest_access: String,
}

impl Rooms {
    /// Whether guests may be in the room.
    pub async fn admits_guests(&self, room: &Room) -> Result<bool, SendError> {
        let current = self.current(room).await?.ok_or(SendError::UnknownRoom)?;
        let event = self
            .state_event(&current.snapshot, &StateEventType::RoomGuestAccess, "")
            .await?;
        let content = event.and_then(|event| event.pdu.content_as::<GuestAccess>().ok());
        Ok(content.is_some_and(|content| content.guest_access == "can_join"))
    }

    /// Lets a guest join, like [`Rooms::join`], if the room admits guests.
    pub async fn join_as_guest(&self, room: &Room, member: &Member) -> Result<(), MembershipError> {
        if !self.admits_guests(room).await? {
            return Err(MembershipError::GuestsForbidden);
        }
        self.join(room, member).await?;
        // The rule may have changed between the look and the join.
        if self.admits_guests(room).await? {
            return Ok(());
        }
        self.leave(room, &member.user_id, None).await?;
        Err(MembershipError::GuestsForbidden)
    }

    /// Makes guests leave the rooms that do not admit them any more, now and whenever this process changes a rule.
    pub fn see_guests_out(&self, live: &Live, tracker: &TaskTracker, stop: CancellationToken) {
        let (rooms, announcements) = (self.clone(), live.subscribe());
        tracker.spawn(async move {
            let work = Box::pin(rooms.follow_guest_access(announcements));
            stop.run_until_cancelled(work).await;
        });
    }

    async fn follow_guest_access(&self, mut announcements: broadcast::Receiver<Arc<Announcement>>) {
        let mut outcome = self.see_out(None).await;
        loop {
            if let Err(error) = outcome {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "guests could not be made to leave");
            }
            outcome = match announcements.recv().await {
                Ok(announcement) if announcement.origin == Origin::Local => {
                    self.see_out_after(&announcement).await
                }
                Ok(_) => Ok(()),
                Err(broadcast::error::RecvError::Lagged(_)) => self.see_out(None).await,
                Err(broadcast::error::RecvError::Closed) => return,
            };
        }
    }

    async fn see_out_after(&self, announcement: &Announcement) -> Result<(), MembershipError> {
        for entry in announcement.entries.iter() {
            let (Kind::Event, Some(room), Some(nid)) = (entry.kind, entry.room, entry.event) else {
                continue;
            };
            // What this process sent a moment ago is in memory.
            let event = self.events().cached(nid).await;
            let is_rule = event.is_some_and(|event| {
                let kind = TimelineEventType::from(StateEventType::RoomGuestAccess.to_string());
                event.pdu.is_state(&kind)
            });
            if is_rule {
                self.see_out(Some(room)).await?;
            }
        }
        Ok(())
    }

    /// Makes the guests of a room, or of all, leave where they are not admitted.
    async fn see_out(&self, room: Option<RoomNid>) -> Result<(), MembershipError> {
        let mut after = (RoomNid(0), hearth_core::UserNid(0));
        loop {
            let mut conn = self.pool().acquire().await?;
            let guests = room_members::list_guests(&mut conn, room, after, ROUND).await?;
            drop(conn);
            let Some(last) = guests.last() else {
                return Ok(());
            };
            after = *last;
            let users: Vec<_> = guests.iter().map(|(_, user)| *user).collect();
            let ids = self.interner().user_ids(&users).await?;
            for (room, user) in guests {
                if let Some(id) = ids.get(&user) {
                    self.see_one_out(room, id).await?;
                }
            }
        }
    }

    async fn see_one_out(&self, room: RoomNid, guest: &UserId) -> Result<(), MembershipError> {
        let Some(room) = self.find_by_nid(room).await? else {
            return Ok(());
        };
        if self.admits_guests(&room).await? {
            return Ok(());
        }
        let Some(current) = self.current(&room).await? else {
            return Ok(());
        };
        if self.membership(&current.snapshot, guest).await? == MembershipState::Join {
            self.leave(&room, guest, None).await?;
        }
        Ok(())
    }
}
