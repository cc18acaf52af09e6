//! Who is syncing, what they are in, and how far each of their streams has moved: what a sync asks instead of the
//! database, and what wakes it.
//!
//! One task follows [`hearth_rooms::Live`] and brings the records of active users up to each announcement. Then it
//! publishes the position, and only then it wakes those who wait: whoever reads the position finds the records at least
//! that far, so nothing is missed and nothing is polled.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use hearth_core::{Position, RoomNid, SnapshotNid, UserNid};
use hearth_store::membership;
use sqlx::PgPool;
use tokio::sync::watch;

use crate::{
    active::{ActiveUser, Member},
    change::Change,
};

/// How long a user stays in memory after the last sync.
const IDLE: Duration = Duration::from_mins(5);

/// How many rooms are remembered that nobody active is in; beyond that the memory starts over.
const REMEMBERED_ROOMS: usize = 500_000;

/// The records of active users and moving rooms.
#[derive(Clone, Debug)]
pub(crate) struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    position: watch::Sender<Position>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How far the records are; [`Inner::position`] follows when they may be read.
    applied: Position,
    /// Everything that happened after this position is in `rooms`.
    complete_from: Position,
    users: HashMap<UserNid, Arc<ActiveUser>>,
    rooms: HashMap<RoomNid, RoomRecord>,
}

/// What is known of a room that moved, or that an active user is in.
#[derive(Debug, Default)]
struct RoomRecord {
    /// Active users that are joined.
    users: HashMap<UserNid, Arc<ActiveUser>>,
    /// The last event or change of state.
    moved: Position,
    /// The last position at which the current state may have changed.
    state: Position,
    /// The last receipt.
    receipts: Position,
    /// The state before the next event, if nothing but messages come.
    expected: Option<SnapshotNid>,
}

/// Since when a room's streams stand still, as far as memory tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// There may be events or changes of state.
    pub timeline: bool,
    /// The current state may be another one.
    pub state: bool,
    /// There may be receipts.
    pub receipts: bool,
}

impl Hub {
    pub(crate) fn new(pool: PgPool, position: Position) -> Self {
        Self(Arc::new(Inner {
            pool,
            position: watch::Sender::new(position),
            state: Mutex::new(State {
                applied: position,
                complete_from: position,
                users: HashMap::new(),
                rooms: HashMap::new(),
            }),
        }))
    }

    /// How far the records are.
    pub(crate) fn position(&self) -> Position {
        *self.0.position.borrow()
    }

    /// Waits until the records are as far as `position`.
    pub(crate) async fn wait_for(&self, position: Position) {
        let mut positions = self.0.position.subscribe();
        // The sender lives as long as the hub.
        let _ = positions.wait_for(|now| *now >= position).await;
    }

    /// The record of a user, read from the database if he was not active.
    pub(crate) async fn user(&self, nid: UserNid) -> sqlx::Result<Arc<ActiveUser>> {
        loop {
            let user = {
                let mut state = self.lock();
                let made = || Arc::new(ActiveUser::new(nid));
                Arc::clone(state.users.entry(nid).or_insert_with(made))
            };
            user.touch();
            // In a box, so that who waits for something new keeps no room for it.
            let load = || Box::pin(self.load(&user));
            user.loaded.get_or_try_init(load).await?;
            // Meanwhile everything may have been forgotten.
            if self.is_current(&user) {
                return Ok(user);
            }
        }
    }

    /// Reads the memberships of a user that the task already knows of, so that no change falls between.
    async fn load(&self, user: &Arc<ActiveUser>) -> sqlx::Result<()> {
        let mut conn = self.0.pool.acquire().await?;
        let rows = membership::list_of_user(&mut conn, user.nid).await?;
        drop(conn);
        let mut state = self.lock();
        let joined = user.merge(rows.iter().map(|row| (row.room, Member::from(row))));
        for room in joined {
            let record = state.rooms.entry(room).or_default();
            record.users.insert(user.nid, Arc::clone(user));
        }
        user.complete(state.applied);
        Ok(())
    }

    /// Which streams of these rooms may have moved, each since its own position.
    pub(crate) fn moved_all(
        &self,
        rooms: impl Iterator<Item = (RoomNid, Position)>,
    ) -> HashMap<RoomNid, Moved> {
        let state = self.lock();
        rooms
            .map(|(room, from)| (room, state.moved(room, from)))
            .collect()
    }

    /// The active user with this number, if his record is there.
    pub(crate) fn find(&self, nid: UserNid) -> Option<Arc<ActiveUser>> {
        self.lock().users.get(&nid).cloned()
    }

    /// Whether the record is still the one that is kept up to date.
    pub(crate) fn is_current(&self, user: &Arc<ActiveUser>) -> bool {
        self.find(user.nid)
            .is_some_and(|now| Arc::ptr_eq(&now, user))
    }

    /// Whether an active user is in the room.
    pub(crate) fn is_watched(&self, room: RoomNid) -> bool {
        let state = self.lock();
        state
            .rooms
            .get(&room)
            .is_some_and(|record| !record.users.is_empty())
    }

    /// Wakes the active users in these rooms: something that is not in the log happened.
    pub(crate) fn wake_rooms(&self, rooms: impl IntoIterator<Item = RoomNid>) {
        let users: Vec<Arc<ActiveUser>> = {
            let state = self.lock();
            rooms
                .into_iter()
                .filter_map(|room| state.rooms.get(&room))
                .flat_map(|record| record.users.values().cloned())
                .collect()
        };
        for user in users {
            user.wake();
        }
    }

