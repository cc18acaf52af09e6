//! Who types where (specification, "Typing Notifications"). In memory only, and shared with other processes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hearth_core::{Clock, RoomNid, UserNid};
use hearth_store::membership;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::ephemeral::{Change, Ephemeral, sharing::Fact};

/// How long a user types at the most without saying so again.
const MAX_TIMEOUT: Duration = Duration::from_mins(2);

/// How long it is remembered that nobody types any more, in milliseconds.
const REMEMBERED: i64 = 10 * 60 * 1_000;

/// Why a user cannot type in a room.
#[derive(Debug, thiserror::Error)]
pub enum TypingError {
    /// The user is not joined to the room.
    #[error("you are not in this room")]
    NotJoined,
    /// The database failed.
    #[error("the membership could not be read")]
    Storage(#[from] sqlx::Error),
}

/// Who types where.
#[derive(Clone, Debug)]
pub struct Typing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    clock: Clock,
    ephemeral: Ephemeral,
    state: Mutex<State>,
    /// A deadline came that is before all others.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct State {
    rooms: HashMap<RoomNid, Room>,
    /// When somebody stops typing.
    deadlines: BTreeSet<(i64, RoomNid, UserNid)>,
    /// When rooms were last forgotten.
    swept: i64,
}

#[derive(Debug, Default)]
struct Room {
    /// Who types, until when.
    typing: BTreeMap<UserNid, i64>,
    /// The count at the last change.
    changed: u64,
    /// The time of the last change.
    changed_ts: i64,
}

impl Typing {
    /// Nobody types yet.
    #[must_use]
    pub fn new(pool: PgPool, clock: Clock, ephemeral: Ephemeral) -> Self {
        Self(Arc::new(Inner {
            pool,
            clock,
            ephemeral,
            state: Mutex::default(),
            sooner: Notify::new(),
        }))
    }

    /// A joined user types for `timeout`, or not any more.
    ///
    /// # Errors
    ///
    /// [`TypingError::NotJoined`].
    pub async fn set(
        &self,
        user: UserNid,
        room: RoomNid,
        timeout: Option<Duration>,
    ) -> Result<(), TypingError> {
        let mut conn = self.0.pool.acquire().await?;
        let membership = membership::find(&mut conn, user, room).await?;
        if membership.is_none_or(|membership| membership.membership != "join") {
            return Err(TypingError::NotJoined);
        }
        self.apply(user, room, timeout);
        Ok(())
    }

    /// Takes note that a user types for `timeout`, or not any more: after a message, after leaving, when another server
    /// says so.
    pub fn apply(&self, user: UserNid, room: RoomNid, timeout: Option<Duration>) {
        if timeout.is_none() && !self.in_room(room).contains(&user) {
            return;
        }
        let left = timeout.map(|timeout| millis(timeout.min(MAX_TIMEOUT)).unsigned_abs());
        if !self.0.ephemeral.tell(Fact::Typing { room, user, left }) {
            self.learn(user, room, timeout);
        }
    }

    /// Counts that a user types for `timeout`, or not any more.
    pub(crate) fn learn(&self, user: UserNid, room: RoomNid, timeout: Option<Duration>) {
        let now = self.0.clock.millis();
        let until = timeout.map(|timeout| now.saturating_add(millis(timeout.min(MAX_TIMEOUT))));
        let mut state = self.lock();
        let before = state
            .rooms
            .get(&room)
            .and_then(|room| room.typing.get(&user));
        let before = before.copied();
        if before.is_none() && until.is_none() {
            return;
        }
        if let Some(before) = before {
            state.deadlines.remove(&(before, room, user));
        }
        let entry = state.rooms.entry(room).or_default();
        match until {
            Some(until) => entry.typing.insert(user, until),
            None => entry.typing.remove(&user),
        };
        let changed = before.is_some() != until.is_some();
        if changed {
            entry.changed = self.0.ephemeral.advance();
            entry.changed_ts = now;
        }
        if let Some(until) = until {
            state.deadlines.insert((until, room, user));
            if state.deadlines.first() == Some(&(until, room, user)) {
                self.0.sooner.notify_one();
            }
        }
        drop(state);
        if changed {
            self.0.ephemeral.wake(Change::Typing(room));
        }
    }

