//! How far the log is known without holes.

use std::{
    collections::{BTreeMap, btree_map::Entry as MapEntry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hearth_core::Position;
use tokio::{
    sync::{Notify, broadcast, watch},
    time::sleep,
};

use crate::announcement::Announcement;

/// How many announcements a reader may lag behind.
const BACKLOG: usize = 4_096;

/// How many announcements wait for the ones before them; the log is read instead of keeping more.
const EARLY: usize = 10_000;

/// The head, and announcements that wait for the ones before them.
///
/// Commits return out of order, and announcements of other processes come when they come. The head moves only over
/// ranges without holes, and readers hear of commits in the order of the log.
#[derive(Debug)]
pub(crate) struct Head {
    state: Mutex<State>,
    position: watch::Sender<Position>,
    announcements: broadcast::Sender<Arc<Announcement>>,
    gap: Notify,
    hint: Notify,
}

#[derive(Debug)]
struct State {
    head: Position,
    /// By the position that they start from.
    early: BTreeMap<Position, Arc<Announcement>>,
}

impl Head {
    pub(crate) fn new(head: Position) -> Self {
        show(head);
        Self {
            state: Mutex::new(State {
                head,
                early: BTreeMap::new(),
            }),
            position: watch::Sender::new(head),
            announcements: broadcast::Sender::new(BACKLOG),
            gap: Notify::new(),
            hint: Notify::new(),
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

    /// Takes note of a commit; tells readers of it once everything before it is known.
    pub(crate) fn announce(&self, announcement: Arc<Announcement>) {
        let mut state = self.state();
        if announcement.head <= state.head {
            return;
        }
        match state.early.entry(announcement.previous) {
            MapEntry::Vacant(free) => {
                free.insert(announcement);
            }
            // Heard before, unless this one goes further.
            MapEntry::Occupied(mut known) if known.get().head < announcement.head => {
                known.insert(announcement);
            }
            MapEntry::Occupied(_) => {}
        }
        self.advance(&mut state);
        if state.early.len() > EARLY {
            state.early.clear();
            self.look();
        } else if !state.early.is_empty() {
            self.gap.notify_one();
        }
    }

    /// Has the log looked at: there may be something that nobody announces.
    pub(crate) fn look(&self) {
        self.hint.notify_one();
    }

    /// Resolves when the log should be looked at: on a hint, or when announcements wait for one that does not come
    /// for `grace`.
    pub(crate) async fn wants_look(&self, grace: Duration) {
        let gap = async {
            loop {
                self.gap.notified().await;
                sleep(grace).await;
                if !self.state().early.is_empty() {
                    return;
                }
            }
        };
        tokio::select! {
            () = self.hint.notified() => {}
            () = gap => {}
        }
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
            show(state.head);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows the head to who watches the server.
fn show(head: Position) {
    // A gauge is a float; positions are exact up to 2^53.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    metrics::gauge!("hearth_stream_position").set(head.0 as f64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announcement::{Entry, Kind, Origin};

    fn announcement(previous: i64, head: i64) -> Arc<Announcement> {
        let entries = (previous + 1..=head).map(|position| Entry {
            position: Position(position),
            kind: Kind::DeviceList,
            room: None,
            user: None,
            event: None,
        });
        Arc::new(Announcement {
            previous: Position(previous),
            head: Position(head),
            entries: entries.collect(),
            origin: Origin::Remote,
        })
    }

    /// The positions that readers heard of so far, which must follow each other.
    fn heard(announcements: &mut broadcast::Receiver<Arc<Announcement>>) -> Vec<i64> {
        let mut positions = Vec::new();
        while let Ok(next) = announcements.try_recv() {
            let first = next.entries.first().expect("no announcement is empty");
            assert_eq!(first.position.0, next.previous.0 + 1);
            positions.extend(next.entries.iter().map(|entry| entry.position.0));
            assert_eq!(positions.last(), Some(&next.head.0));
        }
        positions
    }

    #[test]
    fn announcements_out_of_order_are_told_in_order_and_none_is_skipped() {
        let head = Head::new(Position(0));
        let mut reader = head.subscribe();

        for (previous, to) in [(7, 9), (2, 4), (4, 7), (12, 13)] {
            head.announce(announcement(previous, to));
            assert_eq!(head.position(), Position(0));
        }
        assert!(heard(&mut reader).is_empty());
        head.announce(announcement(0, 2));

        assert_eq!(head.position(), Position(9));
        assert_eq!(heard(&mut reader), (1..=9).collect::<Vec<_>>());
        head.announce(announcement(9, 12));
        assert_eq!(heard(&mut reader), [10, 11, 12, 13]);
    }

    #[test]
    fn what_is_heard_twice_is_told_once() {
        let head = Head::new(Position(0));
        let mut reader = head.subscribe();

        for (previous, to) in [
            (2, 4),
            (2, 4),
            (2, 6),
            (0, 2),
            (0, 2),
            (1, 5),
            (2, 4),
            (3, 8),
        ] {
            head.announce(announcement(previous, to));
        }

        assert_eq!(heard(&mut reader), (1..=8).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_gap_has_the_log_looked_at() {
        let head = Head::new(Position(0));

        head.announce(announcement(5, 6));

        head.wants_look(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_that_closes_soon_does_not() {
        let head = Head::new(Position(0));
        head.announce(announcement(5, 6));
        let wants_look = head.wants_look(Duration::from_secs(1));
        let closed = async {
            sleep(Duration::from_millis(10)).await;
            head.announce(announcement(0, 5));
            std::future::pending::<()>().await;
        };

        let looked = tokio::time::timeout(Duration::from_hours(1), async {
            tokio::select! {
                () = wants_look => {}
                () = closed => {}
            }
        });

        assert!(looked.await.is_err());
    }

    #[tokio::test]
    async fn endless_announcements_after_a_gap_are_not_kept() {
        let head = Head::new(Position(0));

        for previous in 1..=30_000 {
            head.announce(announcement(previous, previous + 1));
        }

        assert!(head.state().early.len() <= EARLY);
        head.wants_look(Duration::from_hours(1)).await;
    }
}
