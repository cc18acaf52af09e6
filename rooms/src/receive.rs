//! Events that other servers send: the way from the bytes to a place in the room.
//!
//! Server-Server API, "Checks performed on receipt of a PDU". What a peer can make this do is bounded: how many events
//! are fetched for one, how many states, and how long all of it may take.

use std::{sync::Arc, time::Duration};

use hearth_store::write::Status;
use ruma::{EventId, OwnedEventId, ServerName, events::TimelineEventType};
use tokio::time::timeout;

use crate::{
    Rooms,
    error::SendError,
    event::RoomEvent,
    gaps::Budget,
    incoming::{Incoming, Malformed, Verified},
    receipt::{Origin, Placed},
    room::Room,
};

/// How long it may take to fetch what an event refers to.
const PATIENCE: Duration = Duration::from_mins(2);

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
    /// in the order of the events.
    pub async fn receive_all(
        &self,
        room: &Room,
        origin: &ServerName,
        events: Vec<Incoming>,
    ) -> Vec<Result<Received, ReceiveError>> {
        let mut results = Vec::with_capacity(events.len());
        let mut new = Vec::new();
        for event in events {
            match self.received_before(room, event.event_id()).await {
                Ok(None) => {
                    results.push(None);
                    new.push(event);
                }
                Ok(Some(received)) => results.push(Some(Ok(received))),
                Err(ReceiveError::NotInRoom) => {
                    results.push(Some(self.receive_outside(room, event).await));
                }
                Err(error) => results.push(Some(Err(error))),
            }
        }
        let mut verified = self.verify(&room.rules, new).await.into_iter();
        let mut answers = Vec::with_capacity(results.len());
        for known in results {
            let answer = match (known, verified.len()) {
                (Some(answer), _) => answer,
                (None, 0) => Err(ReceiveError::Missing),
                (None, _) => match verified.next() {
                    Some(Ok(event)) => Box::pin(self.take_in_received(room, origin, event)).await,
                    Some(Err(error)) => Err(error.into()),
                    None => Err(ReceiveError::Missing),
                },
            };
            answers.push(answer);
        }
        if let Err(error) = Box::pin(self.close_branches(room)).await {
            tracing::debug!(room_id = %room.id, error = &error as &dyn std::error::Error, "branches stay open");
        }
        answers
    }

    /// The event if it has its place already.
    async fn received_before(
        &self,
        room: &Room,
        event_id: &EventId,
    ) -> Result<Option<Received>, ReceiveError> {
        // What is stored of a room that we left is out of date.
        if !self
            .has_users_in(room, &self.identity().server_name)
            .await?
        {
            return Err(ReceiveError::NotInRoom);
        }
        let stored = self.by_id(&[event_id]).await?;
        Ok(stored.get(event_id).and_then(placed))
    }

    async fn take_in_received(
        &self,
        room: &Room,
        origin: &ServerName,
        event: Verified,
    ) -> Result<Received, ReceiveError> {
        if event.pdu.kind == TimelineEventType::RoomCreate {
            // The room that we are in has its own, and that is stored.
            return Err(Malformed::Format("a room is created once".to_owned()).into());
        }
        let event_id = event.pdu.event_id.clone();
        let placing = self.place_with_ancestors(room, origin, event);
        let status = timeout(PATIENCE, placing)
            .await
            .map_err(|_| ReceiveError::Missing)??;
        if let Some(status) = status {
            return Ok(Received { event_id, status });
        }
        let received = self.received_before(room, &event_id).await?;
        received.ok_or(ReceiveError::Missing)
    }

    /// Places an event after the events before it that are not here and that `origin` has.
    async fn place_with_ancestors(
        &self,
        room: &Room,
        origin: &ServerName,
        event: Verified,
    ) -> Result<Option<Status>, ReceiveError> {
        let mut budget = Budget::new();
        if self.lacks_previous(room, &event).await? {
            // One at a time, so that what several events lack is fetched once.
            let _alone = room.gaps.lock().await;
            if self.lacks_previous(room, &event).await? {
                for ancestor in self.fetch_ancestors(room, origin, &event).await? {
                    let id = ancestor.pdu.event_id.clone();
                    let placed = self.place_next(room, origin, ancestor, &mut budget).await;
                    match placed {
                        Ok(_) | Err(ReceiveError::Malformed(_) | ReceiveError::Missing) => {
                            tracing::debug!(event_id = %id, room_id = %room.id, "took in a missing event: {placed:?}");
                        }
                        Err(error) => return Err(error),
                    }
                }
                if self.lacks_previous(room, &event).await? {
                    // Who sends an event and does not tell what it comes after is not believed about the state there.
                    return Err(ReceiveError::Missing);
                }
                return self.place_next(room, origin, event, &mut budget).await;
            }
        }
        self.place_next(room, origin, event, &mut budget).await
    }

    /// Places an event; where events before it are missing still, `origin` is asked for the state there.
    async fn place_next(
        &self,
        room: &Room,
        origin: &ServerName,
        event: Verified,
        budget: &mut Budget,
    ) -> Result<Option<Status>, ReceiveError> {
        // A state that is asked for brings along what authorises the event.
        let ancestry = self.ancestry(room, origin, &event, budget).await?;
        self.complete_authorities(room, origin, &event).await?;
        let placed = self.place(room, event, ancestry, Origin::Peer).await?;
        Ok(match placed {
            Placed::New(status) => Some(status),
            Placed::Known(_) => None,
        })
    }
}

/// What was received, if the event has its place.
fn placed(event: &Arc<RoomEvent>) -> Option<Received> {
    event.snapshot?;
    Some(Received {
        event_id: event.pdu.event_id.clone(),
        status: event.status,
    })
}
