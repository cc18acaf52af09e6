//! Work for users that is noted in the database: taken up at once, and by a sweep when that failed or the process died.

use std::{error::Error, time::Duration};

use futures_util::{StreamExt as _, stream};
use hearth_core::UserNid;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// For how many users a sweep works at the same time.
const AT_ONCE: usize = 4;

/// One kind of such work. Doing it twice does no harm.
pub(crate) trait Backlog: Clone + Send + Sync + 'static {
    /// What is said when the work for a user failed.
    const FAILURE: &'static str;

    /// Why it failed.
    type Error: Error + Send + 'static;

    /// The users for whom something was left undone, a bounded number of them.
    fn due(&self) -> impl Future<Output = sqlx::Result<Vec<UserNid>>> + Send;

    /// Works for a user, and strikes the work off.
    fn work(&self, user: UserNid) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Works for a user; waits for it, but not longer than `patience`. After that it goes on in the background.
pub(crate) async fn take_up(
    backlog: &impl Backlog,
    user: UserNid,
    patience: Duration,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) {
    let (backlog, stop) = (backlog.clone(), stop.clone());
    let work = tasks.spawn(async move { work_once(&backlog, user, &stop).await });
    if timeout(patience, work).await.is_err() {
        tracing::debug!(user_nid = %user, "work for a user goes on in the background");
    }
}

/// Takes up what was left undone, now and again until the server stops.
pub(crate) async fn sweep(backlog: &impl Backlog, every: Duration, stop: &CancellationToken) {
    let mut rounds = interval(every);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = rounds.tick() => {}
        }
        match backlog.due().await {
            Ok(users) => {
                let works = users.into_iter().map(|user| work_once(backlog, user, stop));
                stream::iter(works)
                    .buffer_unordered(AT_ONCE)
                    .collect::<()>()
                    .await;
            }
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::warn!(error, "work that was left undone could not be read");
            }
        }
    }
}

async fn work_once<B: Backlog>(backlog: &B, user: UserNid, stop: &CancellationToken) {
    let outcome = tokio::select! {
        () = stop.cancelled() => return,
        outcome = backlog.work(user) => outcome,
    };
    if let Err(error) = outcome {
        let error = &error as &dyn Error;
        tracing::warn!(error, user_nid = %user, "{}", B::FAILURE);
    }
}
