//! A server's rooms without the server.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hearth_core::{Clock, Identity, Pdu, signing::ServerKey};
use hearth_journal::{self as journal, Journal};
use hearth_rooms::{
    Creation, Draft, Incoming, Member, Parts, Preset, ReceiveError, Received, Room, RoomEvent,
    Rooms, membership_of,
};
use hearth_store::{
    MIGRATOR, Occupancy, account,
    intern::{Blocks, Interner},
    membership as membership_table,
};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId,
    RoomVersionId, ServerName, UserId,
    events::{StateEventType, TimelineEventType},
};
use serde_json::{Value, json, value::RawValue};
use sqlx::{Executor as _, PgPool, postgres::PgPoolOptions};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    counts::check_counts,
    network::{Network, Wire},
};

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

/// When the mock clock stands still.
const NOW: u64 = 1_750_000_000_000;

/// A server.
pub(crate) struct Server {
    pub(crate) name: OwnedServerName,
    pub(crate) rooms: Rooms,
    pub(crate) pool: PgPool,
    pub(crate) wire: Arc<Wire>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A database beside that of the test.
async fn another(pool: &PgPool) -> PgPool {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("another_{}_{count}", std::process::id());
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    pool.execute(sqlx::raw_sql(create)).await.unwrap();
    let options = (*pool.connect_options()).clone().database(&name);
    let pool = PgPoolOptions::new()
        .max_connections(5)
        .connect_with(options)
        .await
        .unwrap();
    MIGRATOR.run(&pool).await.unwrap();
    pool
}

impl Server {
    /// Starts servers with these names; the first one gets the test's database.
    pub(crate) async fn start_all<const N: usize>(pool: PgPool, names: [&str; N]) -> [Self; N] {
        let network = Arc::new(Network::default());
        let mut servers = Vec::new();
        for (index, name) in names.into_iter().enumerate() {
            let own = if index == 0 {
                pool.clone()
            } else {
                another(&pool).await
            };
            servers.push(Self::start(&network, own, name).await);
        }
        servers.try_into().ok().unwrap()
    }

    async fn start(network: &Arc<Network>, pool: PgPool, name: &str) -> Self {
        let name = ServerName::parse(name).unwrap();
        let wire = Arc::new(Wire::new(Arc::clone(network), name.clone()));
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
        let bytes = name.as_bytes();
        let seed: [u8; 32] = std::array::from_fn(|at| bytes[at % bytes.len()]);
        let rooms = Rooms::new(Parts {
            pool: pool.clone(),
            journal,
            interner,
            blocks,
            identity: Arc::new(Identity {
                server_name: name.clone(),
                key: ServerKey::from_seed(&seed),
            }),
            clock: Clock::mock(NOW),
            peers: wire.clone(),
            residents: wire.clone(),
            tasks: tasks.clone(),
            occupancy: Occupancy::alone(),
        });
        // Who follows the rooms is not asked here.
        let _live = rooms.follow(&tasks, stop.clone());
        network.add(&name, &rooms);
        Self {
            name,
            rooms,
            pool,
            wire,
            stop,
            tasks,
        }
    }

    /// Ends in an orderly way.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(LIMIT, self.tasks.wait()).await.unwrap();
        self.wire.leave();
        check_counts(&self.pool).await;
        self.pool.close().await;
    }

    /// A user of the server, with an account.
    pub(crate) async fn user(&self, name: &str) -> Member {
        let user_id: OwnedUserId = UserId::parse(format!("@{name}:{}", self.name)).unwrap();
        let user = self.rooms.interner().user(&user_id).await.unwrap();
        let mut conn = self.pool.acquire().await.unwrap();
        let row = account::NewAccountRow {
            user,
            localpart: name,
            password_hash: None,
            admin: false,
            guest: false,
            appservice_id: None,
            created_ts: 0,
        };
        let _known = account::insert(&mut conn, &row).await.unwrap();
        Member {
            user_id,
            display_name: Some(name.to_owned()),
            avatar_url: None,
            more: CanonicalJsonObject::new(),
        }
    }

    /// A room that `creator` makes, with more state.
    pub(crate) async fn create(
        &self,
        creator: &Member,
        version: RoomVersionId,
        preset: Preset,
        state: Vec<(&str, Value)>,
    ) -> OwnedRoomId {
        let state = state.into_iter();
        let creation = Creation {
            creator: creator.clone(),
            version,
            preset,
            published: false,
            creation_content: CanonicalJsonObject::new(),
            power_level_content_override: CanonicalJsonObject::new(),
            initial_state: state.map(|(kind, content)| draft(kind, content)).collect(),
            name: Some("Tea".to_owned()),
            topic: None,
            alias: None,
            invite: Vec::new(),
            is_direct: false,
        };
        self.rooms.create(&creation).await.unwrap()
    }

