//! Who is there (specification, "Presence"). In memory only, and shared with other processes.
//!
//! What others see of a user follows from what its clients chose, when it was last active and whether it syncs; it is
//! computed anew at each deadline, and only a difference that others see counts as a change.

mod entry;
mod shared;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hearth_core::{Clock, UserNid};
use hearth_store::shared_room;
use ruma::presence::PresenceState;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::entry::Entry;
pub use self::entry::Status;
use crate::ephemeral::{Change, Ephemeral};

/// How long a user that is offline is remembered, in milliseconds.
const REMEMBERED: i64 = 24 * 60 * 60 * 1_000;

/// How often users are forgotten, in milliseconds.
const SWEEP: i64 = 10 * 60 * 1_000;

/// The longest status message, in bytes; the rest is cut off.
const MAX_STATUS: usize = 1_024;

/// The longest time that somebody can have been inactive; what another server tells beyond it is of no use, and would
/// grow past what JSON can say.
const MAX_AGO: Duration = Duration::from_hours(24 * 365 * 10);

/// Whether users see each other's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// They do.
    On,
    /// Everybody looks offline.
    Off,
}

/// Why presence is not told or set.
#[derive(Debug, thiserror::Error)]
pub enum PresenceError {
    /// The users share no room.
    #[error("you are not allowed to see their presence")]
    NotShared,
    /// There is no such state.
    #[error("this is no presence state")]
    UnknownState,
    /// The database failed.
    #[error("presence could not be read")]
    Storage(#[from] sqlx::Error),
}

/// Who is there.
#[derive(Clone, Debug)]
pub struct Presence(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    clock: Clock,
    ephemeral: Ephemeral,
    switch: Switch,
    state: Mutex<State>,
    /// A deadline came that is before all others.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct State {
    users: HashMap<UserNid, Entry>,
    /// When what others see of a user changes by itself.
    deadlines: BTreeSet<(i64, UserNid)>,
    /// When users were last forgotten.
    swept: i64,
}

/// A sync of a user that goes on until this is dropped.
#[derive(Debug)]
#[must_use = "the user counts as connected until this is dropped"]
pub struct Syncing {
    presence: Presence,
    user: UserNid,
}

impl Drop for Syncing {
    fn drop(&mut self) {
        self.presence.change(self.user, |entry, now| {
            entry.syncs = entry.syncs.saturating_sub(1);
            entry.seen = now;
        });
    }
}

impl Presence {
    /// Nobody is there yet.
    #[must_use]
    pub fn new(pool: PgPool, clock: Clock, ephemeral: Ephemeral, switch: Switch) -> Self {
        Self(Arc::new(Inner {
            pool,
            clock,
            ephemeral,
            switch,
            state: Mutex::default(),
            sooner: Notify::new(),
        }))
    }

    /// Sets the state and the status message, as the user's client asks.
    ///
    /// # Errors
    ///
    /// [`PresenceError::UnknownState`].
    pub fn set(
        &self,
        user: UserNid,
        state: &PresenceState,
        status: Option<&str>,
    ) -> Result<(), PresenceError> {
        if !is_known(state) {
            return Err(PresenceError::UnknownState);
        }
        let status = status.filter(|status| !status.is_empty());
        let status = status.map(|status| &status[..status.floor_char_boundary(MAX_STATUS)]);
        self.change(user, |entry, now| {
            entry.choose(state.clone(), now);
            entry.active = now;
            entry.chosen_ts = now;
            entry.status = status.map(str::to_owned);
        });
        Ok(())
    }

    /// A client of the user begins to sync with `set_presence`. With `offline` nothing changes, and nothing is returned.
    ///
    /// # Errors
    ///
    /// [`PresenceError::UnknownState`].
    pub fn sync(
        &self,
        user: UserNid,
        state: &PresenceState,
    ) -> Result<Option<Syncing>, PresenceError> {
        if !is_known(state) {
            return Err(PresenceError::UnknownState);
        }
        if *state == PresenceState::Offline || self.0.switch == Switch::Off {
            return Ok(None);
        }
        self.change(user, |entry, now| {
            entry.choose(state.clone(), now);
            entry.syncs += 1;
        });
        Ok(Some(Syncing {
            presence: self.clone(),
            user,
        }))
    }

    /// The user did something, like sending a message. Who is idle comes back; who is offline stays it, for that may be
    /// the user's wish.
    pub fn note_active(&self, user: UserNid) {
        self.change(user, Entry::note_active);
    }

    /// Takes note of what the server of a user says. That the server may speak for the user is for the caller to know.
    ///
    /// # Errors
    ///
    /// [`PresenceError::UnknownState`].
    pub fn tell(&self, user: UserNid, mut status: Status) -> Result<(), PresenceError> {
        if !is_known(&status.state) {
            return Err(PresenceError::UnknownState);
        }
        if let Some(text) = &mut status.status_msg {
            text.truncate(text.floor_char_boundary(MAX_STATUS));
        }
        status.last_active_ago = status.last_active_ago.map(|ago| ago.min(MAX_AGO));
        self.change(user, |entry, now| entry.tell(status, now));
        Ok(())
    }

