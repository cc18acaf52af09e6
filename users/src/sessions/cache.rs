//! Sessions that a process keeps in memory while it is the only one.

use std::{
    num::NonZeroU64,
    sync::{Arc, Mutex, PoisonError},
};

use hearth_store::Occupancy;
use moka::sync::Cache as Moka;

use super::Session;
use crate::secret::TokenHash;

/// How many sessions are kept.
const CAPACITY: u64 = 50_000;

/// The sessions that are kept, by the hash of their access token.
#[derive(Debug)]
pub(super) struct Cache {
    occupancy: Occupancy,
    /// Each with the time of being alone in which its row was read.
    kept: Moka<TokenHash, (NonZeroU64, Arc<Session>)>,
    /// Counts the calls of [`Cache::forget`], and is held while something is put in or taken out.
    forgotten: Mutex<u64>,
}

/// Proof of when a row was read, so that a row read before a change is not kept after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    forgotten: u64,
    /// `None`: others may change rows, and nothing is kept.
    tenure: Option<NonZeroU64>,
}

impl Cache {
    pub(super) fn new(occupancy: Occupancy) -> Self {
        Self {
            occupancy,
            kept: Moka::new(CAPACITY),
            forgotten: Mutex::default(),
        }
    }

    pub(super) fn get(&self, hash: &TokenHash) -> Option<Arc<Session>> {
        let tenure = self.occupancy.tenure()?;
        let (read_in, session) = self.kept.get(hash)?;
        (read_in == tenure).then_some(session)
    }

    /// To be drawn before a session's row is read.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket {
            tenure: self.occupancy.tenure(),
            forgotten: *self.count(),
        }
    }

    /// Keeps a session, unless something changed since its row was read; returns the one that is kept.
    ///
    /// It may have been kept for another request already, which then waits for the same change.
    pub(super) fn insert(
        &self,
        hash: TokenHash,
        session: Arc<Session>,
        ticket: Ticket,
    ) -> Arc<Session> {
        let Some(tenure) = ticket.tenure else {
            return session;
        };
        let count = self.count();
        if *count != ticket.forgotten {
            return session;
        }
        match self.kept.get(&hash) {
            Some((read_in, kept)) if read_in == tenure => kept,
            Some(_) | None => {
                self.kept.insert(hash, (tenure, Arc::clone(&session)));
                session
            }
        }
    }

    /// Drops sessions and wakes who waits with them, after the change that concerns them is committed.
    pub(super) fn forget(&self, hashes: &[Vec<u8>]) {
        if hashes.is_empty() {
            return;
        }
        let mut count = self.count();
        *count += 1;
        for hash in hashes
            .iter()
            .filter_map(|hash| TokenHash::from_stored(hash))
        {
            if let Some((_, session)) = self.kept.remove(&hash) {
                session.changed.cancel();
            }
        }
    }

    fn count(&self) -> std::sync::MutexGuard<'_, u64> {
        self.forgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use hearth_core::UserNid;
    use ruma::user_id;
    use tokio_util::sync::CancellationToken;

    use super::{super::Standing, *};

    fn session() -> (TokenHash, Arc<Session>) {
        let hash = TokenHash::of("hrt_x");
        let session = Session {
            user_id: user_id!("@a:b.c").to_owned(),
            user: UserNid(1),
            device_id: None,
            admin: false,
            guest: false,
            standing: Standing::Good,
            hash,
            expires_ts: None,
            changed: CancellationToken::new(),
        };
        (hash, Arc::new(session))
    }

    #[test]
    fn a_row_read_before_a_change_is_not_kept_after_it() {
        let cache = Cache::new(Occupancy::alone());
        let (hash, session) = session();

        let ticket = cache.ticket();
        cache.forget(&[hash.as_bytes().to_vec()]);
        cache.insert(hash, session, ticket);

        assert!(cache.get(&hash).is_none());
    }

    #[test]
    fn with_several_processes_nothing_is_kept() {
        let cache = Cache::new(Occupancy::shared());
        let (hash, session) = session();

        cache.insert(hash, session, cache.ticket());

        assert!(cache.get(&hash).is_none());
    }

    #[test]
    fn a_session_is_kept_until_it_is_forgotten() {
        let cache = Cache::new(Occupancy::alone());
        let (hash, session) = session();

        let kept = cache.insert(hash, session, cache.ticket());
        assert!(cache.get(&hash).is_some());
        assert!(!kept.changed.is_cancelled());
        cache.forget(&[hash.as_bytes().to_vec()]);

        assert!(cache.get(&hash).is_none());
        assert!(kept.changed.is_cancelled());
    }
}
