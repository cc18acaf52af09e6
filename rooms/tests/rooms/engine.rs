//! A server's rooms without the server, and what tests ask of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use hearth_core::{Clock, Identity, signing::ServerKey};
use hearth_journal::{self as journal, Journal};
use hearth_rooms::{
    Creation, Draft, Incoming, Member, Parts, Preset, ReceiveError, Received, Room, RoomEvent,
    Rooms,
    peers::{Alone, Peers},
};
use hearth_store::{
    Occupancy,
    intern::{Blocks, Interner},
    write::Status,
};
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId, UserId,
    owned_user_id, server_name,
};
use serde_json::{Value, json, value::RawValue};
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    counts::check_counts,
    peer::{Event, Peer},
};

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

/// When the mock clock starts; each of our events takes a millisecond.
const NOW: u64 = 1_750_000_000_000;

/// The rooms of `here.org`.
pub(crate) struct Engine {
    pub(crate) rooms: Rooms,
    pub(crate) pool: PgPool,
    clock: Clock,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Our user.
pub(crate) fn alice() -> OwnedUserId {
    owned_user_id!("@alice:here.org")
}

impl Engine {
    pub(crate) async fn start(pool: &PgPool, peers: Arc<dyn Peers>) -> Self {
        let clock = Clock::mock(NOW);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (interner, blocks) = (Interner::new(pool.clone()), Blocks::new(pool.clone()));
        let journal = Journal::start(journal::Parts {
            pool: pool.clone(),
            blocks: blocks.clone(),
            interner: interner.clone(),
            redis: None,
            tasks: &tasks,
            stop: stop.clone(),
        })
        .await
        .unwrap();
        let rooms = Rooms::new(Parts {
            pool: pool.clone(),
            journal,
            interner,
            blocks,
            identity: Arc::new(Identity {
                server_name: server_name!("here.org").to_owned(),
                key: ServerKey::from_seed(&[7; 32]),
            }),
            clock: clock.clone(),
            peers,
            residents: Arc::new(Alone),
            tasks: tasks.clone(),
            occupancy: Occupancy::alone(),
        });
        let nid = rooms.interner().user(&alice()).await.unwrap();
        sqlx::query("INSERT INTO account (user_nid, localpart, created_ts) VALUES ($1, 'alice', 0) ON CONFLICT DO NOTHING")
            .bind(nid)
            .execute(pool)
            .await
            .unwrap();
        // Who follows the rooms is not asked here.
        let _live = rooms.follow(&tasks, stop.clone());
        Self {
            rooms,
            pool: pool.clone(),
            clock,
            stop,
            tasks,
        }
    }

    /// Ends in an orderly way.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(LIMIT, self.tasks.wait()).await.unwrap();
        check_counts(&self.pool).await;
    }

    /// A public room of Alice's.
    pub(crate) async fn room(&self, version: RoomVersionId) -> Arc<Room> {
        let creation = Creation {
            creator: Member {
                user_id: alice(),
                display_name: None,
                avatar_url: None,
                more: CanonicalJsonObject::new(),
            },
            version,
            preset: Preset::Public,
            published: false,
            creation_content: CanonicalJsonObject::new(),
            power_level_content_override: CanonicalJsonObject::new(),
            initial_state: Vec::new(),
            name: None,
            topic: None,
            alias: None,
            invite: Vec::new(),
            is_direct: false,
        };
        let id: OwnedRoomId = self.rooms.create(&creation).await.unwrap();
        self.rooms.find(&id).await.unwrap().unwrap()
    }

    /// Sends an event of Alice's.
    pub(crate) async fn send(&self, room: &Room, draft: Draft) -> Arc<RoomEvent> {
        self.clock.advance(Duration::from_millis(1));
        let sender = alice();
        let sending = self.rooms.send(room, &sender, draft);
        let sent = timeout(LIMIT, sending).await.unwrap().unwrap();
        self.event(&sent.event_id).await.unwrap()
    }

    /// Sends a message of Alice's.
    pub(crate) async fn say(&self, room: &Room, body: &str) -> Arc<RoomEvent> {
        let content = canonical(json!({ "body": body, "msgtype": "m.text" }));
        let kind = ruma::events::TimelineEventType::RoomMessage;
        self.send(room, Draft::message(kind, content)).await
    }

    /// Sends a state event of Alice's.
    pub(crate) async fn set(
        &self,
        room: &Room,
        kind: &str,
        key: &str,
        content: Value,
    ) -> Arc<RoomEvent> {
        let draft = Draft::state(
            ruma::events::TimelineEventType::from(kind),
            key,
            canonical(content),
        );
        self.send(room, draft).await
    }

    /// Takes in an event as its sender's server sends it.
    pub(crate) async fn receive(
        &self,
        room: &Room,
        event: &Event,
    ) -> Result<Received, ReceiveError> {
        self.receive_json(room, event.server(), &event.json).await
    }

    pub(crate) async fn receive_json(
        &self,
        room: &Room,
        from: &ruma::ServerName,
        json: &RawValue,
    ) -> Result<Received, ReceiveError> {
        let incoming = Incoming::read(json, &room.id, &room.rules)?;
        let receiving = self.rooms.receive(room, from, incoming);
        timeout(LIMIT, receiving)
            .await
            .expect("events are received in time")
    }

