//! How far the log is known without holes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hearth_core::Position;
use tokio::sync::{broadcast, watch};

use crate::announcement::Announcement;

/// How many announcements a reader may lag behind.
const BACKLOG: usize = 4_096;

/// The head, and announcements that wait for the ones before them.
///
/// Commits return out of order. The head moves only over ranges without holes, and readers hear of commits in the
/// order of the log.
#[derive(Debug)]
pub(crate) struct Head {
    state: Mutex<State>,
    position: watch::Sender<Position>,
    announcements: broadcast::Sender<Arc<Announcement>>,
}

#[derive(Debug)]
struct State {
    head: Position,
    /// By the position that they start from.
    early: BTreeMap<Position, Arc<Announcement>>,
}

impl Head {
    pub(crate) fn new(head: Position) -> Self {
        Self {
            state: Mutex::new(State {
                head,
                early: BTreeMap::new(),
            }),
            position: watch::Sender::new(head),
            announcements: broadcast::Sender::new(BACKLOG),
        }
    }

    pub(crate) fn position(&self) -> Position {
        *self.position.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Position> {
        self.position.subscribe()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Announcement>> {
        self.announcements.subscribe()
    }

    /// Takes note of a commit; tells readers of it once everything before it is known. Gives whether there is a gap.
    pub(crate) fn announce(&self, announcement: Announcement) -> bool {
        let mut state = self.lock();
        if announcement.head <= state.head {
            return false;
        }
        state
            .early
            .insert(announcement.previous, Arc::new(announcement));
        self.advance(&mut state);
        !state.early.is_empty()
    }

    fn advance(&self, state: &mut State) {
        let before = state.head;
        while let Some(entry) = state.early.first_entry() {
            if *entry.key() > state.head {
                break;
            }
            let announcement = entry.remove();
            if announcement.head <= state.head {
                continue;
            }
            let announcement = announcement.after(state.head);
            state.head = announcement.head;
            // Without readers nobody has to be told.
            let _ = self.announcements.send(announcement);
        }
        if state.head != before {
            self.position.send_replace(state.head);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
