//! Sending events: build on the head, hand over to the journal, go on with the next while that one is committed.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hearth_core::UserNid;
use hearth_journal::{WriteError, Written};
use hearth_store::{
    room as room_table,
    write::{Placement, TransactionRow, Write},
};
use moka::future::Cache;
use ruma::{OwnedEventId, UserId};

use crate::{
    Rooms,
    build::{Appended, Builder, Draft},
    error::SendError,
    event::RoomEvent,
    room::{Current, Extremity, Head, Room},
    snapshot::Snapshot,
};

/// How often a lost race is run again; from the third loss on under the room's row lock.
const ATTEMPTS: u32 = 12;

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
        let sending = self.send_all(room, vec![(sender, draft)], Some(transaction));
        match Box::pin(self.0.transactions.0.try_get_with(key, sending)).await {
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
        let transaction = transaction.map(|transaction| TransactionRow {
            user: transaction.user,
            device_id: transaction.device_id,
            action: transaction.action,
            txn_id: transaction.txn_id,
            created_ts: self.clock().millis(),
        });
        for attempt in 1..=ATTEMPTS {
            let outcome = if attempt < 3 {
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
        let foreign = room.foreign_changes.load(Ordering::Acquire);
        let head = match slot.head.take() {
            Some(head) if slot.foreign_changes == foreign => head,
            _ => {
                slot.foreign_changes = foreign;
                self.read_head(room).await?
            }
        };
        let mut builder = Builder::new(self, room, head.clone());
        let last = match append_all(&mut builder, drafts).await {
            Ok(last) => last,
            Err(error) => {
                self.abandon(&builder.made).await;
                slot.head = Some(head);
                return Err(error);
            }
        };
        let built = Built::of(builder, transaction);
        let Some(write) = built.write else {
            slot.head = Some(head);
            return Ok(Some(last));
        };
        slot.head = Some(built.head);
        let generation = slot.generation;
        if let (Some(event), Some(current)) = (built.made.last(), &built.current) {
            room.expect(event.nid, current.clone());
        }
        let pending = self.journal().submit(write);
        drop(slot);

        let outcome = pending.await;
        if outcome.is_err() {
            let mut slot = room.head.lock().await;
            if slot.generation == generation {
                slot.generation += 1;
                slot.head = None;
            }
        }
        let committed = Committed {
            made: built.made,
            current: built.current,
        };
        self.settle(room, outcome, committed, last).await
    }

    /// Builds while the room's row is locked, so that nobody else can win.
    async fn send_locked(
        &self,
        room: &Room,
        drafts: Drafts<'_>,
        transaction: Option<TransactionRow>,
    ) -> Result<Option<OwnedEventId>, SendError> {
        let mut slot = room.head.lock().await;
        slot.generation += 1;
        slot.head = None;
        let mut tx = self.pool().begin().await?;
        let row = room_table::lock(&mut tx, room.nid)
            .await?
            .ok_or(SendError::UnknownRoom)?;
        let head = self.head_of(row).await?;
        let mut builder = Builder::new(self, room, head);
        let last = match append_all(&mut builder, drafts).await {
            Ok(last) => last,
            Err(error) => {
                self.abandon(&builder.made).await;
                return Err(error);
            }
        };
        let built = Built::of(builder, transaction);
        let Some(write) = built.write else {
            return Ok(Some(last));
        };
        let outcome = self.journal().commit(tx, write).await;
        drop(slot);
        let committed = Committed {
            made: built.made,
            current: built.current,
        };
        self.settle(room, outcome, committed, last).await
    }

    /// Takes note of what became of a write.
    async fn settle(
        &self,
        room: &Room,
        outcome: Result<Written, WriteError>,
        committed: Committed,
        last: OwnedEventId,
    ) -> Result<Option<OwnedEventId>, SendError> {
        if let Some(event) = committed.made.last() {
            room.expected(event.nid);
        }
        let error = match outcome {
            Ok(written) => {
                for (event, order) in committed.made.iter().zip(written.first.0..) {
                    event.place(order);
                    self.apply_redaction(room, event).await?;
                }
                if let Some(current) = committed.current {
                    self.snapshots()
                        .remember(Arc::clone(&current.snapshot))
                        .await;
                    room.set_current(current);
                }
                return Ok(Some(last));
            }
            Err(error) => error,
        };
        self.abandon(&committed.made).await;
        match error {
            WriteError::Lost => Ok(None),
            WriteError::Duplicate(first) => {
                let event = self.events().get(first).await?;
                Ok(Some(event.pdu.event_id.clone()))
            }
            WriteError::Overloaded => Err(SendError::Overloaded),
            WriteError::Storage(error) => Err(SendError::Storage(error)),
        }
    }

    /// Forgets events that were built and not committed.
    async fn abandon(&self, made: &[Arc<RoomEvent>]) {
        for event in made {
            self.events().forget(event.nid).await;
        }
    }

    async fn read_head(&self, room: &Room) -> Result<Head, SendError> {
        let mut conn = self.pool().acquire().await?;
        let row = room_table::find(&mut conn, room.nid).await?;
        drop(conn);
        self.head_of(row.ok_or(SendError::UnknownRoom)?).await
    }

    pub(crate) async fn head_of(&self, row: room_table::Stored) -> Result<Head, SendError> {
        let snapshot = match row.snapshot {
            Some(nid) => self.snapshots().get(nid).await?,
            None => Arc::new(Snapshot::empty()),
        };
        let events = self.events().map(row.extremities).await?;
        let extremities = events.into_values().map(|event| Extremity {
            nid: event.nid,
            event_id: event.pdu.event_id.clone(),
            depth: event.pdu.depth,
        });
        Ok(Head {
            revision: row.revision,
            snapshot,
            extremities: extremities.collect(),
        })
    }
}

async fn append_all(
    builder: &mut Builder<'_>,
    drafts: Drafts<'_>,
) -> Result<OwnedEventId, SendError> {
    let mut last = None;
    for (sender, draft) in drafts {
        last = Some(match builder.append(sender, draft).await? {
            Appended::New(event) | Appended::Unchanged(event) => event.pdu.event_id.clone(),
        });
    }
    last.ok_or_else(|| SendError::BadEvent("there is nothing to send".into()))
}

/// What a builder made, taken apart.
struct Built {
    head: Head,
    made: Vec<Arc<RoomEvent>>,
    current: Option<Current>,
    /// `None` when nothing had to be built.
    write: Option<Write>,
}

/// What is true once the write is committed.
struct Committed {
    made: Vec<Arc<RoomEvent>>,
    current: Option<Current>,
}

impl Built {
    fn of(builder: Builder<'_>, transaction: Option<TransactionRow>) -> Self {
        let Builder {
            head,
            mut write,
            made,
            ..
        } = builder;
        debug_assert!(
            write
                .events
                .iter()
                .all(|event| event.placement == Placement::Live)
        );
        let current = write.new_state.map(|_| Current {
            revision: head.revision,
            snapshot: Arc::clone(&head.snapshot),
        });
        write.transaction = transaction;
        let write = (!made.is_empty()).then(|| Write {
            room: Some(write),
            ..Write::default()
        });
        Self {
            head,
            made,
            current,
            write,
        }
    }
}
