//! What of a room a user may read: all of it as a member, what it was until the leave afterwards, all of it without
//! ever joining when the room is world-readable.

use std::{collections::HashSet, sync::Arc};

use hearth_core::{EventNid, Position};
use hearth_store::{current_state, membership, room_directory, timeline};
use ruma::{
    EventId, OwnedRoomId, RoomId, UserId,
    events::{
        StateEventType,
        room::{
            history_visibility::HistoryVisibility,
            member::MembershipState::{self, Join},
        },
    },
};

use crate::{
    Rooms, client_event::Receiver, event::RoomEvent, room::Room, snapshot::Snapshot,
    state::membership_of,
};

/// How many membership changes are followed back to the leave of somebody who was banned, or invited again, since.
const MEMBER_EVENTS: usize = 32;

/// A room as one user may read it.
#[derive(Clone, Debug)]
pub struct View {
    /// The state that counts for the user: now, or when he left.
    pub state: Arc<Snapshot>,
    /// The user's membership now.
    pub membership: MembershipState,
    /// Where the timeline ends for the user, if he left.
    pub ceiling: Option<i64>,
}

impl Rooms {
    /// The room as `receiver` may read it; `None` when he may not.
    pub async fn view(&self, room: &Room, receiver: &Receiver) -> sqlx::Result<Option<View>> {
        let Some(current) = self.current(room).await? else {
            return Ok(None);
        };
        let state = current.snapshot;
        let member = StateEventType::RoomMember;
        let event = self
            .state_event(&state, &member, receiver.user_id.as_str())
            .await?;
        let membership = event
            .as_deref()
            .map_or(MembershipState::Leave, membership_of);
        let open = membership == Join
            || self.history_visibility(&state).await? == HistoryVisibility::WorldReadable;
        if open {
            return Ok(Some(View {
                state,
                membership,
                ceiling: None,
            }));
        }
        let Some(left) = self.end_of_stay(event).await? else {
            return Ok(None);
        };
        let mut conn = self.pool().acquire().await?;
        let row = membership::find(&mut conn, receiver.user, room.nid).await?;
        drop(conn);
        if row.is_some_and(|row| row.forgotten) {
            return Ok(None);
        }
        Ok(Some(View {
            state: self.state_after(&left).await?,
            membership,
            ceiling: left.stream_order(),
        }))
    }

