//! From built events to committed ones: the head of a room, and what becomes of a write.

use std::sync::{Arc, atomic::Ordering};

use hearth_core::EventNid;
use hearth_journal::{WriteError, Written};
use hearth_store::{
    room as room_table,
    write::{EventRow, Placement, Source, TransactionRow, Write},
};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::{MutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::{
    Rooms,
    changes::Changes,
    error::SendError,
    event::RoomEvent,
    merge::{After, Key},
    room::{Current, Extremity, Head, HeadSlot, Room},
    snapshot::Snapshot,
};

/// How often a lost race is run again; from the third loss on under the room's row lock.
pub(crate) const ATTEMPTS: u32 = 12;

/// The losses after which the room's row is locked.
pub(crate) const LOSSES: u32 = 3;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is committed.
    Committed,
    /// The room changed meanwhile: nothing was written.
    Lost,
    /// What it was to write is there already, under this number.
    Duplicate(EventNid),
}

/// Changes that are ready to be written.
pub(crate) struct Built {
    head: Head,
    write: Write,
    committed: Committed,
}

/// A transaction that locked a room's row, so that nobody else can win.
pub(crate) struct RowLock {
    tx: Transaction<'static, Postgres>,
    turn: OwnedSemaphorePermit,
}

/// How many such transactions there may be at once: who builds within one needs other connections, too, and nobody
/// would ever get one if all were held so.
#[derive(Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    /// A quarter of the connections.
    pub(crate) fn of(pool: &PgPool) -> Self {
        let connections = usize::try_from(pool.options().get_max_connections());
        let turns = connections.map_or(1, |connections| (connections / 4).max(1));
        Self(Arc::new(Semaphore::new(turns)))
    }

    async fn take(&self) -> OwnedSemaphorePermit {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        turn.expect("never closed")
    }
}

/// What is true once the write is committed.
struct Committed {
    made: Vec<Arc<RoomEvent>>,
    current: Option<Current>,
    merged: Vec<(Vec<Key>, Arc<Snapshot>)>,
    /// Events that were stored before and are otherwise now: they have their redaction, or were outliers.
    outdated: Vec<EventNid>,
}

impl Built {
    /// Takes changes apart; `None` when there are none.
    pub(crate) fn of(changes: Changes<'_>, transaction: Option<TransactionRow>) -> Option<Self> {
        let Changes {
            head,
            mut write,
            made,
            merged,
            ..
        } = changes;
        if made.is_empty() {
            return None;
        }
        let current = write.new_state.map(|_| Current {
            revision: head.revision,
            snapshot: Arc::clone(&head.snapshot),
        });
        let redacted = write.redacted.iter().map(|(target, _)| *target);
        let outliers = write.events.iter();
        let outliers = outliers.filter(|row| row.source == Source::Outlier);
        let outdated = redacted.chain(outliers.map(|row| row.nid)).collect();
        write.transaction = transaction;
        Some(Self {
            head,
            write: Write {
                room: Some(write),
                ..Write::default()
            },
            committed: Committed {
                made,
                current,
                merged,
                outdated,
            },
        })
    }

    fn rows(&self) -> impl Iterator<Item = &EventRow> {
        self.write.room.iter().flat_map(|room| &room.events)
    }

    /// Whether something may be built on it before it is committed: a lost write takes along what was built on its new
    /// numbers, and an outlier keeps its number.
    fn may_be_built_on(&self) -> bool {
        self.rows().all(|row| row.source != Source::Outlier)
    }
}

impl Rooms {
    /// Takes the head out of its slot, or reads it.
    pub(crate) async fn take_head(
        &self,
        room: &Room,
        slot: &mut HeadSlot,
    ) -> Result<Head, SendError> {
        let foreign = room.foreign_changes.load(Ordering::Acquire);
        match slot.head.take() {
            Some(head) if slot.foreign_changes == foreign => Ok(head),
            _ => {
                slot.foreign_changes = foreign;
                self.read_head(room).await
            }
        }
    }

    /// Puts what was built on the head into the queue, frees the head, and waits for the commit.
    pub(crate) async fn submit(
        &self,
        room: &Room,
        mut slot: MutexGuard<'_, HeadSlot>,
        built: Built,
    ) -> Result<Outcome, SendError> {
        let alone = !built.may_be_built_on();
        let Built {
            head,
            write,
            committed,
        } = built;
        if !alone {
            slot.head = Some(head);
        }
        let generation = slot.generation;
        let places = places(&write);
        if let (Some(event), Some(current)) = (places.last(), &committed.current) {
            room.expect(*event, current.clone());
        }
        let pending = self.journal().submit(write);
        let outcome = if alone {
            let outcome = pending.await;
            drop(slot);
            outcome
        } else {
            drop(slot);
            pending.await
        };
        if outcome.is_err() {
            self.discard_head(room, generation).await;
        }
        self.settle(room, outcome, committed, &places).await
    }

    /// Throws the head away, since what it was built on is not there; once for all who lost by it.
    async fn discard_head(&self, room: &Room, generation: u64) {
        let mut slot = room.head.lock().await;
        if slot.generation == generation {
            slot.generation += 1;
            slot.head = None;
        }
    }

