//! Looks at the log for what nobody announced: gaps, processes that died before they told, Redis away.

use std::{sync::Arc, time::Duration};

use hearth_core::Position;
use hearth_store::log;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    announcement::{Announcement, Origin},
    journal::{Journal, PAGE},
};

/// How often the head is looked at unasked.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long an announcement may be on its way before the log is read instead.
const GRACE: Duration = Duration::from_millis(25);

/// Looks at the log until `stop`.
pub(crate) async fn run(journal: Journal, stop: CancellationToken) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_away = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = journal.0.head.wants_look(GRACE) => {}
            _ = ticks.tick() => {}
        }
        match look(&journal).await {
            Ok(()) => is_away = false,
            // Told once, since the database may be away for long; and not asked more often than unasked.
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the log cannot be read"
                    );
                }
                ticks.reset();
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = ticks.tick() => {}
                }
            }
        }
    }
}

async fn look(journal: &Journal) -> sqlx::Result<()> {
    let mut conn = journal.0.pool.acquire().await?;
    let cluster = log::find_cluster(&mut conn).await?;
    let found = log::find_head(&mut conn).await?;
    drop(conn);
    let found = found.ok_or(sqlx::Error::RowNotFound)?;
    let mut position = found.head.position;
    if found.cluster != cluster || !journal.is_of(found.head.epoch, &cluster) {
        position = journal.renew().await?.position;
    }
    let mut head = journal.0.head.watch();
    let announced = head.wait_for(|head| *head >= position);
    if timeout(GRACE, announced).await.is_ok() {
        return Ok(());
    }
    read_to(journal, position).await
}

/// Reads the log from the head on and announces it.
async fn read_to(journal: &Journal, to: Position) -> sqlx::Result<()> {
    loop {
        let from = journal.head();
        if from >= to {
            return Ok(());
        }
        let page = journal.page(from, to).await?;
        journal.0.head.announce(Arc::new(Announcement {
            previous: from,
            head: page.next.unwrap_or(to),
            entries: page.entries.into(),
            origin: Origin::Remote,
        }));
    }
}

/// A part of the log.
#[derive(Debug)]
pub(crate) struct Page {
    pub entries: Vec<crate::Entry>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<Position>,
}

impl Page {
    pub(crate) fn of(rows: Vec<log::Row>) -> Self {
        let is_full = i64::try_from(rows.len()).is_ok_and(|count| count >= PAGE);
        let next = rows.last().filter(|_| is_full).map(|row| row.position);
        let entries = rows.into_iter().filter_map(|row| crate::Entry::of(&row));
        Self {
            entries: entries.collect(),
            next,
        }
    }
}