    /// Who types where, for the other processes.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        let now = self.0.clock.millis();
        let state = self.lock();
        let deadlines = state.deadlines.iter();
        let facts = deadlines.map(|(until, room, user)| Fact::Typing {
            room: *room,
            user: *user,
            left: Some(until.saturating_sub(now).max(0).unsigned_abs()),
        });
        facts.collect()
    }

    /// Who types in a room.
    #[must_use]
    pub fn in_room(&self, room: RoomNid) -> Vec<UserNid> {
        let state = self.lock();
        let room = state.rooms.get(&room);
        room.map_or_else(Vec::new, |room| room.typing.keys().copied().collect())
    }

    /// The rooms in which it changed who types, after `counter`. Those who ask about more than is remembered
    /// ([`Ephemeral::remembers`]) take what [`Typing::in_room`] says of each of their rooms.
    #[must_use]
    pub fn changed_since(&self, counter: u64) -> Vec<RoomNid> {
        let state = self.lock();
        let changed = state
            .rooms
            .iter()
            .filter(|(_, room)| room.changed > counter);
        changed.map(|(nid, _)| *nid).collect()
    }

    /// Stops those whose time is over; returns when the next one's is.
    #[must_use]
    pub fn expire(&self) -> Option<i64> {
        let now = self.0.clock.millis();
        let mut state = self.lock();
        let mut changed = BTreeSet::new();
        while let Some(&(until, room, user)) = state.deadlines.first()
            && until <= now
        {
            state.deadlines.pop_first();
            if let Some(entry) = state.rooms.get_mut(&room) {
                entry.typing.remove(&user);
                entry.changed = self.0.ephemeral.advance();
                entry.changed_ts = now;
                changed.insert(room);
            }
        }
        self.sweep(&mut state, now);
        let next = state.deadlines.first().map(|(until, ..)| *until);
        drop(state);
        for room in changed {
            self.0.ephemeral.wake(Change::Typing(room));
        }
        next
    }

    /// Forgets rooms in which nobody has typed for long.
    fn sweep(&self, state: &mut State, now: i64) {
        if now - state.swept < REMEMBERED {
            return;
        }
        state.swept = now;
        state.rooms.retain(|_, room| {
            let keep = !room.typing.is_empty() || now - room.changed_ts < REMEMBERED;
            if !keep {
                self.0.ephemeral.forget(room.changed);
            }
            keep
        });
    }

    /// Stops users when their time is over, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let next = self.expire();
            let wait = next.unwrap_or(i64::MAX) - self.0.clock.millis();
            let wait = Duration::from_millis(wait.clamp(1, REMEMBERED).unsigned_abs());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.0.sooner.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RoomNid = RoomNid(1);
    const ALICE: UserNid = UserNid(7);
    const TEN: Option<Duration> = Some(Duration::from_secs(10));

    fn typing() -> (Typing, Clock, Ephemeral) {
        let pool = PgPool::connect_lazy("postgres://nowhere").unwrap();
        let (clock, ephemeral) = (Clock::mock(1_000_000), Ephemeral::new());
        let typing = Typing::new(pool, clock.clone(), ephemeral.clone());
        (typing, clock, ephemeral)
    }

    #[tokio::test]
    async fn typing_ends_when_its_time_is_over() {
        let (typing, clock, ephemeral) = typing();
        typing.apply(ALICE, ROOM, TEN);
        assert_eq!(typing.in_room(ROOM), [ALICE]);
        let seen = ephemeral.counter();
        assert!(typing.changed_since(seen).is_empty());

        clock.advance(Duration::from_secs(10));
        let _ = typing.expire();

        assert!(typing.in_room(ROOM).is_empty());
        assert_eq!(typing.changed_since(seen), [ROOM]);
    }

    #[tokio::test]
    async fn saying_it_again_changes_nothing_but_the_time() {
        let (typing, clock, ephemeral) = typing();
        typing.apply(ALICE, ROOM, TEN);
        let seen = ephemeral.counter();

        clock.advance(Duration::from_secs(9));
        typing.apply(ALICE, ROOM, TEN);
        clock.advance(Duration::from_secs(9));
        let _ = typing.expire();

        assert_eq!(typing.in_room(ROOM), [ALICE]);
        assert!(typing.changed_since(seen).is_empty());
    }

    #[tokio::test]
    async fn readers_hear_of_a_change() {
        let (typing, _, ephemeral) = typing();
        let mut changes = ephemeral.subscribe();

        typing.apply(ALICE, ROOM, TEN);
        typing.apply(ALICE, ROOM, None);
        typing.apply(ALICE, ROOM, None);

        assert_eq!(changes.try_recv(), Ok(Change::Typing(ROOM)));
        assert_eq!(changes.try_recv(), Ok(Change::Typing(ROOM)));
        assert!(changes.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_count_from_before_what_is_remembered_is_not_good() {
        let (typing, clock, ephemeral) = typing();
        let before = ephemeral.counter();
        typing.apply(ALICE, ROOM, TEN);
        typing.apply(ALICE, ROOM, None);
        assert!(ephemeral.remembers(ephemeral.incarnation(), before));

        clock.advance(Duration::from_hours(1));
        let _ = typing.expire();

        assert!(!ephemeral.remembers(ephemeral.incarnation(), before));
        assert!(ephemeral.remembers(ephemeral.incarnation(), ephemeral.counter()));
        assert!(!ephemeral.remembers(0, ephemeral.counter()));
    }
}
