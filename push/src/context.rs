//! What rules ask about a room and an event beside its content, made once for all who are notified.

use std::{collections::HashMap, sync::Arc};

use hearth_core::{RoomNid, SnapshotNid};
use hearth_rooms::{Powers, Room, RoomEvent, Rooms, SendError, Snapshot};
use hearth_store::room_members;
use moka::future::Cache;
use ruma::{
    Int, OwnedEventId, UInt, UserId,
    events::{AnySyncTimelineEvent, StateEventType},
    power_levels::NotificationPowerLevels,
    push::{FlattenedJson, PushConditionPowerLevelsCtx},
    room_version_rules::RoomPowerLevelsRules,
    serde::Raw,
};
use serde::Deserialize;
use sqlx::PgPool;

use crate::threads;

/// How many states of rooms stay in memory.
const CACHED_ROOMS: u64 = 2_000;

/// How many events stay in memory.
const CACHED_EVENTS: u64 = 5_000;

/// A room in one of its states.
#[derive(Debug)]
pub(crate) struct RoomContext {
    /// The state.
    pub snapshot: Arc<Snapshot>,
    /// How many members are joined.
    pub members: UInt,
    powers: Option<Powers>,
    notifications: NotificationPowerLevels,
    rules: RoomPowerLevelsRules,
}

/// An event as the rules look at it.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The event with its keys flattened.
    pub json: FlattenedJson,
    /// The power of the sender.
    pub power: Option<PushConditionPowerLevelsCtx>,
    /// The thread that it is in.
    pub thread: Option<OwnedEventId>,
}

/// Rooms and events as the rules look at them.
#[derive(Clone, Debug)]
pub(crate) struct Contexts {
    rooms: Rooms,
    pool: PgPool,
    by_state: Cache<(RoomNid, SnapshotNid), Arc<RoomContext>>,
    events: Cache<OwnedEventId, Arc<Prepared>>,
}

#[derive(Default, Deserialize)]
struct PowerContent {
    #[serde(default)]
    notifications: Option<NotificationPowerLevels>,
}

#[derive(Deserialize)]
struct MemberContent {
    displayname: Option<String>,
}

impl Contexts {
    pub(crate) fn new(rooms: Rooms, pool: PgPool) -> Self {
        Self {
            rooms,
            pool,
            by_state: Cache::new(CACHED_ROOMS),
            events: Cache::new(CACHED_EVENTS),
        }
    }

    /// The room as it is now; `None` when this server is not in it.
    pub(crate) async fn room(&self, room: &Room) -> sqlx::Result<Option<Arc<RoomContext>>> {
        let Some(current) = self.rooms.known_current(room).await? else {
            return Ok(None);
        };
        let key = (room.nid, current.snapshot.nid);
        if let Some(context) = self.by_state.get(&key).await {
            return Ok(Some(context));
        }
        let mut conn = self.pool.acquire().await?;
        let members = room_members::find_joined(&mut conn, room.nid).await?.all;
        drop(conn);
        self.make(room, current.snapshot, members).await.map(Some)
    }

    /// The rooms as they are now, with what `viewer` is called there in memory; those that this server is not in are
    /// left out.
    pub(crate) async fn rooms(
        &self,
        rooms: &[Arc<Room>],
        viewer: &UserId,
    ) -> sqlx::Result<HashMap<RoomNid, Arc<RoomContext>>> {
        let mut currents = self.rooms.known_currents(rooms).await?;
        let snapshots = currents
            .values()
            .map(|current| Arc::clone(&current.snapshot));
        let member = StateEventType::RoomMember.to_string();
        let (create, levels) = (
            StateEventType::RoomCreate.to_string(),
            StateEventType::RoomPowerLevels.to_string(),
        );
        let keys = [
            (member.as_str(), viewer.as_str()),
            (create.as_str(), ""),
            (levels.as_str(), ""),
        ];
        let snapshots: Vec<Arc<Snapshot>> = snapshots.collect();
        self.rooms.load_state(&snapshots, &keys).await?;
        let mut contexts = HashMap::with_capacity(rooms.len());
        let mut missing = Vec::new();
        for room in rooms {
            let Some(current) = currents.remove(&room.nid) else {
                continue;
            };
            match self.by_state.get(&(room.nid, current.snapshot.nid)).await {
                Some(context) => {
                    contexts.insert(room.nid, context);
                }
                None => missing.push((room, current.snapshot)),
            }
        }
        if missing.is_empty() {
            return Ok(contexts);
        }
        let nids: Vec<RoomNid> = missing.iter().map(|(room, _)| room.nid).collect();
        let mut conn = self.pool.acquire().await?;
        let counts = room_members::list_joined_counts(&mut conn, &nids).await?;
        drop(conn);
        let counts: HashMap<RoomNid, i64> = counts.into_iter().collect();
        for (room, snapshot) in missing {
            let members = counts.get(&room.nid).copied().unwrap_or_default();
            contexts.insert(room.nid, self.make(room, snapshot, members).await?);
        }
        Ok(contexts)
    }

