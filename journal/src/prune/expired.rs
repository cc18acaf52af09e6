//! Rows that are good for some time only.

use std::time::Duration;

use hearth_store::{
    device_transaction, inbound, login_token, openid_token, outbox, report, server_key, uia_session,
};
use sqlx::PgConnection;

use super::{Pruner, before};

/// How long devices' transactions are remembered that made no event.
const TRANSACTIONS: Duration = Duration::from_hours(24);

/// How long reports are kept.
const REPORTS: Duration = Duration::from_hours(365 * 24);

/// How long keys are kept of servers that do not answer any more, and what others said about theirs.
const SERVER_KEYS: Duration = Duration::from_hours(365 * 24);
const SERVER_KEY_ANSWERS: Duration = Duration::from_hours(90 * 24);

/// How long it is remembered what other servers sent.
const INBOUND: Duration = Duration::from_hours(24);

/// How long messages wait for servers that do not take them.
const OUTBOUND_MESSAGES: Duration = Duration::from_hours(30 * 24);

/// A table whose rows go when they are old enough.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expiring {
    DeviceTransactions,
    UiaSessions,
    LoginTokens,
    OpenidTokens,
    Reports,
    ServerKeys,
    ServerKeyAnswers,
    InboundTransactions,
    InboundMessages,
    OutboundMessages,
    OutboundOfGoneServers,
}

impl Expiring {
    pub(super) const ALL: [Self; 11] = [
        Self::DeviceTransactions,
        Self::UiaSessions,
        Self::LoginTokens,
        Self::OpenidTokens,
        Self::Reports,
        Self::ServerKeys,
        Self::ServerKeyAnswers,
        Self::InboundTransactions,
        Self::InboundMessages,
        Self::OutboundMessages,
        Self::OutboundOfGoneServers,
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
            Self::ServerKeys => {
                server_key::delete_before(conn, before(now, SERVER_KEYS), limit).await
            }
            Self::ServerKeyAnswers => {
                let before = before(now, SERVER_KEY_ANSWERS);
                server_key::delete_answers_before(conn, before, limit).await
            }
            Self::InboundTransactions => {
                inbound::delete_answers_before(conn, before(now, INBOUND), limit).await
            }
            Self::InboundMessages => {
                inbound::delete_messages_before(conn, before(now, INBOUND), limit).await
            }
            Self::OutboundMessages => {
                let before = before(now, OUTBOUND_MESSAGES);
                outbox::delete_messages_before(conn, before, limit).await
            }
            Self::OutboundOfGoneServers => outbox::delete_of_gone(conn, now, limit).await,
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

#[cfg(test)]
mod tests;