    /// Locks the room's row, so that nobody else can win, and reads the head.
    pub(crate) async fn lock_head(
        &self,
        room: &Room,
        slot: &mut HeadSlot,
    ) -> Result<(RowLock, Head), SendError> {
        slot.generation += 1;
        slot.head = None;
        let turn = self.0.turns.take().await;
        let mut tx = self.pool().begin().await?;
        let row = room_table::lock(&mut tx, room.nid)
            .await?
            .ok_or(SendError::UnknownRoom)?;
        let head = self.head_of(row).await?;
        Ok((RowLock { tx, turn }, head))
    }

    /// Writes within the transaction that locked the room's row.
    pub(crate) async fn commit_locked(
        &self,
        room: &Room,
        (lock, slot): (RowLock, MutexGuard<'_, HeadSlot>),
        built: Built,
    ) -> Result<Outcome, SendError> {
        let places = places(&built.write);
        let outcome = self.journal().commit(lock.tx, built.write).await;
        drop((slot, lock.turn));
        self.settle(room, outcome, built.committed, &places).await
    }

    /// Takes note of what became of a write.
    async fn settle(
        &self,
        room: &Room,
        outcome: Result<Written, WriteError>,
        committed: Committed,
        places: &[EventNid],
    ) -> Result<Outcome, SendError> {
        if let Some(event) = places.last() {
            room.expected(*event);
        }
        let error = match outcome {
            Ok(written) => {
                self.take_note(room, written, committed, places).await?;
                return Ok(Outcome::Committed);
            }
            Err(error) => error,
        };
        self.abandon(&committed.made).await;
        for (key, _) in &committed.merged {
            self.0.merged.doubt(key).await;
        }
        match error {
            WriteError::Lost => Ok(Outcome::Lost),
            WriteError::Duplicate(event) => Ok(Outcome::Duplicate(event)),
            WriteError::Overloaded => Err(SendError::Overloaded),
            WriteError::Storage(error) => Err(SendError::Storage(error)),
        }
    }

    async fn take_note(
        &self,
        room: &Room,
        written: Written,
        committed: Committed,
        places: &[EventNid],
    ) -> Result<(), SendError> {
        for (nid, order) in places.iter().zip(written.first.0..) {
            if let Some(event) = committed.made.iter().find(|event| event.nid == *nid) {
                event.place(order);
            }
        }
        for nid in committed.outdated {
            self.events().forget(nid).await;
            if room.tail.has(nid) {
                let event = self.events().get(nid).await?;
                room.tail.replace(&event);
            }
        }
        for event in &committed.made {
            if event.is_accepted() {
                self.apply_redaction(room, event).await?;
            }
        }
        for (key, snapshot) in committed.merged {
            self.snapshots().remember(Arc::clone(&snapshot)).await;
            self.0.merged.remember(key, snapshot).await;
        }
        if let Some(current) = committed.current {
            self.snapshots()
                .remember(Arc::clone(&current.snapshot))
                .await;
            room.set_current(current);
        }
        Ok(())
    }

    /// Forgets events that were built and not committed.
    pub(crate) async fn abandon(&self, made: &[Arc<RoomEvent>]) {
        for event in made {
            self.events().forget(event.nid).await;
        }
    }

    /// Reads the head.
    pub(crate) async fn read_head(&self, room: &Room) -> Result<Head, SendError> {
        let mut conn = self.pool().acquire().await?;
        let row = room_table::find(&mut conn, room.nid).await?;
        drop(conn);
        self.head_of(row.ok_or(SendError::UnknownRoom)?).await
    }

    /// The head that a room's row tells of.
    pub(crate) async fn head_of(&self, row: room_table::Stored) -> Result<Head, SendError> {
        let snapshot = match row.snapshot {
            Some(nid) => self.snapshots().get(nid).await?,
            None => Arc::new(Snapshot::empty()),
        };
        let events = self.events().map(row.extremities).await?;
        let befores = match events.len() {
            // The state after a single extremity is the current one.
            0 | 1 => std::collections::HashMap::new(),
            _ => {
                let nids = events.values().filter_map(|event| event.snapshot);
                self.snapshots().map(nids.collect::<Vec<_>>()).await?
            }
        };
        let after = |event: &RoomEvent| match event.snapshot.and_then(|nid| befores.get(&nid)) {
            Some(before) => After::of(event, Arc::clone(before)),
            None => After::Event {
                before: Arc::clone(&snapshot),
                own: None,
            },
        };
        let extremities = events.values().map(|event| Extremity {
            nid: event.nid,
            event_id: event.pdu.event_id.clone(),
            depth: event.pdu.depth,
            after: after(event),
        });
        let extremities = extremities.collect();
        Ok(Head {
            revision: row.revision,
            snapshot,
            extremities,
        })
    }
}

/// The events that get a place in the timeline, in order.
fn places(write: &Write) -> Vec<EventNid> {
    let events = write.room.iter().flat_map(|room| &room.events);
    events
        .filter(|event| event.placement == Placement::Live)
        .map(|event| event.nid)
        .collect()
}
