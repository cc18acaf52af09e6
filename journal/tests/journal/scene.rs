//! Journals as processes have them, and writes for them.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use hearth_core::{EventNid, RoomNid, SnapshotNid, UserNid, config};
use hearth_journal::{Journal, Parts, WriteError, Written};
use hearth_store::{
    intern::{Blocks, Interner},
    room,
    write::{
        EventRow, Placement, RoomWrite, SnapshotRow, Source, Status, ToDeviceRow, TransactionRow,
        Write,
    },
};
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long anything in these tests may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// What a process has of the journal.
pub(crate) struct Process {
    pub(crate) journal: Journal,
    pub(crate) blocks: Blocks,
    pub(crate) interner: Interner,
    pub(crate) stop: CancellationToken,
    tasks: TaskTracker,
}

impl Process {
    pub(crate) async fn start(pool: &PgPool) -> Self {
        Self::start_with(pool, None).await
    }

    pub(crate) async fn start_with(pool: &PgPool, redis: Option<&config::Redis>) -> Self {
        let blocks = Blocks::new(pool.clone());
        let interner = Interner::new(pool.clone());
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let journal = Journal::start(Parts {
            pool: pool.clone(),
            blocks: blocks.clone(),
            interner: interner.clone(),
            redis,
            tasks: &tasks,
            stop: stop.clone(),
        })
        .await
        .unwrap();
        Self {
            journal,
            blocks,
            interner,
            stop,
            tasks,
        }
    }

    /// Ends the process in an orderly way.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(LIMIT, self.tasks.wait())
            .await
            .expect("background work ends");
    }

    /// Submits a write and waits until it is done.
    pub(crate) async fn write(&self, write: Write) -> Result<Written, WriteError> {
        timeout(LIMIT, self.journal.submit(write))
            .await
            .expect("writes are answered")
    }

    /// An event of `room` with a number of its own.
    pub(crate) async fn event(&self, room: RoomNid) -> EventRow {
        let nid = self.blocks.event().await.unwrap();
        event(room, nid)
    }

    /// A snapshot of `room` with a number of its own.
    pub(crate) async fn snapshot(&self, room: RoomNid) -> SnapshotRow {
        SnapshotRow {
            nid: self.blocks.snapshot().await.unwrap(),
            room,
            parent: None,
            depth: 0,
            delta: vec![1, 2, 3],
        }
    }

    /// A write of one event after `previous`.
    pub(crate) async fn message(&self, room: RoomNid, previous: &[EventNid]) -> RoomWrite {
        after(previous, self.event(room).await)
    }

    /// A write of one event after `previous` that changes the state.
    pub(crate) async fn state(
        &self,
        room: RoomNid,
        revision: i64,
        previous: &[EventNid],
    ) -> RoomWrite {
        let snapshot = self.snapshot(room).await;
        let mut write = self.message(room, previous).await;
        write.expected_revision = revision;
        write.new_state = Some(snapshot.nid);
        write.snapshots = vec![snapshot];
        write
    }
}

/// A room without events.
pub(crate) async fn new_room(pool: &PgPool) -> RoomNid {
    static NEXT: AtomicI64 = AtomicI64::new(0);
    let id = format!("!{}:example.org", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut conn = pool.acquire().await.unwrap();
    let nid = room::insert(&mut conn, &id, "12").await.unwrap();
    nid.expect("the id is new")
}

pub(crate) fn event(room: RoomNid, nid: EventNid) -> EventRow {
    EventRow {
        nid,
        room,
        event_id: format!("${nid}"),
        sender: UserNid(1),
        kind: "m.room.message".to_owned(),
        state_key: None,
        depth: 1,
        origin_server_ts: 1,
        source: Source::Made,
        placement: Placement::Live,
        snapshot: None,
        auth: Vec::new(),
        status: Status::Accepted,
        json: "{}".to_owned(),
        relation: None,
        redacts: None,
    }
}

/// A write of `event` after `previous`, in a room whose state never changed.
pub(crate) fn after(previous: &[EventNid], event: EventRow) -> RoomWrite {
    RoomWrite {
        room: event.room,
        expected_revision: 0,
        extremities_gone: previous.to_vec(),
        extremities_new: vec![event.nid],
        events: vec![event],
        snapshots: Vec::new(),
        new_state: None,
        memberships: Vec::new(),
        transaction: None,
        redacted: Vec::new(),
        redactions_seen: Vec::new(),
        gaps: Vec::new(),
    }
}

pub(crate) fn transaction(id: &str) -> TransactionRow {
    TransactionRow {
        user: UserNid(1),
        device_id: "DEVICE".to_owned(),
        action: "send/m.room.message".to_owned(),
        txn_id: id.to_owned(),
    }
}

pub(crate) fn of_room(room: RoomWrite) -> Write {
    Write {
        room: Some(room),
        ..Write::default()
    }
}

pub(crate) fn to_device(message: &str) -> Write {
    Write {
        to_device: vec![ToDeviceRow {
            user: UserNid(1),
            device_id: "DEVICE".to_owned(),
            message: message.to_owned(),
        }],
        ..Write::default()
    }
}

/// The room's revision, state and extremities.
pub(crate) async fn row(pool: &PgPool, room: RoomNid) -> (i64, Option<SnapshotNid>, Vec<EventNid>) {
    let mut conn = pool.acquire().await.unwrap();
    let row = room::find(&mut conn, room).await.unwrap().unwrap();
    (row.revision, row.snapshot, row.extremities)
}

/// The events of the room in the order of its timeline.
pub(crate) async fn timeline(pool: &PgPool, room: RoomNid) -> Vec<EventNid> {
    sqlx::query_scalar(
        "SELECT nid FROM event WHERE room_nid = $1 AND stream_order IS NOT NULL ORDER BY stream_order",
    )
    .bind(room)
    .fetch_all(pool)
    .await
    .unwrap()
}

pub(crate) async fn count(pool: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}
