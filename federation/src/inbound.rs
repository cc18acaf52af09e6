//! Transactions of other servers (Server-Server API, "Transactions").
//!
//! A transaction is worked through once. Those of one server come one after the other; its events come room by room, in
//! their order, and one that is bad changes nothing for the others.

mod edus;
mod events;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hearth_core::Clock;
use hearth_rooms::{Rooms, SendError};
use hearth_store::{inbound, intern::Interner};
use hearth_users::{Presence, Receipts, ToDevice, Typing};
use moka::future::Cache;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, OwnedTransactionId, ServerName, TransactionId,
    api::federation::transactions::edu::Edu, serde::Raw,
};
use serde_json::value::RawValue;
use sqlx::PgPool;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio_util::task::TaskTracker;

use self::events::Patience;

/// How many events and other messages a transaction may have.
const MOST_PDUS: usize = 50;
const MOST_EDUS: usize = 100;

/// The longest id of a transaction, in bytes.
const LONGEST_ID: usize = 255;

/// How many transactions of one server may be here at a time; one is worked on, the others wait.
const MOST_OF_ONE: usize = 8;

/// How often a transaction is worked on whose events refer to what cannot be fetched in time.
const ATTEMPTS: u32 = 3;

/// How many transactions, those with events room by room, are worked on at once.
const AT_ONCE: usize = 32;

/// How many servers and rooms are remembered that are worked on, and how long after the last time.
const REMEMBERED: u64 = 20_000;
const REMEMBERED_TIME: Duration = Duration::from_mins(30);

/// What became of the events of a transaction: nothing to say, or why one was not taken.
pub type Outcomes = BTreeMap<OwnedEventId, Result<(), String>>;

/// A transaction as it came.
#[derive(Debug)]
pub struct Transaction {
    /// Who sent it.
    pub origin: OwnedServerName,
    /// Its id.
    pub txn_id: OwnedTransactionId,
    /// Events.
    pub pdus: Vec<Box<RawValue>>,
    /// What is no event.
    pub edus: Vec<Raw<Edu>>,
}

/// Why a transaction is not worked through.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// There is too much in it.
    #[error("a transaction has at most {MOST_PDUS} PDUs and {MOST_EDUS} EDUs")]
    TooLarge,
    /// Its id is too long.
    #[error("the id of a transaction has at most {LONGEST_ID} bytes")]
    LongId,
    /// The server sends more than can be worked through.
    #[error("too many transactions at once")]
    TooMany,
    /// The server stops.
    #[error("the server stops")]
    Stopped,
    /// An event could not be written just now.
    #[error("an event could not be written")]
    Busy(#[source] SendError),
    /// What an event refers to could not be fetched in time.
    #[error("events that are referred to could not be fetched in time")]
    TookTooLong,
    /// The database failed.
    #[error("a transaction could not be worked through")]
    Storage(#[from] sqlx::Error),
}

/// Takes transactions in.
#[derive(Clone, Debug)]
pub struct Inbound(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    origins: Cache<OwnedServerName, Arc<Origin>>,
    rooms: Cache<OwnedRoomId, Arc<Mutex<()>>>,
    at_once: Semaphore,
}

/// A server whose transactions are worked on.
#[derive(Debug, Default)]
struct Origin {
    turn: Mutex<Unfinished>,
    here: AtomicUsize,
}

/// The last transaction of a server if the time was too short for it, and how often that was so.
#[derive(Debug, Default)]
struct Unfinished(Option<(OwnedTransactionId, u32)>);

impl Unfinished {
    /// What to do with a transaction when the time is too short for it again.
    fn patience(&self, txn_id: &TransactionId) -> Patience {
        match &self.0 {
            Some((unfinished, times)) if unfinished == txn_id && times + 1 >= ATTEMPTS => {
                Patience::Over
            }
            Some(_) | None => Patience::Left,
        }
    }

    /// Takes note of what became of a transaction.
    fn note<T>(&mut self, txn_id: OwnedTransactionId, outcome: &Result<T, TransactionError>) {
        self.0 = match (outcome, self.0.take()) {
            (Err(TransactionError::TookTooLong), Some((unfinished, times)))
                if unfinished == txn_id =>
            {
                Some((txn_id, times + 1))
            }
            (Err(TransactionError::TookTooLong), _) => Some((txn_id, 1)),
            (_, unfinished) => unfinished.filter(|(id, _)| *id != txn_id),
        };
    }
}

/// What [`Inbound`] is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The database.
    pub pool: PgPool,
    /// The time.
    pub clock: Clock,
    /// Takes events in.
    pub rooms: Rooms,
    /// The numbers of users.
    pub interner: Interner,
    /// Who types.
    pub typing: Typing,
    /// Who is there.
    pub presence: Presence,
    /// Receipts.
    pub receipts: Receipts,
    /// Messages to devices.
    pub to_device: ToDevice,
    /// Where work is started.
    pub tasks: TaskTracker,
}

/// Counts a transaction as long as it is here.
struct Here(Arc<Origin>);

