//! What is kept in memory of a user who syncs.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hearth_core::{EventNid, Position, RoomNid, UserNid};
use hearth_store::membership;
use ruma::events::room::member::MembershipState;
use tokio::{
    sync::{Notify, OnceCell},
    time::Instant,
};

/// A user who synced in the last minutes.
#[derive(Debug)]
pub(crate) struct ActiveUser {
    pub nid: UserNid,
    /// Set once the memberships are read.
    pub loaded: OnceCell<()>,
    notify: Notify,
    /// Nothing after this position concerns the user, except what is not in the log.
    moved: AtomicI64,
    account_data: AtomicI64,
    to_device: AtomicI64,
    device_list: AtomicI64,
    /// How many requests are under way.
    requests: AtomicUsize,
    record: Mutex<Record>,
}

#[derive(Debug)]
struct Record {
    /// Shared with the requests that read it.
    members: Arc<HashMap<RoomNid, Member>>,
    /// The last position among `members`.
    changed: Position,
    /// Changes after this position are in the record.
    complete_from: Position,
    last_seen: Instant,
    /// Up to where nothing waits for a device.
    drained: HashMap<String, Position>,
}

/// A user's membership of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub membership: MembershipState,
    /// Since when.
    pub position: Position,
    /// The member event, if it is stored here.
    pub event: Option<EventNid>,
    pub forgotten: bool,
}

impl From<&membership::Stored> for Member {
    fn from(row: &membership::Stored) -> Self {
        Self {
            membership: MembershipState::from(row.membership.as_str()),
            position: row.position,
            event: row.event,
            forgotten: row.forgotten,
        }
    }
}

/// A user's memberships as they were at one position.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    pub rooms: Arc<HashMap<RoomNid, Member>>,
    /// The last position among them.
    pub changed: Position,
}

impl ActiveUser {
    pub(crate) fn new(nid: UserNid) -> Self {
        Self {
            nid,
            loaded: OnceCell::new(),
            notify: Notify::new(),
            moved: AtomicI64::new(0),
            account_data: AtomicI64::new(0),
            to_device: AtomicI64::new(0),
            device_list: AtomicI64::new(0),
            requests: AtomicUsize::new(0),
            record: Mutex::new(Record {
                members: Arc::default(),
                changed: Position(0),
                complete_from: Position(i64::MAX),
                last_seen: Instant::now(),
                drained: HashMap::new(),
            }),
        }
    }

    /// Takes memberships in, newer ones over older ones, and gives those of the rooms among them that the user is in.
    pub(crate) fn merge(
        &self,
        members: impl IntoIterator<Item = (RoomNid, Member)>,
    ) -> Vec<RoomNid> {
        let mut record = self.lock();
        let record = &mut *record;
        let known_members = Arc::make_mut(&mut record.members);
        let mut joined = Vec::new();
        for (room, member) in members {
            record.changed = record.changed.max(member.position);
            let known = known_members.entry(room).or_insert(member.clone());
            if known.position < member.position {
                *known = member;
            }
            if known.membership == MembershipState::Join {
                joined.push(room);
            }
        }
        joined
    }

    pub(crate) fn complete(&self, from: Position) {
        self.lock().complete_from = from;
    }

    /// All memberships.
    pub(crate) fn members(&self) -> Members {
        let record = self.lock();
        Members {
            rooms: Arc::clone(&record.members),
            changed: record.changed,
        }
    }

    pub(crate) fn joined_rooms(&self) -> Vec<RoomNid> {
        let record = self.lock();
        let joined = record
            .members
            .iter()
            .filter(|(_, member)| member.membership == MembershipState::Join);
        joined.map(|(room, _)| *room).collect()
    }

    /// Whether anything of the log after `from` may concern the user.
    pub(crate) fn has_moved(&self, from: Position) -> bool {
        self.complete_from() > from || self.moved.load(Ordering::Acquire) > from.0
    }

    pub(crate) fn account_data(&self) -> &AtomicI64 {
        &self.account_data
    }

    pub(crate) fn to_device(&self) -> &AtomicI64 {
        &self.to_device
    }

    pub(crate) fn device_list(&self) -> &AtomicI64 {
        &self.device_list
    }

    /// Whether a stream of the user may hold something after `from`.
    pub(crate) fn may_have(&self, stream: fn(&Self) -> &AtomicI64, from: Position) -> bool {
        self.complete_from() > from || stream(self).load(Ordering::Acquire) > from.0
    }

    fn complete_from(&self) -> Position {
        self.lock().complete_from
    }

    pub(crate) fn moved_to(&self, position: Position) {
        self.moved.fetch_max(position.0, Ordering::AcqRel);
    }

    /// Resolves at the next [`Self::wake`]; must be enabled before anything is checked.
    pub(crate) fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }

    pub(crate) fn wake(&self) {
        self.notify.notify_waiters();
    }

    /// Up to where nothing waits for a device, as far as memory tells.
    pub(crate) fn drained(&self, device_id: &str) -> Option<Position> {
        self.lock().drained.get(device_id).copied()
    }

    pub(crate) fn set_drained(&self, device_id: &str, position: Position) {
        let mut record = self.lock();
        record.drained.insert(device_id.to_owned(), position);
    }

    pub(crate) fn touch(&self) {
        self.lock().last_seen = Instant::now();
    }

    pub(crate) fn is_idle(&self, limit: Duration) -> bool {
        self.requests.load(Ordering::Acquire) == 0 && self.lock().last_seen.elapsed() > limit
    }

    /// Keeps the user active while the guard lives.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request of a user that is under way.
#[derive(Debug)]
pub(crate) struct Busy(Arc<ActiveUser>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}