    /// Wakes all active users.
    pub(crate) fn wake_all(&self) {
        let users: Vec<Arc<ActiveUser>> = self.lock().users.values().cloned().collect();
        for user in users {
            user.wake();
        }
    }

    /// Brings the records up to `position` and wakes those whom it concerns.
    pub(crate) fn apply(&self, position: Position, changes: Vec<(Position, Change)>) {
        let mut wakes = HashMap::new();
        {
            let mut state = self.lock();
            for (at, change) in changes {
                state.apply(at, change, &mut wakes);
            }
            state.applied = position;
            state.trim();
        }
        self.0.position.send_replace(position);
        for user in wakes.into_values() {
            user.wake();
        }
    }

    /// Forgets everything: announcements were missed.
    pub(crate) fn start_over(&self, position: Position) {
        let users = {
            let mut state = self.lock();
            state.rooms.clear();
            (state.applied, state.complete_from) = (position, position);
            std::mem::take(&mut state.users)
        };
        self.0.position.send_replace(position);
        for user in users.into_values() {
            user.wake();
        }
    }

    /// Forgets users that have not synced for a while.
    pub(crate) fn forget_idle(&self) {
        let mut state = self.lock();
        let idle: Vec<UserNid> = state
            .users
            .values()
            .filter(|user| user.is_idle(IDLE))
            .map(|user| user.nid)
            .collect();
        for nid in idle {
            state.forget(nid);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Wakes = HashMap<UserNid, Arc<ActiveUser>>;

impl State {
    fn moved(&self, room: RoomNid, from: Position) -> Moved {
        if from < self.complete_from {
            return Moved {
                timeline: true,
                state: true,
                receipts: true,
            };
        }
        let record = self.rooms.get(&room);
        let after = |position: fn(&RoomRecord) -> Position| {
            record.is_some_and(|record| position(record) > from)
        };
        Moved {
            timeline: after(|record| record.moved),
            state: after(|record| record.state),
            receipts: after(|record| record.receipts),
        }
    }

    fn apply(&mut self, at: Position, change: Change, wakes: &mut Wakes) {
        match change {
            Change::Event {
                room,
                message_on,
                member,
            } => {
                let record = self.rooms.entry(room).or_default();
                record.moved = at;
                if message_on.is_none() || message_on != record.expected {
                    record.state = at;
                }
                record.expected = message_on;
                self.wake_room(room, at, wakes);
                if let Some((user, member)) = member {
                    self.set_member(room, user, member, at, wakes);
                }
            }
            Change::State { room, members } => {
                let record = self.rooms.entry(room).or_default();
                (record.moved, record.state, record.expected) = (at, at, None);
                self.wake_room(room, at, wakes);
                for (user, member) in members {
                    self.set_member(room, user, member, at, wakes);
                }
            }
            Change::Receipt(room) => {
                self.rooms.entry(room).or_default().receipts = at;
                self.wake_room(room, at, wakes);
            }
            Change::AccountData(user) => self.concern(user, at, wakes, ActiveUser::account_data),
            Change::ToDevice(user) => self.concern(user, at, wakes, ActiveUser::to_device),
            Change::DeviceList(user, rooms) => {
                let mut others: Vec<UserNid> = vec![user];
                let records = rooms.iter().filter_map(|room| self.rooms.get(room));
                others.extend(records.flat_map(|record| record.users.keys().copied()));
                for other in others {
                    self.concern(other, at, wakes, ActiveUser::device_list);
                }
            }
            Change::Membership(room, user, member) => {
                self.set_member(room, user, member, at, wakes);
            }
            Change::Unknown(room, user) => {
                self.wake_room(room, at, wakes);
                if let Some(known) = self.forget(user) {
                    wakes.insert(user, known);
                }
            }
        }
    }

    fn concern(
        &self,
        user: UserNid,
        at: Position,
        wakes: &mut Wakes,
        stream: fn(&ActiveUser) -> &AtomicI64,
    ) {
        if let Some(user) = self.users.get(&user) {
            stream(user).fetch_max(at.0, Ordering::AcqRel);
            user.moved_to(at);
            wakes.insert(user.nid, Arc::clone(user));
        }
    }

    fn wake_room(&self, room: RoomNid, at: Position, wakes: &mut Wakes) {
        let Some(record) = self.rooms.get(&room) else {
            return;
        };
        for (nid, user) in &record.users {
            user.moved_to(at);
            wakes.insert(*nid, Arc::clone(user));
        }
    }

    fn set_member(
        &mut self,
        room: RoomNid,
        nid: UserNid,
        member: Member,
        at: Position,
        wakes: &mut Wakes,
    ) {
        let Some(user) = self.users.get(&nid) else {
            return;
        };
        let joined = user.merge([(room, member)]).contains(&room);
        let record = self.rooms.entry(room).or_default();
        if joined {
            record.users.insert(nid, Arc::clone(user));
        } else {
            record.users.remove(&nid);
        }
        user.moved_to(at);
        wakes.insert(nid, Arc::clone(user));
    }

    fn forget(&mut self, nid: UserNid) -> Option<Arc<ActiveUser>> {
        let user = self.users.remove(&nid)?;
        for room in user.joined_rooms() {
            if let Some(record) = self.rooms.get_mut(&room) {
                record.users.remove(&nid);
            }
        }
        Some(user)
    }

    /// Keeps the memory of rooms small.
    fn trim(&mut self) {
        if self.rooms.len() < REMEMBERED_ROOMS {
            return;
        }
        self.rooms.retain(|_, record| !record.users.is_empty());
        if self.rooms.len() < REMEMBERED_ROOMS / 2 {
            self.complete_from = self.applied;
        }
    }
}
