//! Received events that go into one write.
//!
//! Each may come after others of them, and the room's current state is made once, after the last: to resolve what a
//! room's branches come to is dear, and nobody sees what it would have been in between.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hearth_core::EventNid;
use hearth_store::{
    missing_previous::{self, Child},
    pending_redaction,
    write::Status,
};
use ruma::{EventId, OwnedEventId};

use crate::{
    Rooms,
    authorise::ById,
    event::RoomEvent,
    incoming::Verified,
    merge::After,
    outliers::Numbers,
    room::{Head, Room},
    snapshot::{Snapshot, StateMap},
};

/// The events of a write so far.
#[derive(Debug, Default)]
pub(crate) struct Series {
    made: HashMap<OwnedEventId, (Arc<RoomEvent>, Arc<Snapshot>)>,
    /// What the checks against the current state look at: the state of the head, with what the events so far changed in
    /// it. What the branches really come to may be otherwise; it is made after the last event.
    pub(crate) current: StateMap,
}

impl Series {
    /// No events yet.
    pub(crate) fn on(head: &Head) -> Self {
        Self {
            made: HashMap::new(),
            current: head.snapshot.map.clone(),
        }
    }

    /// The event, if it is one of them.
    pub(crate) fn get(&self, id: &EventId) -> Option<&Arc<RoomEvent>> {
        self.made.get(id).map(|(event, _)| event)
    }

    /// The state after an event, if it is one of them.
    pub(crate) fn after(&self, id: &EventId) -> Option<After> {
        let (event, before) = self.made.get(id)?;
        Some(After::of(event, Arc::clone(before)))
    }

    /// The accepted redactions of an event among them, each with the state before it.
    pub(crate) fn redactions(
        &self,
        target: &EventId,
    ) -> impl Iterator<Item = &(Arc<RoomEvent>, Arc<Snapshot>)> {
        let is_redaction = move |event: &RoomEvent| {
            event.is_accepted() && event.pdu.redacts.as_deref() == Some(target)
        };
        self.made
            .values()
            .filter(move |(event, _)| is_redaction(event))
    }

    /// Adds the next event with the state before it.
    pub(crate) fn add(&mut self, event: Arc<RoomEvent>, before: Arc<Snapshot>) {
        if let Some(key) = event.state_key.filter(|_| event.status == Status::Accepted) {
            self.current.insert(key, event.nid);
        }
        let id = event.pdu.event_id.clone();
        self.made.insert(id, (event, before));
    }
}

/// What is stored about events that are to be judged.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Numbers of their senders and state keys.
    pub(crate) numbers: Numbers,
    /// Those that are stored, with a place or as outliers.
    stored: ById,
    /// Those after which others come.
    parents: HashSet<String>,
    /// The redactions that came before them.
    redactions: Vec<(String, EventNid)>,
}

impl Facts {
    /// The number of an event that is stored as an outlier.
    pub(crate) fn outlier(&self, id: &EventId) -> Option<EventNid> {
        self.stored.get(id).map(|event| event.nid)
    }

    /// Whether an event has its place.
    pub(crate) fn has_place(&self, id: &EventId) -> bool {
        self.stored
            .get(id)
            .is_some_and(|event| event.snapshot.is_some())
    }

    /// Whether an event that comes after this one is known already.
    pub(crate) fn child(&self, id: &EventId) -> Child {
        match self.parents.contains(id.as_str()) {
            true => Child::Known,
            false => Child::None,
        }
    }

    /// The redactions that came before an event.
    pub(crate) fn redactions(&self, id: &EventId) -> Vec<EventNid> {
        let waiting = self.redactions.iter();
        let waiting = waiting.filter(|(target, _)| target == id.as_str());
        waiting.map(|(_, redaction)| *redaction).collect()
    }
}

impl Rooms {
    /// Reads what is stored about events, however many, in a fixed number of statements.
    pub(crate) async fn facts(&self, room: &Room, events: &[&Verified]) -> sqlx::Result<Facts> {
        let ids: Vec<&EventId> = events.iter().map(|event| event.event_id()).collect();
        let names: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
        let stored = self.by_id(&ids).await?;
        let numbers = self.names_of(events).await?;
        let mut conn = self.pool().acquire().await?;
        let parents = missing_previous::list_with_child(&mut conn, room.nid, &names).await?;
        let redactions = pending_redaction::list(&mut conn, &names).await?;
        drop(conn);
        Ok(Facts {
            numbers,
            stored,
            parents: parents.into_iter().collect(),
            redactions,
        })
    }

    /// Those of the events that are stored or go into the same write.
    pub(crate) async fn among(&self, series: &Series, ids: &[OwnedEventId]) -> sqlx::Result<ById> {
        let others: Vec<&EventId> = ids
            .iter()
            .filter(|id| series.get(id).is_none())
            .map(AsRef::as_ref)
            .collect();
        let mut found = self.by_id(&others).await?;
        let made = ids.iter().filter_map(|id| series.get(id));
        found.extend(made.map(|event| (event.pdu.event_id.clone(), Arc::clone(event))));
        Ok(found)
    }
}
