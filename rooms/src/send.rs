//! Sending events: build on the head, hand over to the journal, go on with the next while that one is committed.

use std::{sync::Arc, time::Duration};

use hearth_core::UserNid;
use hearth_store::write::TransactionRow;
use moka::future::Cache;
use ruma::{OwnedEventId, UserId};

use crate::{
    Rooms,
    build::Appended,
    changes::Changes,
    commit::{ATTEMPTS, Built, LOSSES, Outcome},
    draft::Draft,
    error::SendError,
    room::{Head, Room},
};

/// How long a client's transaction is remembered in memory; the database remembers longer.
const REMEMBERED: Duration = Duration::from_mins(30);

/// A client's transaction: a repeated one gives the first one's event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// Who sends.
    pub user: UserNid,
    /// From which device; empty for tokens without one.
    pub device_id: String,
    /// `redact` or `send/<type>`.
    pub action: String,
    /// The client's transaction id.
    pub txn_id: String,
}

impl From<Transaction> for TransactionRow {
    fn from(transaction: Transaction) -> Self {
        Self {
            user: transaction.user,
            device_id: transaction.device_id,
            action: transaction.action,
            txn_id: transaction.txn_id,
        }
    }
}

/// The transactions that this process saw lately, the ones under way included.
#[derive(Debug)]
pub(crate) struct Transactions(Cache<(i64, Transaction), OwnedEventId>);

impl Default for Transactions {
    fn default() -> Self {
        let cache = Cache::builder()
            .max_capacity(100_000)
            .time_to_live(REMEMBERED)
            .build();
        Self(cache)
    }
}

impl Transactions {
    /// Forgets everything: events may be lost.
    pub(crate) fn forget_all(&self) {
        self.0.invalidate_all();
    }
}

/// An event that is committed.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its id.
    pub event_id: OwnedEventId,
}

/// Several drafts by the same or different senders, in order.
pub(crate) type Drafts<'a> = Vec<(&'a UserId, Draft)>;

