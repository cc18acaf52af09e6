//! Events that other servers send: the way from the bytes to a place in the room.
//!
//! Server-Server API, "Checks performed on receipt of a PDU". What a peer can make this do is bounded: how many events
//! are fetched for one, how many states, and how long the fetching may take.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hearth_store::write::Status;
use ruma::{EventId, OwnedEventId, ServerName, events::TimelineEventType};
use tokio::time::Instant;

use crate::{
    Rooms,
    arrivals::{Arrival, Way},
    error::SendError,
    event::RoomEvent,
    gaps::{Budget, deadline},
    incoming::{Incoming, Malformed, Verified},
    room::Room,
};

/// What became of a received event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its id.
    pub event_id: OwnedEventId,
    /// What the checks said.
    pub status: Status,
}

/// Why a received event was not stored.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// It is dropped for what it is.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// We are not in the room.
    #[error("this server is not in the room")]
    NotInRoom,
    /// What it refers to cannot be had.
    #[error("events that it refers to cannot be had")]
    Missing,
    /// What it refers to could not be fetched in time; some of it may be stored by now.
    #[error("events that it refers to could not be fetched in time")]
    TookTooLong,
    /// It could not be written.
    #[error(transparent)]
    Failed(#[from] SendError),
}

impl From<sqlx::Error> for ReceiveError {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(SendError::Storage(error))
    }
}

impl Rooms {
    /// Takes in an event that `origin` sent, after whatever it comes after; returns once it is committed.
    ///
    /// An event that is stored already has the status that it had. An event that was an outlier gets its place.
    ///
    /// # Errors
    ///
    /// See [`ReceiveError`]. An event that is rejected or soft-failed is no error.
    pub async fn receive(
        &self,
        room: &Room,
        origin: &ServerName,
        event: Incoming,
    ) -> Result<Received, ReceiveError> {
        let mut results = self.receive_all(room, origin, vec![event]).await;
        results.pop().unwrap_or(Err(ReceiveError::Missing))
    }

    /// Takes in several events that `origin` sent, in their order, and checks their signatures at once; the results are
    /// in the order of the events. When the database fails at the beginning there is that one result.
    pub async fn receive_all(
        &self,
        room: &Room,
        origin: &ServerName,
        events: Vec<Incoming>,
    ) -> Vec<Result<Received, ReceiveError>> {
        let until = deadline();
        let ids: Vec<&EventId> = events.iter().map(Incoming::event_id).collect();
        let known = match self.known(room, &ids).await {
            Ok(known) => known,
            Err(ReceiveError::NotInRoom) => {
                let mut results = Vec::with_capacity(events.len());
                for event in events {
                    let budget = Budget::until(until);
                    results.push(self.receive_outside(room, event, &budget).await);
                }
                return results;
            }
            Err(error) => return vec![Err(error)],
        };
        let mut results = Vec::with_capacity(events.len());
        let mut new = Vec::new();
        for event in events {
            let received = known.get(event.event_id()).cloned();
            if received.is_none() {
                new.push(event);
            }
            results.push(received.map(Ok));
        }
        let verified = self.verify(&room.rules, new).await;
        let mut taken = Box::pin(self.take_in_sent(room, origin, verified, until))
            .await
            .into_iter();
        let answers = results.into_iter().map(|known| {
            let new = || taken.next().unwrap_or(Err(ReceiveError::Missing));
            known.unwrap_or_else(new)
        });
        let answers = answers.collect();
        if let Err(error) = Box::pin(self.close_branches(room)).await {
            tracing::debug!(room_id = %room.id, error = &error as &dyn std::error::Error, "branches stay open");
        }
        answers
    }

    /// Takes in events that `origin` sent: those that follow what is here together, each of the others after what it
    /// comes after.
    async fn take_in_sent(
        &self,
        room: &Room,
        origin: &ServerName,
        events: Vec<Result<Verified, Malformed>>,
        until: Instant,
    ) -> Vec<Result<Received, ReceiveError>> {
        let mut results = Vec::with_capacity(events.len());
        let mut together = Together::default();
        for event in events {
            let event = match event {
                Ok(event) if event.pdu.kind == TimelineEventType::RoomCreate => {
                    // The room that we are in has its own, and that is stored.
                    Err(Malformed::Format("a room is created once".to_owned()).into())
                }
                Ok(event) => Ok(event),
                Err(error) => Err(error.into()),
            };
            let lacked = match &event {
                Ok(event) => self.lacked_previous(room, (event, &together.ids)).await,
                Err(_) => Ok(Vec::new()),
            };
            match (event, lacked) {
                (Ok(event), Ok(lacked)) if lacked.is_empty() => {
                    together.ids.insert(event.pdu.event_id.clone());
                    together.events.push(event);
                }
                (Ok(event), Ok(_)) => {
                    let earlier = std::mem::take(&mut together).events;
                    results.extend(self.take_in_together(room, origin, earlier, until).await);
                    results.push(
                        self.take_in_with_ancestors(room, origin, event, until)
                            .await,
                    );
                }
                (Err(error), _) | (Ok(_), Err(error)) => {
                    let earlier = std::mem::take(&mut together).events;
                    results.extend(self.take_in_together(room, origin, earlier, until).await);
                    results.push(Err(error));
                }
            }
        }
        results.extend(
            self.take_in_together(room, origin, together.events, until)
                .await,
        );
        results
    }

