//! Who may see which event: history visibility, in one place for every way of reading.
//!
//! Client-Server API, "Server behaviour" of room history visibility.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, SnapshotNid, StateKeyNid};
use ruma::{
    UserId,
    events::{
        StateEventType, TimelineEventType,
        room::{
            history_visibility::HistoryVisibility,
            member::MembershipState::{self, Invite, Join},
        },
    },
};
use serde::Deserialize;

use crate::{Rooms, event::RoomEvent, room::Room, snapshot::Snapshot, state::membership_of};

/// The keys of a state that visibility depends on.
struct Keys {
    visibility: Option<StateKeyNid>,
    member: Option<StateKeyNid>,
}

/// What a state says about one user's sight.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sight {
    visibility: HistoryVisibility,
    membership: MembershipState,
}

/// How far back a user's member events are followed to find the last join.
const MEMBER_EVENTS: usize = 32;

#[derive(Deserialize)]
struct VisibilityContent {
    history_visibility: HistoryVisibility,
}

impl Rooms {
    /// Keeps those of a room's `events` that `user` may see, in the order given.
    ///
    /// The state before and after an event count: the more liberal visibility and membership of the two.
    pub async fn visible(
        &self,
        room: &Room,
        user: &UserId,
        events: Vec<Arc<RoomEvent>>,
    ) -> sqlx::Result<Vec<Arc<RoomEvent>>> {
        let keys = self.keys(user).await?;
        let joined = self.last_join(room, &keys).await?;
        let nids: HashSet<SnapshotNid> = events.iter().filter_map(|event| event.snapshot).collect();
        let snapshots = self.snapshots().map(nids).await?;
        self.load_sights(&keys, snapshots.values()).await?;
        let mut sights: HashMap<SnapshotNid, Sight> = HashMap::new();
        let mut seen = Vec::with_capacity(events.len());
        for event in events {
            let Some(nid) = event.snapshot else { continue };
            let before = if let Some(sight) = sights.get(&nid) {
                sight.clone()
            } else {
                let sight = self.sight(&keys, &snapshots[&nid]).await?;
                sights.insert(nid, sight.clone());
                sight
            };
            if sees(user, &event, &before, joined) {
                seen.push(event);
            }
        }
        Ok(seen)
    }

    /// Brings into memory, for events of many rooms at once, what [`Rooms::visible`] looks at.
    pub async fn prepare_visible(
        &self,
        user: &UserId,
        events: &[Arc<RoomEvent>],
    ) -> sqlx::Result<()> {
        let nids: HashSet<SnapshotNid> = events.iter().filter_map(|event| event.snapshot).collect();
        if nids.is_empty() {
            return Ok(());
        }
        let keys = self.keys(user).await?;
        let snapshots = self.snapshots().map(nids).await?;
        self.load_sights(&keys, snapshots.values()).await
    }