impl Rooms {
    /// Sends an event; returns once it is committed.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub async fn send(
        &self,
        room: &Room,
        sender: &UserId,
        draft: Draft,
    ) -> Result<Sent, SendError> {
        let event_id = self.send_all(room, vec![(sender, draft)], None).await?;
        Ok(Sent { event_id })
    }

    /// Sends an event of a client's transaction; a repeated transaction gives the first one's event.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub async fn send_once(
        &self,
        room: &Room,
        sender: &UserId,
        draft: Draft,
        transaction: Transaction,
    ) -> Result<Sent, SendError> {
        let key = (room.nid.0, transaction.clone());
        // In a box, since the cache hands it on several times.
        let sending = Box::pin(async {
            self.refuse_second_annotation(room, &draft, &transaction)
                .await?;
            self.send_all(room, vec![(sender, draft)], Some(transaction))
                .await
        });
        match self.0.transactions.0.try_get_with(key, sending).await {
            Ok(event_id) => Ok(Sent { event_id }),
            Err(error) => Err(Arc::try_unwrap(error).unwrap_or_else(|error| error.repeated())),
        }
    }

    /// Sends several events as one unit and returns the id of the last.
    pub(crate) async fn send_all(
        &self,
        room: &Room,
        drafts: Drafts<'_>,
        transaction: Option<Transaction>,
    ) -> Result<OwnedEventId, SendError> {
        let transaction = transaction.map(TransactionRow::from);
        match self.own_policy_server(room).await? {
            Some(policy) => {
                let mut last = None;
                for (sender, draft) in drafts {
                    let sent = (sender, draft, transaction.clone());
                    last = Some(Box::pin(self.send_recommended(room, &policy, sent)).await?);
                }
                last.ok_or_else(nothing_to_send)
            }
            None => self.send_unit(room, drafts, transaction).await,
        }
    }

    /// Sends several events in one write.
    pub(crate) async fn send_unit(
        &self,
        room: &Room,
        drafts: Drafts<'_>,
        transaction: Option<TransactionRow>,
    ) -> Result<OwnedEventId, SendError> {
        for attempt in 1..=ATTEMPTS {
            let outcome = if attempt < LOSSES {
                self.try_send(room, drafts.clone(), transaction.clone())
                    .await?
            } else {
                self.send_locked(room, drafts.clone(), transaction.clone())
                    .await?
            };
            if let Some(event_id) = outcome {
                return Ok(event_id);
            }
            tracing::debug!(room_id = %room.id, attempt, "the room changed meanwhile, starting over");
        }
        Err(SendError::Contended)
    }

    /// Builds on the head in memory; `None` when the room changed meanwhile.
    async fn try_send(
        &self,
        room: &Room,
        drafts: Drafts<'_>,
        transaction: Option<TransactionRow>,
    ) -> Result<Option<OwnedEventId>, SendError> {
        let mut slot = room.head.lock().await;
        let head = self.take_head(room, &mut slot).await?;
        let mut changes = Changes::new(self, room, head.clone());
        let last = match append_all(&mut changes, drafts).await {
            Ok(last) => last,
            Err(error) => {
                self.abandon(&changes.made).await;
                let is_stale = self.is_behind(room, &head).await?;
                slot.head = (!is_stale).then_some(head);
                return if is_stale { Ok(None) } else { Err(error) };
            }
        };
        let Some(built) = Built::of(changes, transaction) else {
            let is_stale = self.is_behind(room, &head).await?;
            slot.head = (!is_stale).then_some(head);
            return Ok((!is_stale).then_some(last));
        };
        let outcome = self.submit(room, slot, built).await?;
        self.sent(outcome, last).await
    }

    /// Whether the room's state moved on from a head that is in memory: then another process wrote, and what the head
    /// refuses, or says to be so already, may be wrong. What is written is guarded by the revision.
    async fn is_behind(&self, room: &Room, head: &Head) -> sqlx::Result<bool> {
        let current = self.current(room).await?;
        Ok(current.is_some_and(|current| current.revision > head.revision))
    }

    /// Builds while the room's row is locked, so that nobody else can win.
    async fn send_locked(
        &self,
        room: &Room,
        drafts: Drafts<'_>,
        transaction: Option<TransactionRow>,
    ) -> Result<Option<OwnedEventId>, SendError> {
        let mut slot = room.head.lock().await;
        let (lock, head) = self.lock_head(room, &mut slot).await?;
        let mut changes = Changes::new(self, room, head);
        let last = match append_all(&mut changes, drafts).await {
            Ok(last) => last,
            Err(error) => {
                self.abandon(&changes.made).await;
                return Err(error);
            }
        };
        let Some(built) = Built::of(changes, transaction) else {
            return Ok(Some(last));
        };
        let outcome = self.commit_locked(room, (lock, slot), built).await?;
        self.sent(outcome, last).await
    }

    /// The id of what was sent; `None` when it was lost.
    async fn sent(
        &self,
        outcome: Outcome,
        last: OwnedEventId,
    ) -> Result<Option<OwnedEventId>, SendError> {
        match outcome {
            Outcome::Committed => Ok(Some(last)),
            Outcome::Lost => Ok(None),
            Outcome::Duplicate(first) => {
                let event = self.events().get(first).await?;
                Ok(Some(event.pdu.event_id.clone()))
            }
        }
    }
}

async fn append_all(
    changes: &mut Changes<'_>,
    drafts: Drafts<'_>,
) -> Result<OwnedEventId, SendError> {
    let mut last = None;
    for (sender, draft) in drafts {
        last = Some(match changes.append(sender, draft).await? {
            Appended::New(event) | Appended::Unchanged(event) => event.pdu.event_id.clone(),
        });
    }
    last.ok_or_else(nothing_to_send)
}

fn nothing_to_send() -> SendError {
    SendError::BadEvent("there is nothing to send".into())
}
