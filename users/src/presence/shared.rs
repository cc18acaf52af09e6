//! What processes tell each other of users.

use hearth_core::UserNid;

use super::{Presence, Switch, entry::Entry};
use crate::ephemeral::{
    Change,
    sharing::{Fact, PresenceFact},
};

impl Presence {
    /// Tells the other processes of a user, if they would see a difference or have not heard of it for a while.
    pub(super) fn is_told(&self, entry: &mut Entry, user: UserNid, now: i64) -> bool {
        if !self.0.ephemeral.is_shared() || !(entry.differs(now) || entry.is_due(now)) {
            return false;
        }
        let told = self.0.ephemeral.tell(Fact::Presence(entry.fact(user, now)));
        if told {
            entry.told = now;
        }
        told
    }

    /// Reminds the other processes of users who go on syncing here.
    pub(crate) fn remind(&self) {
        let now = self.0.clock.millis();
        let mut state = self.lock();
        let users = state.users.iter_mut();
        for (user, entry) in users.filter(|(_, entry)| entry.syncs > 0 && entry.is_due(now)) {
            entry.seen = now;
            if self
                .0
                .ephemeral
                .tell(Fact::Presence(entry.fact(*user, now)))
            {
                entry.told = now;
            }
        }
    }

    /// Counts what another process knows of a user, or what this one told.
    pub(crate) fn learn(&self, fact: &PresenceFact) {
        if self.0.switch == Switch::Off {
            return;
        }
        let (user, now) = (fact.user, self.0.clock.millis());
        let mut state = self.lock();
        let mut entry = state
            .users
            .remove(&user)
            .unwrap_or_else(|| Entry::unknown(now));
        entry.merge(fact, now);
        if let Some(deadline) = entry.deadline.take() {
            state.deadlines.remove(&(deadline, user));
        }
        let changed = self.settle(&mut state, user, entry, now);
        drop(state);
        if changed {
            self.0.ephemeral.wake(Change::Presence(user));
        }
        self.0.sooner.notify_one();
    }

    /// What is known of all users, for the other processes.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        let now = self.0.clock.millis();
        let state = self.lock();
        let users = state.users.iter();
        let facts = users.map(|(user, entry)| Fact::Presence(entry.fact(*user, now)));
        facts.collect()
    }
}