    /// Those of the events that have their place already.
    async fn known(
        &self,
        room: &Room,
        ids: &[&EventId],
    ) -> Result<HashMap<OwnedEventId, Received>, ReceiveError> {
        // What is stored of a room that we left is out of date.
        if !self
            .has_users_in(room, &self.identity().server_name)
            .await?
        {
            return Err(ReceiveError::NotInRoom);
        }
        let stored = self.by_id(ids).await?;
        let placed = stored.values().filter_map(placed);
        Ok(placed
            .map(|received| (received.event_id.clone(), received))
            .collect())
    }

    /// Takes in events whose ancestors are here.
    async fn take_in_together(
        &self,
        room: &Room,
        origin: &ServerName,
        events: Vec<Verified>,
        until: Instant,
    ) -> Vec<Result<Received, ReceiveError>> {
        let ids: Vec<OwnedEventId> = events.iter().map(|e| e.event_id().to_owned()).collect();
        let sent = |event| Arrival {
            event,
            way: Way::Sent,
        };
        let arrivals = events.into_iter().map(sent).collect();
        let mut budget = Budget::until(until);
        let placed = self.place_all(room, origin, arrivals, &mut budget).await;
        let mut placed = placed.into_iter();
        let mut results = Vec::with_capacity(ids.len());
        for event_id in ids {
            let outcome = placed.next().unwrap_or(Err(ReceiveError::Missing));
            results.push(self.received(room, event_id, outcome).await);
        }
        results
    }

    /// Takes in an event after the events before it that are not here and that `origin` has.
    async fn take_in_with_ancestors(
        &self,
        room: &Room,
        origin: &ServerName,
        event: Verified,
        until: Instant,
    ) -> Result<Received, ReceiveError> {
        let event_id = event.pdu.event_id.clone();
        let outcome = self.place_with_ancestors(room, origin, event, until).await;
        self.received(room, event_id, outcome).await
    }

    async fn place_with_ancestors(
        &self,
        room: &Room,
        origin: &ServerName,
        event: Verified,
        until: Instant,
    ) -> Result<Option<Status>, ReceiveError> {
        // One at a time, so that what several events lack is fetched once.
        let _alone = room.gaps.lock().await;
        let mut budget = Budget::until(until);
        let lacked = self
            .lacked_previous(room, (&event, &HashSet::new()))
            .await?;
        let mut arrivals = Vec::new();
        if !lacked.is_empty() {
            let fetching = self.fetch_ancestors(room, origin, &event);
            let ancestors = budget.in_time(Box::pin(fetching)).await?;
            // The room that we are in has its create event, and that is stored.
            let ancestors = ancestors
                .into_iter()
                .filter(|event| event.pdu.kind != TimelineEventType::RoomCreate);
            arrivals.extend(ancestors.map(|event| Arrival {
                event,
                way: Way::Fetched,
            }));
        }
        arrivals.push(Arrival {
            event,
            way: Way::Sent,
        });
        let mut outcomes = self.place_all(room, origin, arrivals, &mut budget).await;
        let own = outcomes.pop().unwrap_or(Err(ReceiveError::Missing));
        for outcome in outcomes {
            match outcome {
                Ok(_) => {}
                Err(error @ (ReceiveError::Malformed(_) | ReceiveError::Missing)) => {
                    tracing::debug!(room_id = %room.id, "a missing event was not taken in: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        own
    }

    /// What became of an event; one that was known before has the status that it had.
    async fn received(
        &self,
        room: &Room,
        event_id: OwnedEventId,
        outcome: Result<Option<Status>, ReceiveError>,
    ) -> Result<Received, ReceiveError> {
        if let Some(status) = outcome? {
            return Ok(Received { event_id, status });
        }
        let mut known = self.known(room, &[&event_id]).await?;
        known.remove(&event_id).ok_or(ReceiveError::Missing)
    }
}

/// Events that follow what is here or each other.
#[derive(Default)]
struct Together {
    events: Vec<Verified>,
    ids: HashSet<OwnedEventId>,
}

/// What was received, if the event has its place.
fn placed(event: &Arc<RoomEvent>) -> Option<Received> {
    event.snapshot?;
    Some(Received {
        event_id: event.pdu.event_id.clone(),
        status: event.status,
    })
}