    pub(crate) async fn room(&self, room_id: &RoomId) -> Arc<Room> {
        self.rooms.find(room_id).await.unwrap().unwrap()
    }

    /// Sends a message.
    pub(crate) async fn say(
        &self,
        room_id: &RoomId,
        sender: &Member,
        body: &str,
    ) -> Arc<RoomEvent> {
        let content = canonical(json!({ "body": body, "msgtype": "m.text" }));
        let draft = Draft::message(TimelineEventType::RoomMessage, content);
        self.send(room_id, sender, draft).await
    }

    /// Sends a state event with the empty state key.
    pub(crate) async fn set(
        &self,
        room_id: &RoomId,
        sender: &Member,
        kind: &str,
        content: Value,
    ) -> Arc<RoomEvent> {
        self.send(room_id, sender, draft(kind, content)).await
    }

    async fn send(&self, room_id: &RoomId, sender: &Member, draft: Draft) -> Arc<RoomEvent> {
        let room = self.room(room_id).await;
        let sending = self.rooms.send(&room, &sender.user_id, draft);
        let sent = timeout(LIMIT, sending).await.unwrap().unwrap();
        self.event(&sent.event_id).await.unwrap()
    }

    /// A stored event.
    pub(crate) async fn event(&self, id: &EventId) -> Option<Arc<RoomEvent>> {
        let nids = self.rooms.events().nids(&[id]).await.unwrap();
        let nid = nids.get(id)?;
        Some(self.rooms.events().get(*nid).await.unwrap())
    }

    /// Takes in an event that another server has.
    pub(crate) async fn hear(&self, from: &Server, event: &RoomEvent) -> Received {
        let pdu: &Pdu = &event.pdu;
        self.try_hear(from, &pdu.room_id, &pdu.json).await.unwrap()
    }

    /// Takes in what another server sends, if it is any good.
    pub(crate) async fn try_hear(
        &self,
        from: &Server,
        room_id: &RoomId,
        event: &RawValue,
    ) -> Result<Received, ReceiveError> {
        let room = self.room(room_id).await;
        let incoming = Incoming::read(event, &room.id, &room.rules).unwrap();
        let receiving = self.rooms.receive(&room, &from.name, incoming);
        timeout(LIMIT, receiving).await.unwrap()
    }

    /// The ids of the events of the current state.
    pub(crate) async fn state(&self, room_id: &RoomId) -> BTreeSet<OwnedEventId> {
        let room = self.room(room_id).await;
        let current = self.rooms.current(&room).await.unwrap().unwrap();
        let events = self.rooms.state_events(&current.snapshot).await.unwrap();
        events.iter().map(|e| e.pdu.event_id.clone()).collect()
    }

    /// The membership that the current state says.
    pub(crate) async fn member_event(
        &self,
        room_id: &RoomId,
        user: &Member,
    ) -> Option<Arc<RoomEvent>> {
        let room = self.room(room_id).await;
        let current = self.rooms.current(&room).await.unwrap().unwrap();
        let kind = StateEventType::RoomMember;
        let key = user.user_id.as_str();
        self.rooms
            .state_event(&current.snapshot, &kind, key)
            .await
            .unwrap()
    }

    /// The membership that the current state says.
    pub(crate) async fn in_state(&self, room_id: &RoomId, user: &Member) -> String {
        let event = self.member_event(room_id, user).await;
        event.map_or_else(String::new, |event| membership_of(&event).to_string())
    }

    /// The row of `membership`.
    pub(crate) async fn row(
        &self,
        room_id: &RoomId,
        user: &Member,
    ) -> Option<membership_table::Stored> {
        let room = self.rooms.find(room_id).await.unwrap()?;
        let nid = self.rooms.interner().user(&user.user_id).await.unwrap();
        let mut conn = self.pool.acquire().await.unwrap();
        membership_table::find(&mut conn, nid, room.nid)
            .await
            .unwrap()
    }

    /// The membership in the row, or nothing.
    pub(crate) async fn membership(&self, room_id: &RoomId, user: &Member) -> String {
        let row = self.row(room_id, user).await;
        row.map_or_else(String::new, |row| row.membership)
    }
}

pub(crate) fn draft(kind: &str, content: Value) -> Draft {
    Draft::state(TimelineEventType::from(kind), "", canonical(content))
}

fn canonical(content: Value) -> CanonicalJsonObject {
    serde_json::from_value(content).unwrap()
}