impl Drop for Here {
    fn drop(&mut self) {
        self.0.here.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inbound {
    /// Makes the service.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            origins: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_idle(REMEMBERED_TIME)
                .build(),
            rooms: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_idle(REMEMBERED_TIME)
                .build(),
            at_once: Semaphore::new(AT_ONCE),
        }))
    }

    /// Works a transaction through, unless it was before; returns what became of its events.
    ///
    /// It goes on when the other server does not wait, which then finds the answer when it repeats the transaction.
    ///
    /// # Errors
    ///
    /// See [`TransactionError`].
    pub async fn take(&self, transaction: Transaction) -> Result<Outcomes, TransactionError> {
        if transaction.txn_id.as_str().len() > LONGEST_ID {
            return Err(TransactionError::LongId);
        }
        if transaction.pdus.len() > MOST_PDUS || transaction.edus.len() > MOST_EDUS {
            return Err(TransactionError::TooLarge);
        }
        let origins = &self.0.origins;
        let origin = origins
            .get_with_by_ref(&transaction.origin, async { Arc::default() })
            .await;
        let count = origin.here.fetch_add(1, Ordering::Relaxed);
        let here = Here(Arc::clone(&origin));
        if count >= MOST_OF_ONE {
            return Err(TransactionError::TooMany);
        }
        let inbound = self.clone();
        let working = self.0.parts.tasks.spawn(async move {
            let _here = here;
            let mut unfinished = origin.turn.lock().await;
            let txn_id = transaction.txn_id.clone();
            let patience = unfinished.patience(&txn_id);
            let outcome = inbound.work_through(transaction, patience).await;
            unfinished.note(txn_id, &outcome);
            outcome
        });
        working.await.unwrap_or(Err(TransactionError::Stopped))
    }

    async fn work_through(
        &self,
        transaction: Transaction,
        patience: Patience,
    ) -> Result<Outcomes, TransactionError> {
        let Transaction {
            origin,
            txn_id,
            pdus,
            edus,
        } = transaction;
        let mut conn = self.0.parts.pool.acquire().await?;
        let answered = inbound::find_answer(&mut conn, &origin, &txn_id).await?;
        drop(conn);
        if let Some(answer) = answered {
            return read(&answer);
        }
        let (outcomes, ()) = tokio::join!(self.take_pdus(&origin, pdus, patience), async {
            let _permit = self.work_permit().await;
            self.take_edus(&origin, &edus).await;
        });
        let outcomes = outcomes?;
        let now = self.0.parts.clock.millis();
        let answer = written(&outcomes);
        let mut conn = self.0.parts.pool.acquire().await?;
        inbound::insert_answer(&mut conn, &origin, &txn_id, &answer, now).await?;
        Ok(outcomes)
    }

    /// Waits until there is room for more work. Not to be held while waiting for others.
    async fn work_permit(&self) -> Result<SemaphorePermit<'_>, TransactionError> {
        let permit = self.0.at_once.acquire().await;
        permit.map_err(|_| TransactionError::Stopped)
    }

    /// Whether a server may take part in a room that we are in.
    async fn may_take_part(
        &self,
        room: &hearth_rooms::Room,
        server: &ServerName,
    ) -> sqlx::Result<bool> {
        self.0.parts.rooms.server_allowed(room, server).await
    }
}

/// The outcomes as they are stored: the text of an error, or nothing.
fn written(outcomes: &Outcomes) -> String {
    let texts: BTreeMap<&OwnedEventId, Option<&String>> = outcomes
        .iter()
        .map(|(event_id, outcome)| (event_id, outcome.as_ref().err()))
        .collect();
    serde_json::to_string(&texts).expect("ids and texts serialize")
}

fn read(answer: &str) -> Result<Outcomes, TransactionError> {
    let texts: BTreeMap<OwnedEventId, Option<String>> =
        serde_json::from_str(answer).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(texts
        .into_iter()
        .map(|(event_id, error)| (event_id, error.map_or(Ok(()), Err)))
        .collect())
}

#[cfg(test)]
mod tests {
    use ruma::owned_event_id;

    use super::*;

    #[test]
    fn a_transaction_for_which_the_time_is_too_short_comes_again_a_few_times() {
        let one = OwnedTransactionId::from("one");
        let other = OwnedTransactionId::from("other");
        let short = || Err::<(), _>(TransactionError::TookTooLong);
        let mut unfinished = Unfinished::default();

        for _ in 1..ATTEMPTS {
            assert_eq!(unfinished.patience(&one), Patience::Left);
            unfinished.note(one.clone(), &short());
        }
        assert_eq!(unfinished.patience(&one), Patience::Over);
        assert_eq!(unfinished.patience(&other), Patience::Left);

        unfinished.note(one.clone(), &Ok(()));
        assert_eq!(unfinished.patience(&one), Patience::Left);
    }

    #[test]
    fn an_answer_survives_the_table() {
        let outcomes = Outcomes::from([
            (owned_event_id!("$good"), Ok(())),
            (owned_event_id!("$bad"), Err("no".to_owned())),
        ]);

        assert_eq!(read(&written(&outcomes)).unwrap(), outcomes);
    }
}
