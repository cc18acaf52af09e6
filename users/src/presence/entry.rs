//! What is known of one user, and what others see of it.

use std::time::Duration;

use hearth_core::UserNid;
use ruma::presence::PresenceState;

use crate::ephemeral::sharing::{PresenceFact, REMINDER};

/// After so long without activity a user is idle, in milliseconds.
const IDLE_AFTER: i64 = 5 * 60 * 1_000;

/// After so long without activity a user is not currently active, in milliseconds.
const INACTIVE_AFTER: i64 = 60 * 1_000;

/// After so long without a sync a user is offline, in milliseconds.
const OFFLINE_AFTER: i64 = 60 * 1_000;

/// After so long without news a user of another server is offline, in milliseconds.
const SILENT_AFTER: i64 = 30 * 60 * 1_000;

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
    /// When a client last chose the state or the message.
    pub chosen_ts: i64,
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
    /// When other processes were last told.
    pub told: i64,
    /// For users of other servers: whether it is currently active, as its server says.
    abroad: Option<bool>,
}

impl Entry {
    /// Of a user that was never seen.
    pub(super) fn new(now: i64) -> Self {
        Self {
            chosen: PresenceState::Offline,
            status: None,
            chosen_ts: i64::MIN,
            active: now,
            seen: now,
            syncs: 0,
            seen_by_others: (PresenceState::Offline, false, None),
            changed: 0,
            deadline: None,
            told: i64::MIN,
            abroad: None,
        }
    }

    /// Of a user of whom another process tells.
    pub(super) fn unknown(now: i64) -> Self {
        Self {
            active: i64::MIN,
            seen: i64::MIN,
            ..Self::new(now)
        }
    }

    /// Whether others would see a difference.
    pub(super) fn differs(&self, now: i64) -> bool {
        let state = self.state_at(now);
        let active = state == PresenceState::Online && self.is_active_at(now);
        let (old_state, old_active, old_status) = &self.seen_by_others;
        (old_state, *old_active, old_status) != (&state, active, &self.status)
    }

    /// Whether other processes are to be reminded of the user.
    pub(super) fn is_due(&self, now: i64) -> bool {
        let reminder = i64::try_from(REMINDER.as_millis()).unwrap_or(i64::MAX);
        now.saturating_sub(self.told) >= reminder
    }

    /// What other processes are told.
    pub(super) fn fact(&self, user: UserNid, now: i64) -> PresenceFact {
        PresenceFact {
            user,
            chosen: self.chosen.to_string(),
            status: self.status.clone(),
            chosen_ago: now.saturating_sub(self.chosen_ts),
            active_ago: now.saturating_sub(self.active),
            seen_ago: now.saturating_sub(self.seen),
            abroad: self.abroad,
        }
    }

    /// Takes in what another process knows: the newer choice, the later activity.
    pub(super) fn merge(&mut self, fact: &PresenceFact, now: i64) {
        let chosen_ts = now.saturating_sub(fact.chosen_ago.max(0));
        if chosen_ts > self.chosen_ts {
            self.chosen_ts = chosen_ts;
            self.chosen = PresenceState::from(fact.chosen.as_str());
            self.status.clone_from(&fact.status);
        }
        self.active = self.active.max(now.saturating_sub(fact.active_ago.max(0)));
        let seen = now.saturating_sub(fact.seen_ago.max(0));
        if seen >= self.seen {
            self.seen = seen;
            self.abroad = fact.abroad.or(self.abroad);
        }
    }

    /// The server of the user says how it is.
    pub(super) fn tell(&mut self, status: Status, now: i64) {
        let ago = status.last_active_ago.unwrap_or_default().as_millis();
        self.chosen = status.state;
        self.chosen_ts = now;
        self.status = status.status_msg;
        self.active = now.saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX));
        self.seen = now;
        self.abroad = Some(status.currently_active.unwrap_or(false));
    }

    /// A client chose a state. To come online is to do something.
    pub(super) fn choose(&mut self, state: PresenceState, now: i64) {
        let comes = self.state_at(now) == PresenceState::Offline || self.chosen != state;
        if state == PresenceState::Online && comes {
            self.active = now;
        }
        self.chosen = state;
        self.chosen_ts = now;
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
        let ago = u64::try_from(now.saturating_sub(self.active)).unwrap_or_default();
        Status {
            currently_active: (state == PresenceState::Online).then(|| self.is_active_at(now)),
            state,
            status_msg: self.status.clone(),
            last_active_ago: Some(Duration::from_millis(ago)),
        }
    }

    /// Looks at the user as others do; says whether they see a difference.
    pub(super) fn look(&mut self, now: i64) -> bool {
        if !self.differs(now) {
            return false;
        }
        let state = self.state_at(now);
        let active = state == PresenceState::Online && self.is_active_at(now);
        self.seen_by_others = (state, active, self.status.clone());
        true
    }

    /// When what others see changes by itself.
    pub(super) fn next_deadline(&self, now: i64) -> Option<i64> {
        if self.abroad.is_some() {
            let silent = self.seen.saturating_add(SILENT_AFTER);
            return (self.state_at(now) != PresenceState::Offline).then_some(silent);
        }
        let online = self.state_at(now) == PresenceState::Online;
        let offline = self.state_at(now) == PresenceState::Offline;
        [
            online.then_some(self.active.saturating_add(INACTIVE_AFTER)),
            online.then_some(self.active.saturating_add(IDLE_AFTER)),
            (!offline && self.syncs == 0).then_some(self.seen.saturating_add(OFFLINE_AFTER)),
        ]
        .into_iter()
        .flatten()
        .filter(|deadline| *deadline > now)
        .min()
    }

    fn state_at(&self, now: i64) -> PresenceState {
        if self.abroad.is_some() {
            return match now.saturating_sub(self.seen) < SILENT_AFTER {
                true => self.chosen.clone(),
                false => PresenceState::Offline,
            };
        }
        if self.syncs == 0 && now.saturating_sub(self.seen) >= OFFLINE_AFTER {
            return PresenceState::Offline;
        }
        if self.chosen == PresenceState::Online && now.saturating_sub(self.active) >= IDLE_AFTER {
            return PresenceState::Unavailable;
        }
        self.chosen.clone()
    }

    fn is_active_at(&self, now: i64) -> bool {
        self.abroad
            .unwrap_or(now.saturating_sub(self.active) < INACTIVE_AFTER)
    }
}