    /// The event that ended a user's last stay, going back from his newest member event.
    async fn end_of_stay(
        &self,
        newest: Option<Arc<RoomEvent>>,
    ) -> sqlx::Result<Option<Arc<RoomEvent>>> {
        let mut next = newest;
        for _ in 0..MEMBER_EVENTS {
            let Some(event) = next else { break };
            next = self.replaced(&event).await?;
            if next
                .as_deref()
                .is_some_and(|before| membership_of(before) == Join)
            {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// The event with which the last stay of a user began, as a state knows it.
    pub async fn start_of_stay(
        &self,
        state: &Snapshot,
        user: &UserId,
    ) -> sqlx::Result<Option<Arc<RoomEvent>>> {
        let member = StateEventType::RoomMember;
        let mut next = self.state_event(state, &member, user.as_str()).await?;
        let mut first = None;
        for _ in 0..MEMBER_EVENTS {
            let Some(event) = next else { break };
            next = self.replaced(&event).await?;
            if membership_of(&event) == Join {
                first = Some(event);
            } else if first.is_some() {
                break;
            }
        }
        Ok(first)
    }

    /// The event in whose place a state event came.
    async fn replaced(&self, event: &RoomEvent) -> sqlx::Result<Option<Arc<RoomEvent>>> {
        let (Some(before), Some(key)) = (event.snapshot, event.state_key) else {
            return Ok(None);
        };
        match self.snapshot(before).await?.get(key) {
            Some(nid) => self.events().get(nid).await.map(Some),
            None => Ok(None),
        }
    }

    /// The state after an event, as far as that event alone is concerned.
    pub async fn state_after(&self, event: &RoomEvent) -> sqlx::Result<Arc<Snapshot>> {
        let Some(nid) = event.snapshot else {
            return Ok(Arc::new(Snapshot::empty()));
        };
        let before = self.snapshot(nid).await?;
        match event.state_key {
            Some(key) if event.is_accepted() => Ok(Arc::new(before.with(key, event.nid))),
            _ => Ok(before),
        }
    }

    /// The state that was current at a place of the stream, if `receiver` may see the timeline there.
    pub async fn state_at(
        &self,
        room: &Room,
        receiver: &Receiver,
        order: i64,
    ) -> sqlx::Result<Option<Arc<Snapshot>>> {
        let mut conn = self.pool().acquire().await?;
        let last = timeline::find_last(&mut conn, room.nid, order).await?;
        let snapshot = current_state::find_at(&mut conn, room.nid, Position(order)).await?;
        drop(conn);
        let Some(last) = last else { return Ok(None) };
        let last = self.events().get(last).await?;
        if !self.may_see(room, &receiver.user_id, &last).await? {
            return Ok(None);
        }
        match snapshot {
            Some(nid) => self.snapshot(nid).await.map(Some),
            None => self.state_after(&last).await.map(Some),
        }
    }

    /// The room that an event is in.
    pub async fn room_of_event(&self, id: &EventId) -> sqlx::Result<Option<Arc<Room>>> {
        let nids = self.events().nids(&[id]).await?;
        match nids.get(id) {
            Some(nid) => self.find_by_nid(self.events().get(*nid).await?.room).await,
            None => Ok(None),
        }
    }

    /// Whether the room is in the directory.
    pub async fn is_published(&self, room: &Room) -> sqlx::Result<bool> {
        let mut conn = self.pool().acquire().await?;
        let row = hearth_store::room::find(&mut conn, room.nid).await?;
        Ok(row.is_some_and(|row| row.published))
    }

    /// Those of the rooms that are in the directory.
    pub async fn published_among(&self, rooms: &[&RoomId]) -> sqlx::Result<HashSet<OwnedRoomId>> {
        if rooms.is_empty() {
            return Ok(HashSet::new());
        }
        let ids: Vec<&str> = rooms.iter().map(|room| room.as_str()).collect();
        let mut conn = self.pool().acquire().await?;
        let published = room_directory::list_published_of(&mut conn, &ids).await?;
        let published = published.into_iter();
        Ok(published.filter_map(|id| RoomId::parse(id).ok()).collect())
    }

    /// The event with this id, when it is in the room and `receiver` may see it.
    pub async fn visible_event(
        &self,
        room: &Room,
        receiver: &Receiver,
        id: &EventId,
    ) -> sqlx::Result<Option<Arc<RoomEvent>>> {
        let nids = self.events().nids(&[id]).await?;
        let Some(nid): Option<&EventNid> = nids.get(id) else {
            return Ok(None);
        };
        // Another process may have given it its place.
        let Some(event) = self.events().placed(vec![*nid]).await?.remove(nid) else {
            return Ok(None);
        };
        self.current(room).await?;
        let seen = event.room == room.nid
            && self.may_see(room, &receiver.user_id, &event).await?
            && !self.has_forgotten(room, receiver).await?;
        Ok(seen.then_some(event))
    }

    /// Whether the receiver forgot the room, and it is not open to everybody.
    async fn has_forgotten(&self, room: &Room, receiver: &Receiver) -> sqlx::Result<bool> {
        let Some(current) = self.current(room).await? else {
            return Ok(false);
        };
        let state = current.snapshot;
        if self.membership(&state, &receiver.user_id).await? == Join
            || self.history_visibility(&state).await? == HistoryVisibility::WorldReadable
        {
            return Ok(false);
        }
        let mut conn = self.pool().acquire().await?;
        let row = membership::find(&mut conn, receiver.user, room.nid).await?;
        Ok(row.is_some_and(|row| row.forgotten))
    }
}