    /// Like [`Rooms::prepare_visible`], for rooms whose current states may not be in memory either.
    pub async fn prepare_histories(
        &self,
        user: &UserId,
        rooms: &[Arc<Room>],
        events: &[Arc<RoomEvent>],
    ) -> sqlx::Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let currents = self.known_currents(rooms).await?;
        let mut snapshots = Vec::with_capacity(currents.len());
        for current in currents.into_values() {
            snapshots.push(current.snapshot);
        }
        let member = StateEventType::RoomMember.to_string();
        let keys = [(member.as_str(), user.as_str())];
        self.load_state(&snapshots, &keys).await?;
        self.prepare_visible(user, events).await
    }

    /// Whether `user` may see one event.
    pub async fn may_see(
        &self,
        room: &Room,
        user: &UserId,
        event: &Arc<RoomEvent>,
    ) -> sqlx::Result<bool> {
        // Another process may have changed who is in the room.
        self.current(room).await?;
        let seen = self.visible(room, user, vec![Arc::clone(event)]).await?;
        Ok(!seen.is_empty())
    }

    /// The history visibility that a state sets.
    pub async fn history_visibility(&self, snapshot: &Snapshot) -> sqlx::Result<HistoryVisibility> {
        let event = self
            .state_event(snapshot, &StateEventType::RoomHistoryVisibility, "")
            .await?;
        Ok(event.map_or(HistoryVisibility::Shared, |event| visibility_of(&event)))
    }

    async fn keys(&self, user: &UserId) -> sqlx::Result<Keys> {
        let visibility = StateEventType::RoomHistoryVisibility.to_string();
        let member = StateEventType::RoomMember.to_string();
        Ok(Keys {
            visibility: self.interner().find_state_key(&visibility, "").await?,
            member: self
                .interner()
                .find_state_key(&member, user.as_str())
                .await?,
        })
    }

    /// Where the user's last join stands in the timeline: after everything while he is joined, `None` when he never was.
    ///
    /// Whoever decides whether the room may be read asked for its current state before.
    async fn last_join(&self, room: &Room, keys: &Keys) -> sqlx::Result<Option<i64>> {
        let (Some(key), Some(current)) = (keys.member, self.known_current(room).await?) else {
            return Ok(None);
        };
        let mut next = current.snapshot.get(key);
        for hop in 0..MEMBER_EVENTS {
            let Some(nid) = next else { return Ok(None) };
            let event = self.events().get(nid).await?;
            if membership_of(&event) == Join {
                let order = if hop == 0 {
                    Some(i64::MAX)
                } else {
                    event.stream_order()
                };
                return Ok(order);
            }
            let Some(before) = event.snapshot else {
                return Ok(None);
            };
            next = self.snapshot(before).await?.get(key);
        }
        Ok(None)
    }

    /// Brings into memory, in one query, what [`Rooms::sight`] will look at.
    async fn load_sights(
        &self,
        keys: &Keys,
        snapshots: impl Iterator<Item = &Arc<Snapshot>>,
    ) -> sqlx::Result<()> {
        let wanted: HashSet<EventNid> = snapshots
            .flat_map(|snapshot| [keys.visibility, keys.member].map(|key| snapshot.get(key?)))
            .flatten()
            .collect();
        self.events().map(wanted).await?;
        Ok(())
    }

    async fn sight(&self, keys: &Keys, snapshot: &Snapshot) -> sqlx::Result<Sight> {
        let visibility = match keys.visibility.and_then(|key| snapshot.get(key)) {
            Some(nid) => visibility_of(self.events().get(nid).await?.as_ref()),
            None => HistoryVisibility::Shared,
        };
        let membership = match keys.member.and_then(|key| snapshot.get(key)) {
            Some(nid) => membership_of(self.events().get(nid).await?.as_ref()),
            None => MembershipState::Leave,
        };
        Ok(Sight {
            visibility,
            membership,
        })
    }
}

/// The visibility that an event sets; anything unknown counts as the default.
pub(crate) fn visibility_of(event: &RoomEvent) -> HistoryVisibility {
    event
        .pdu
        .content_as::<VisibilityContent>()
        .map_or(HistoryVisibility::Shared, |content| {
            content.history_visibility
        })
}

fn sees(user: &UserId, event: &RoomEvent, before: &Sight, joined: Option<i64>) -> bool {
    if !event.is_accepted() {
        return false;
    }
    let later = match (joined, event.stream_order()) {
        (Some(joined), Some(order)) => order < joined,
        (joined, _) => joined == Some(i64::MAX),
    };
    permits(before, later) || permits(&after(user, event, before), later)
}

/// What the state says after the event, as far as it matters here.
fn after(user: &UserId, event: &RoomEvent, before: &Sight) -> Sight {
    let mut after = before.clone();
    if event
        .pdu
        .is_state(&TimelineEventType::RoomHistoryVisibility)
    {
        after.visibility = visibility_of(event);
    }
    if event.pdu.kind == TimelineEventType::RoomMember
        && event.pdu.state_key.as_deref() == Some(user.as_str())
    {
        after.membership = membership_of(event);
    }
    after
}

/// The specification's rules; `later`: whether the user joined after the event.
fn permits(sight: &Sight, later: bool) -> bool {
    match (&sight.visibility, &sight.membership) {
        (HistoryVisibility::WorldReadable, _) | (_, Join) => true,
        (HistoryVisibility::Invited, membership) => *membership == Invite,
        (HistoryVisibility::Joined, _) => false,
        // `shared`, and whatever else nobody knows.
        _ => later,
    }
}
