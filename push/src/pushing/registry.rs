//! The pushers that are being worked for right now.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hearth_core::PusherNid;

/// The pushers that are being worked for, and whether there is more to tell than their worker has seen.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<HashMap<PusherNid, bool>>);

impl Registry {
    /// Notes that there is something to tell; says whether a worker has to be started.
    pub(super) fn wake(&self, nid: PusherNid) -> bool {
        self.lock().insert(nid, true).is_none()
    }

    /// The worker begins to look at what there is to tell.
    pub(super) fn begin(&self, nid: PusherNid) {
        self.lock().insert(nid, false);
    }

    /// The worker has told everything that it saw: it goes on when there is more, and ends otherwise.
    pub(super) fn rest(&self, nid: PusherNid) -> bool {
        let mut pushers = self.lock();
        let goes_on = pushers.get(&nid).copied().unwrap_or_default();
        if !goes_on {
            pushers.remove(&nid);
        }
        goes_on
    }

    /// The worker ends, whatever waits.
    pub(super) fn end(&self, nid: PusherNid) {
        self.lock().remove(&nid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PusherNid, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_tells_for_a_pusher() {
        let (registry, pusher) = (Registry::default(), PusherNid(1));

        assert!(registry.wake(pusher));
        registry.begin(pusher);
        assert!(!registry.wake(pusher));
        assert!(registry.rest(pusher));
        registry.begin(pusher);
        assert!(!registry.rest(pusher));
        assert!(registry.wake(pusher));
    }
}
