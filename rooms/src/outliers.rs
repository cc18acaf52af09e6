//! Outliers: events that are stored without a place in the DAG, because they authorise others or are part of a state
//! that another server told.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, StateKeyNid, UserNid};
use hearth_store::{
    event as event_table, room as room_table,
    write::{EventRow, Placement, Source, Status},
};
use ruma::{EventId, OwnedEventId, OwnedUserId, UserId};

use crate::{
    Rooms,
    authorise::{ById, check_cited},
    changes::{References, event_row},
    event::RoomEvent,
    incoming::Verified,
    room::Room,
    snapshot::Snapshot,
};

/// How many rows a statement adds.
const ROWS: usize = 500;

/// How often the rows are made again because other processes stored some of the events meanwhile.
const ATTEMPTS: u32 = 5;

impl Rooms {
    /// Stores events of a room as outliers, each checked against the events that it cites. Those that cite what is
    /// neither stored nor among them are left out; those that break a rule are stored as rejected.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn store_outliers(&self, room: &Room, events: &[Verified]) -> sqlx::Result<()> {
        for _ in 0..ATTEMPTS {
            let made = self.outliers(room, events).await?;
            if made.is_empty() {
                return Ok(());
            }
            let mut tx = self.pool().begin().await?;
            room_table::lock(&mut tx, room.nid).await?;
            let ids: Vec<&str> = made.iter().map(|row| &*row.event_id).collect();
            if !event_table::list_known(&mut tx, &ids).await?.is_empty() {
                // The rows cite numbers of rows that will not be.
                continue;
            }
            for rows in made.chunks(ROWS) {
                let rows: Vec<&EventRow> = rows.iter().collect();
                event_table::insert_outliers(&mut tx, &rows).await?;
            }
            tx.commit().await?;
            return Ok(());
        }
        let reason = "other processes store the same events all the time";
        Err(sqlx::Error::Protocol(reason.to_owned()))
    }

    /// The rows of those of `events` that are not stored.
    async fn outliers(&self, room: &Room, events: &[Verified]) -> sqlx::Result<Vec<EventRow>> {
        let ids: Vec<&EventId> = events.iter().map(Verified::event_id).collect();
        let stored = self.events().nids(&ids).await?;
        let mut seen = HashSet::new();
        let mut new: Vec<&Verified> = events
            .iter()
            .filter(|event| event.pdu.room_id == room.id)
            .filter(|event| !stored.contains_key(event.event_id()) && seen.insert(event.event_id()))
            .collect();
        if new.is_empty() {
            return Ok(Vec::new());
        }
        new.sort_by(|a, b| (a.pdu.depth, a.event_id()).cmp(&(b.pdu.depth, b.event_id())));
        let mut known = self.cited_elsewhere(room, &new).await?;
        let numbers = self.names_of(&new).await?;
        let mut rows = Vec::with_capacity(new.len());
        for event in in_order(room, &new, &known) {
            // The state of a large room takes a while, and others wait for this thread.
            tokio::task::consume_budget().await;
            let row = self.outlier(room, event, (&known, &numbers)).await?;
            let made = RoomEvent::new(&row, event.pdu.clone());
            known.insert(event.pdu.event_id.clone(), Arc::new(made));
            rows.push(row);
        }
        Ok(rows)
    }

    /// What is stored of the events that `events` cite.
    async fn cited_elsewhere(&self, room: &Room, events: &[&Verified]) -> sqlx::Result<ById> {
        let cited: HashSet<OwnedEventId> = events
            .iter()
            .flat_map(|event| event.authorities(&room.rules))
            .collect();
        let cited: Vec<&EventId> = cited.iter().map(AsRef::as_ref).collect();
        self.by_id(&cited).await
    }

    /// Those of the events that are stored.
    pub(crate) async fn by_id(&self, ids: &[&EventId]) -> sqlx::Result<ById> {
        let nids = self.events().nids(ids).await?;
        let events = self.events().map(nids.into_values()).await?;
        let events = events.into_values();
        Ok(events
            .map(|event| (event.pdu.event_id.clone(), event))
            .collect())
    }

    /// The numbers of the senders and state keys of events.
    pub(crate) async fn names_of(&self, events: &[&Verified]) -> sqlx::Result<Numbers> {
        let senders: Vec<&UserId> = events.iter().map(|event| &*event.pdu.sender).collect();
        let senders = self.interner().users(&senders).await?;
        let pairs: HashSet<(String, String)> = events
            .iter()
            .filter_map(|event| Some((event.pdu.kind.to_string(), event.pdu.state_key.clone()?)))
            .collect();
        let pairs: Vec<(String, String)> = pairs.into_iter().collect();
        let borrowed: Vec<(&str, &str)> = pairs.iter().map(|(k, s)| (&**k, &**s)).collect();
        let nids = self.interner().state_keys(&borrowed).await?;
        let state_keys = pairs.into_iter().zip(nids).collect();
        Ok(Numbers {
            senders,
            state_keys,
        })
    }

    async fn outlier(
        &self,
        room: &Room,
        event: &Verified,
        (known, numbers): (&ById, &Numbers),
    ) -> sqlx::Result<EventRow> {
        let pdu = &event.pdu;
        let cited = event
            .authorities(&room.rules)
            .into_iter()
            .filter_map(|id| Some((id.clone(), Arc::clone(known.get(&id)?))));
        let verdict = check_cited(&room.rules.authorization, pdu, &cited.collect());
        let nid = self.blocks().event().await?;
        let refs = References {
            state_key: numbers.state_key(pdu.kind.to_string(), pdu.state_key.clone()),
            auth: auth_nids(pdu.auth_events.iter().filter_map(|id| known.get(id))),
            redacts: None,
        };
        let sender = numbers.senders.get(&pdu.sender).copied();
        let sender = sender.ok_or(sqlx::Error::RowNotFound)?;
        let mut row = event_row((room, nid), pdu, sender, &Snapshot::empty(), refs);
        row.source = Source::Received;
        row.placement = Placement::Outlier;
        row.snapshot = None;
        if let Err(reason) = verdict {
            tracing::debug!(event_id = %pdu.event_id, room_id = %room.id, "an event was rejected: {reason}");
            row.status = Status::Rejected;
        }
        Ok(row)
    }
}

