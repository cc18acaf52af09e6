//! Trying pushers again that failed.

use std::time::Duration;

use hearth_store::{push_queue, pusher};

use super::Pushing;

/// How many pushers are tried again at once.
const PAGE: i64 = 500;

/// How long nobody looks when nothing is to be tried again, as far as is known here.
const LONGEST_REST: Duration = Duration::from_mins(10);

/// How long to rest when the database is away.
const TROUBLE: Duration = Duration::from_secs(5);

impl Pushing {
    /// Tries pushers again when their time has come, until the server stops.
    pub(super) async fn try_again(self) {
        let stop = self.0.parts.stop.clone();
        loop {
            let rest = if self.0.lead.is_ours() {
                match self.wake_due().await {
                    Ok(rest) => rest,
                    Err(error) => {
                        tracing::debug!("pushers to try again could not be read: {error}");
                        TROUBLE
                    }
                }
            } else {
                LONGEST_REST
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
                () = self.0.retry.notified() => {}
            }
        }
    }

    /// Begins to tell for those whose time has come; says when the next one's comes.
    async fn wake_due(&self) -> sqlx::Result<Duration> {
        let now = self.0.parts.clock.millis();
        let mut conn = self.0.parts.pool.acquire().await?;
        let due = push_queue::list_due(&mut conn, now, PAGE).await?;
        let next = pusher::find_next_retry(&mut conn, now).await?;
        drop(conn);
        for nid in &due {
            self.0.failing.invalidate(nid);
            self.wake(*nid);
        }
        // When there were too many for once, those that were tried have another time by then.
        let is_full = i64::try_from(due.len()).is_ok_and(|count| count == PAGE);
        let wait = match next {
            _ if is_full => TROUBLE,
            Some(next) => Duration::from_millis((next - now).max(1).unsigned_abs()),
            None => LONGEST_REST,
        };
        Ok(wait.min(LONGEST_REST))
    }
}
