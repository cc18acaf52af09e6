//! What is known of one user, and what others see of it.

use std::time::Duration;

use ruma::presence::PresenceState;

/// After so long without activity a user is idle, in milliseconds.
const IDLE_AFTER: i64 = 5 * 60 * 1_000;

/// After so long without activity a user is not currently active, in milliseconds.
const INACTIVE_AFTER: i64 = 60 * 1_000;

/// After so long without a sync a user is offline, in milliseconds.
const OFFLINE_AFTER: i64 = 60 * 1_000;

/// What others see of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Online, idle or offline.
    pub state: PresenceState,
    /// What the user says about it.
    pub status_msg: Option<String>,
    /// How long ago the user did something.
    pub last_active_ago: Option<Duration>,
    /// Whether the user is doing something, for users that are online.
    pub currently_active: Option<bool>,
}

impl Status {
    /// Of a user that was never seen.
    pub(super) fn offline() -> Self {
        Self {
            state: PresenceState::Offline,
            status_msg: None,
            last_active_ago: None,
            currently_active: None,
        }
    }
}

/// What is known of a user.
#[derive(Debug)]
pub(super) struct Entry {
    /// What a client chose last.
    chosen: PresenceState,
    /// The status message.
    pub status: Option<String>,
    /// When the user last did something.
    pub active: i64,
    /// When the user was last connected.
    pub seen: i64,
    /// How many syncs go on.
    pub syncs: u32,
    /// What others saw last: the state, whether it is currently active, the message.
    seen_by_others: (PresenceState, bool, Option<String>),
    /// The count when others last saw a difference.
    pub changed: u64,
    /// When what others see changes by itself.
    pub deadline: Option<i64>,
}

impl Entry {
    /// Of a user that was never seen.
    pub(super) fn new(now: i64) -> Self {
        Self {
            chosen: PresenceState::Offline,
            status: None,
            active: now,
            seen: now,
            syncs: 0,
            seen_by_others: (PresenceState::Offline, false, None),
            changed: 0,
            deadline: None,
        }
    }

    /// A client chose a state. To come online is to do something.
    pub(super) fn choose(&mut self, state: PresenceState, now: i64) {
        let comes = self.state_at(now) == PresenceState::Offline || self.chosen != state;
        if state == PresenceState::Online && comes {
            self.active = now;
        }
        self.chosen = state;
        self.seen = now;
    }

    /// The user did something.
    pub(super) fn note_active(&mut self, now: i64) {
        if self.state_at(now) != PresenceState::Offline {
            self.choose(PresenceState::Online, now);
        }
        self.active = now;
    }

    /// What others see at `now`.
    pub(super) fn status_at(&self, now: i64) -> Status {
        let state = self.state_at(now);
        let ago = u64::try_from(now - self.active).unwrap_or_default();
        Status {
            currently_active: (state == PresenceState::Online).then(|| self.is_active_at(now)),
            state,
            status_msg: self.status.clone(),
            last_active_ago: Some(Duration::from_millis(ago)),
        }
    }

    /// Looks at the user as others do; says whether they see a difference.
    pub(super) fn look(&mut self, now: i64) -> bool {
        let state = self.state_at(now);
        let active = state == PresenceState::Online && self.is_active_at(now);
        let (old_state, old_active, old_status) = &self.seen_by_others;
        if (old_state, *old_active, old_status) == (&state, active, &self.status) {
            return false;
        }
        self.seen_by_others = (state, active, self.status.clone());
        true
    }

    /// When what others see changes by itself.
    pub(super) fn next_deadline(&self, now: i64) -> Option<i64> {
        let online = self.state_at(now) == PresenceState::Online;
        let offline = self.state_at(now) == PresenceState::Offline;
        [
            online.then_some(self.active + INACTIVE_AFTER),
            online.then_some(self.active + IDLE_AFTER),
            (!offline && self.syncs == 0).then_some(self.seen + OFFLINE_AFTER),
        ]
        .into_iter()
        .flatten()
        .filter(|deadline| *deadline > now)
        .min()
    }

    fn state_at(&self, now: i64) -> PresenceState {
        if self.syncs == 0 && now - self.seen >= OFFLINE_AFTER {
            return PresenceState::Offline;
        }
        if self.chosen == PresenceState::Online && now - self.active >= IDLE_AFTER {
            return PresenceState::Unavailable;
        }
        self.chosen.clone()
    }

    fn is_active_at(&self, now: i64) -> bool {
        now - self.active < INACTIVE_AFTER
    }
}