/// Numbers of what events name.
#[derive(Debug)]
pub(crate) struct Numbers {
    pub(crate) senders: HashMap<OwnedUserId, UserNid>,
    state_keys: HashMap<(String, String), StateKeyNid>,
}

impl Numbers {
    /// The number of a state key; messages have none.
    pub(crate) fn state_key(&self, kind: String, key: Option<String>) -> Option<StateKeyNid> {
        self.state_keys.get(&(kind, key?)).copied()
    }
}

/// The numbers of events, each once.
pub(crate) fn auth_nids<'a>(events: impl Iterator<Item = &'a Arc<RoomEvent>>) -> Vec<EventNid> {
    let mut nids: Vec<EventNid> = events.map(|event| event.nid).collect();
    nids.sort_unstable();
    nids.dedup();
    nids
}

/// The events in an order in which each comes after those that it cites; those that cite what is not there, or each
/// other in a ring, are left out.
fn in_order<'a>(room: &Room, events: &[&'a Verified], known: &ById) -> Vec<&'a Verified> {
    let mut open: HashMap<&EventId, usize> = HashMap::new();
    let mut cited_by: HashMap<OwnedEventId, Vec<&'a Verified>> = HashMap::new();
    let mut ready = Vec::new();
    for event in events.iter().copied() {
        let missing: HashSet<OwnedEventId> = event
            .authorities(&room.rules)
            .into_iter()
            .filter(|id| !known.contains_key(id))
            .collect();
        open.insert(event.event_id(), missing.len());
        if missing.is_empty() {
            ready.push(event);
        }
        for id in missing {
            cited_by.entry(id).or_default().push(event);
        }
    }
    let mut ordered = Vec::with_capacity(events.len());
    while let Some(event) = ready.pop() {
        ordered.push(event);
        for next in cited_by.remove(event.event_id()).unwrap_or_default() {
            let open = open.entry(next.event_id()).or_default();
            *open = open.saturating_sub(1);
            if *open == 0 {
                ready.push(next);
            }
        }
    }
    ordered
}