    /// Takes in events of one server as one transaction brings them; says what became of each.
    pub(crate) async fn receive_all(&self, room: &Room, events: &[&Event]) -> Vec<Status> {
        let Some(first) = events.first() else {
            return Vec::new();
        };
        let incoming = events.iter().map(|event| {
            let read = Incoming::read(&event.json, &room.id, &room.rules);
            read.unwrap()
        });
        let receiving = self
            .rooms
            .receive_all(room, first.server(), incoming.collect());
        let received = timeout(LIMIT, receiving).await;
        let received = received.expect("events are received in time").into_iter();
        received.map(|received| received.unwrap().status).collect()
    }

    /// Takes in an event and says what became of it.
    pub(crate) async fn status(&self, room: &Room, event: &Event) -> Status {
        self.receive(room, event).await.unwrap().status
    }

    /// A stored event.
    pub(crate) async fn event(&self, id: &ruma::EventId) -> Option<Arc<RoomEvent>> {
        let nids = self.rooms.events().nids(&[id]).await.unwrap();
        let nid = nids.get(id)?;
        Some(self.rooms.events().get(*nid).await.unwrap())
    }

    /// The ids and keys of the current state.
    pub(crate) async fn state(&self, room: &Room) -> Vec<Arc<RoomEvent>> {
        let current = self.rooms.current(room).await.unwrap().unwrap();
        self.rooms.state_events(&current.snapshot).await.unwrap()
    }

    /// The event of the current state under a key.
    pub(crate) async fn held(&self, room: &Room, kind: &str, key: &str) -> Option<Arc<RoomEvent>> {
        let events = self.state(room).await;
        events.into_iter().find(|event| {
            event.pdu.kind.to_string() == kind && event.pdu.state_key.as_deref() == Some(key)
        })
    }

    /// The current state in a form that can be compared between engines.
    pub(crate) async fn state_ids(&self, room: &Room) -> Vec<String> {
        let events = self.state(room).await;
        let mut ids: Vec<String> = events
            .iter()
            .map(|event| {
                let key = event.pdu.state_key.as_deref().unwrap_or_default();
                format!("{} {key} {}", event.pdu.kind, event.pdu.event_id)
            })
            .collect();
        ids.sort();
        ids
    }

    /// What is held where, in the state before an event that comes after these.
    pub(crate) async fn state_before(
        &self,
        room: &Room,
        previous: &[OwnedEventId],
    ) -> HashMap<(String, String), OwnedEventId> {
        let map = self.rooms.state_after_all(room, previous).await.unwrap();
        let events = self
            .rooms
            .events()
            .map(map.values().copied())
            .await
            .unwrap();
        let held = events.into_values().map(|event| {
            let key = event.pdu.state_key.clone().unwrap_or_default();
            (
                (event.pdu.kind.to_string(), key),
                event.pdu.event_id.clone(),
            )
        });
        held.collect()
    }

    /// The ids of the state before a stored event, sorted, and what the checks against it said.
    pub(crate) async fn before(&self, event: &Event) -> (bool, Vec<OwnedEventId>) {
        let event = self.event(&event.id).await.unwrap();
        let snapshot = self.rooms.snapshot(event.snapshot.unwrap()).await.unwrap();
        let events = self.rooms.state_events(&snapshot).await.unwrap();
        let mut ids: Vec<_> = events
            .iter()
            .map(|event| event.pdu.event_id.clone())
            .collect();
        ids.sort();
        (event.status == Status::Rejected, ids)
    }

    /// The ids of the forward extremities.
    pub(crate) async fn extremities(&self, room: &Room) -> Vec<String> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT e.event_id FROM room r JOIN event e ON e.nid = ANY (r.extremities)
             WHERE r.nid = $1 ORDER BY e.event_id",
        )
        .bind(room.nid)
        .fetch_all(&self.pool)
        .await
        .unwrap();
        ids
    }

    /// A user's row of `membership`.
    pub(crate) async fn membership(&self, room: &Room, user: &UserId) -> Option<String> {
        sqlx::query_scalar(
            "SELECT m.membership FROM membership m JOIN user_id u ON u.nid = m.user_nid
             WHERE m.room_nid = $1 AND u.user_id = $2",
        )
        .bind(room.nid)
        .bind(user.as_str())
        .fetch_optional(&self.pool)
        .await
        .unwrap()
    }

    /// The ids of the timeline, in its order.
    pub(crate) async fn timeline(&self, room: &Room) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT event_id FROM event WHERE room_nid = $1 AND stream_order IS NOT NULL
             ORDER BY stream_order",
        )
        .bind(room.nid)
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// What time it is.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now().get().into()
    }

    /// Lets a user of a peer join a room.
    pub(crate) async fn join(&self, room: &Arc<Room>, peer: &Arc<Peer>, name: &str) -> Event {
        let user = peer.user(name);
        let content = json!({ "membership": "join" });
        let join =
            peer.on_top(self, room)
                .await
                .state(&user, ("m.room.member", user.as_str()), &content);
        let join = join.sign(peer);
        assert_eq!(self.status(room, &join).await, Status::Accepted);
        join
    }
}

/// JSON without floats.
pub(crate) fn canonical(value: Value) -> CanonicalJsonObject {
    serde_json::from_value(value).unwrap()
}
