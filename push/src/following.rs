//! What is in memory and kept in step with the log.

use std::sync::Arc;

use hearth_core::Position;
use hearth_journal::{Announcement, Journal};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// Something in memory that follows the log.
pub(crate) trait Follower: Sync {
    /// Forgets everything: something was missed, or the database lost it.
    fn forget(&self);

    /// Takes in what changed.
    fn take_in(&self, announcement: &Announcement) -> impl Future<Output = ()> + Send;
}

/// How far the log was followed.
#[derive(Debug)]
pub(crate) struct Followed {
    journal: Journal,
    position: watch::Sender<Position>,
}

impl Followed {
    /// Nothing is in memory yet, so that nothing up to now is missing.
    pub(crate) fn new(journal: Journal) -> Self {
        Self {
            position: watch::Sender::new(journal.head()),
            journal,
        }
    }

    /// The head of the log.
    pub(crate) fn head(&self) -> Position {
        self.journal.head()
    }

    /// Waits until the log was followed up to `position`.
    pub(crate) async fn wait_for(&self, position: Position) {
        if *self.position.borrow() >= position {
            return;
        }
        let mut followed = self.position.subscribe();
        // The sender lives as long as this.
        let _ = followed.wait_for(|followed| *followed >= position).await;
    }

    /// Lets `follower` follow until `stop`.
    pub(crate) async fn follow(
        &self,
        follower: &impl Follower,
        mut announcements: broadcast::Receiver<Arc<Announcement>>,
        stop: CancellationToken,
    ) {
        let mut epoch = self.journal.epoch();
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                next = self.journal.epoch_after(epoch) => {
                    epoch = next;
                    let head = self.journal.head();
                    follower.forget();
                    self.position.send_replace(head);
                    continue;
                }
                next = announcements.recv() => next,
            };
            match next {
                Ok(announcement) => {
                    follower.take_in(&announcement).await;
                    self.position.send_replace(announcement.head);
                }
                // What was not missed comes next, and says how far this is.
                Err(broadcast::error::RecvError::Lagged(_)) => follower.forget(),
                Err(broadcast::error::RecvError::Closed) => break,
            }
        }
        // Nobody shall wait for what does not come any more.
        self.position.send_replace(Position(i64::MAX));
    }
}