    async fn make(
        &self,
        room: &Room,
        snapshot: Arc<Snapshot>,
        members: i64,
    ) -> sqlx::Result<Arc<RoomContext>> {
        let key = (room.nid, snapshot.nid);
        let powers = match self.rooms.power(room, &snapshot).await {
            Ok(powers) => Some(powers),
            Err(SendError::Storage(error)) => return Err(error),
            // A room without a create event that can be read notifies nobody by power.
            Err(_) => None,
        };
        let context = Arc::new(RoomContext {
            members: UInt::try_from(members).unwrap_or(UInt::MAX),
            powers,
            // Creators have the greatest power already.
            rules: RoomPowerLevelsRules::new(&room.rules.authorization, []),
            notifications: self.notification_levels(&snapshot).await?,
            snapshot,
        });
        self.by_state.insert(key, Arc::clone(&context)).await;
        Ok(context)
    }

    async fn notification_levels(
        &self,
        snapshot: &Snapshot,
    ) -> sqlx::Result<NotificationPowerLevels> {
        let event = self
            .rooms
            .state_event(snapshot, &StateEventType::RoomPowerLevels, "")
            .await?;
        let content = event.and_then(|event| event.pdu.content_as::<PowerContent>().ok());
        Ok(content
            .and_then(|content| content.notifications)
            .unwrap_or_default())
    }

    /// An event of the room.
    pub(crate) async fn event(
        &self,
        context: &RoomContext,
        event: &RoomEvent,
    ) -> sqlx::Result<Arc<Prepared>> {
        if let Some(prepared) = self.events.get(&event.pdu.event_id).await {
            return Ok(prepared);
        }
        let raw = Raw::<AnySyncTimelineEvent>::from_json(event.pdu.json.clone());
        let prepared = Arc::new(Prepared {
            json: FlattenedJson::from_raw(&raw),
            power: context.power_of(&event.pdu.sender),
            thread: threads::root_of(&self.rooms, event).await?,
        });
        let id = event.pdu.event_id.clone();
        self.events.insert(id, Arc::clone(&prepared)).await;
        Ok(prepared)
    }

    /// How a user is called in the room; the localpart without a name.
    pub(crate) async fn display_name(
        &self,
        context: &RoomContext,
        user_id: &UserId,
    ) -> sqlx::Result<String> {
        let key = user_id.as_str();
        let event = self
            .rooms
            .state_event(&context.snapshot, &StateEventType::RoomMember, key)
            .await?;
        let member = event.and_then(|event| event.pdu.content_as::<MemberContent>().ok());
        Ok(member
            .and_then(|member| member.displayname)
            .unwrap_or_else(|| user_id.localpart().to_owned()))
    }
}

impl RoomContext {
    /// What conditions on the power of the sender ask.
    fn power_of(&self, sender: &UserId) -> Option<PushConditionPowerLevelsCtx> {
        let level = self.powers.as_ref()?.of(sender);
        let level = Int::try_from(level).unwrap_or(if level < 0 { Int::MIN } else { Int::MAX });
        Some(PushConditionPowerLevelsCtx::new(
            [(sender.to_owned(), level)].into(),
            Int::MIN,
            self.notifications.clone(),
            self.rules.clone(),
        ))
    }
}
