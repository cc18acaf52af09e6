//! Rows that are good for some time only.

use std::time::Duration;

use hearth_store::{device_transaction, login_token, openid_token, report, uia_session};
use sqlx::PgConnection;

use super::{Pruner, before};

/// How long devices' transactions are remembered that made no event.
const TRANSACTIONS: Duration = Duration::from_hours(24);

/// How long reports are kept.
const REPORTS: Duration = Duration::from_hours(365 * 24);

/// A table whose rows go when they are old enough.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expiring {
    DeviceTransactions,
    UiaSessions,
    LoginTokens,
    OpenidTokens,
    Reports,
}

impl Expiring {
    pub(super) const ALL: [Self; 5] = [
        Self::DeviceTransactions,
        Self::UiaSessions,
        Self::LoginTokens,
        Self::OpenidTokens,
        Self::Reports,
    ];

    /// Deletes the oldest `limit` rows that are old enough at `now`. Gives how many.
    async fn delete(self, conn: &mut PgConnection, now: i64, limit: i64) -> sqlx::Result<u64> {
        match self {
            Self::DeviceTransactions => {
                device_transaction::delete_before(conn, before(now, TRANSACTIONS), limit).await
            }
            Self::UiaSessions => uia_session::delete_expired(conn, now, limit).await,
            Self::LoginTokens => login_token::delete_expired(conn, now, limit).await,
            Self::OpenidTokens => openid_token::delete_expired(conn, now, limit).await,
            Self::Reports => report::delete_before(conn, before(now, REPORTS), limit).await,
        }
    }
}

impl Pruner {
    /// Deletes what is old enough, a chunk at a time; what is left after many chunks waits for the next round.
    pub(super) async fn prune_expired(&self, table: Expiring, now: i64) -> sqlx::Result<()> {
        let limit = self.bounds.chunk;
        let full = u64::try_from(limit).unwrap_or(u64::MAX);
        for _ in 0..self.bounds.chunks {
            let mut conn = self.journal.0.pool.acquire().await?;
            if table.delete(&mut conn, now, limit).await? < full {
                break;
            }
        }
        Ok(())
    }
}