    /// What `viewer` may see of `user`.
    ///
    /// # Errors
    ///
    /// [`PresenceError::NotShared`].
    pub async fn get(&self, viewer: UserNid, user: UserNid) -> Result<Status, PresenceError> {
        if viewer != user {
            let mut conn = self.0.pool.acquire().await?;
            let shared = shared_room::find(&mut conn, viewer, user).await?;
            shared.ok_or(PresenceError::NotShared)?;
        }
        Ok(self.status(user))
    }

    /// The presence of a user, whoever asks.
    #[must_use]
    pub fn status(&self, user: UserNid) -> Status {
        let now = self.0.clock.millis();
        let state = self.lock();
        let entry = state.users.get(&user);
        entry.map_or_else(Status::offline, |entry| entry.status_at(now))
    }

    /// What others see of the users whose presence changed after `counter` and who share a room with `viewer`, and of
    /// the viewer itself. With zero, all who were ever seen.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn changes(
        &self,
        viewer: UserNid,
        counter: u64,
    ) -> sqlx::Result<Vec<(UserNid, Status)>> {
        let changed = self.changed_since(counter);
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        let mut conn = self.0.pool.acquire().await?;
        let mut seen = shared_room::list_sharing(&mut conn, viewer, &changed).await?;
        drop(conn);
        if changed.contains(&viewer) && !seen.contains(&viewer) {
            seen.push(viewer);
        }
        Ok(self.statuses(&seen))
    }

    /// What others see of these users, as far as they were ever seen: for who comes into a room.
    #[must_use]
    pub fn statuses(&self, users: &[UserNid]) -> Vec<(UserNid, Status)> {
        let now = self.0.clock.millis();
        let state = self.lock();
        let known = users
            .iter()
            .filter_map(|user| Some((*user, state.users.get(user)?.status_at(now))));
        known.collect()
    }

    /// The users whose presence changed after `counter`.
    #[must_use]
    pub fn changed_since(&self, counter: u64) -> Vec<UserNid> {
        let state = self.lock();
        let changed = state
            .users
            .iter()
            .filter(|(_, entry)| entry.changed > counter);
        changed.map(|(nid, _)| *nid).collect()
    }

    /// Changes what is known of a user, and tells others if they see a difference.
    fn change(&self, user: UserNid, change: impl FnOnce(&mut Entry, i64)) {
        if self.0.switch == Switch::Off {
            return;
        }
        let now = self.0.clock.millis();
        let mut state = self.lock();
        let mut entry = state.users.remove(&user).unwrap_or_else(|| Entry::new(now));
        change(&mut entry, now);
        if let Some(deadline) = entry.deadline.take() {
            state.deadlines.remove(&(deadline, user));
        }
        let changed = if self.is_told(&mut entry, user, now) {
            // Others here see the difference when it comes back.
            Self::keep(&mut state, user, entry, now);
            false
        } else {
            self.settle(&mut state, user, entry, now)
        };
        let sooner = state.deadlines.first().is_some_and(|first| first.1 == user);
        drop(state);
        if changed {
            self.0.ephemeral.wake(Change::Presence(user));
        }
        if sooner {
            self.0.sooner.notify_one();
        }
    }

    /// Puts an entry back with its next deadline; says whether others see a difference.
    fn settle(&self, state: &mut State, user: UserNid, mut entry: Entry, now: i64) -> bool {
        let changed = entry.look(now);
        if changed {
            entry.changed = self.0.ephemeral.advance();
        }
        Self::keep(state, user, entry, now);
        changed
    }

    fn keep(state: &mut State, user: UserNid, mut entry: Entry, now: i64) {
        entry.deadline = entry.next_deadline(now);
        if let Some(deadline) = entry.deadline {
            state.deadlines.insert((deadline, user));
        }
        state.users.insert(user, entry);
    }

    /// Makes idle and absent those whose time is over; returns when the next one's is.
    #[must_use]
    pub fn expire(&self) -> Option<i64> {
        let now = self.0.clock.millis();
        let mut state = self.lock();
        let mut changed = Vec::new();
        while let Some(&(deadline, user)) = state.deadlines.first()
            && deadline <= now
        {
            state.deadlines.pop_first();
            if let Some(entry) = state.users.remove(&user)
                && self.settle(&mut state, user, entry, now)
            {
                changed.push(user);
            }
        }
        if now - state.swept >= SWEEP {
            state.swept = now;
            state.users.retain(|_, entry| {
                let keep = entry.deadline.is_some()
                    || entry.syncs > 0
                    || now.saturating_sub(entry.seen) < REMEMBERED;
                if !keep {
                    self.0.ephemeral.forget(entry.changed);
                }
                keep
            });
        }
        let next = state.deadlines.first().map(|(deadline, _)| *deadline);
        drop(state);
        for user in changed {
            self.0.ephemeral.wake(Change::Presence(user));
        }
        next
    }

    /// Makes users idle and absent when their time is over, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let next = self.expire();
            let wait = next.unwrap_or(i64::MAX) - self.0.clock.millis();
            let wait = Duration::from_millis(wait.clamp(1, SWEEP).unsigned_abs());
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

fn is_known(state: &PresenceState) -> bool {
    [
        PresenceState::Online,
        PresenceState::Unavailable,
        PresenceState::Offline,
    ]
    .contains(state)
}
