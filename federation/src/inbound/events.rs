//! The events of a transaction.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt as _, stream};
use hearth_rooms::{Incoming, ReceiveError, Room, SendError};
use hearth_store::write::Status;
use ruma::{OwnedRoomId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;

use super::{Inbound, Outcomes, TransactionError};

/// What becomes of the events for which the time was too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// The transaction comes again, and finds what was fetched so far.
    Left,
    /// It came often enough: the other server is told which events were not taken.
    Over,
}

/// How many rooms of one transaction are worked on at once.
const ROOMS_AT_ONCE: usize = 4;

#[derive(Deserialize)]
struct Addressed {
    room_id: OwnedRoomId,
}

impl Inbound {
    /// Takes events in, those of a room in their order.
    pub(super) async fn take_pdus(
        &self,
        origin: &ServerName,
        pdus: Vec<Box<RawValue>>,
        patience: Patience,
    ) -> Result<Outcomes, TransactionError> {
        let mut by_room: BTreeMap<OwnedRoomId, Vec<Box<RawValue>>> = BTreeMap::new();
        for pdu in pdus {
            match serde_json::from_str::<Addressed>(pdu.get()) {
                Ok(Addressed { room_id }) => by_room.entry(room_id).or_default().push(pdu),
                Err(error) => tracing::debug!(%origin, "an event belongs to no room: {error}"),
            }
        }
        let taking = by_room
            .into_iter()
            .map(|of_room| self.take_of_room(origin, of_room, patience));
        let parts: Vec<Result<Outcomes, TransactionError>> = stream::iter(taking)
            .buffer_unordered(ROOMS_AT_ONCE)
            .collect()
            .await;
        let mut outcomes = Outcomes::new();
        for part in parts {
            outcomes.extend(part?);
        }
        Ok(outcomes)
    }

    async fn take_of_room(
        &self,
        origin: &ServerName,
        (room_id, pdus): (OwnedRoomId, Vec<Box<RawValue>>),
        patience: Patience,
    ) -> Result<Outcomes, TransactionError> {
        let Some(room) = self.0.parts.rooms.find(&room_id).await? else {
            tracing::debug!(%origin, %room_id, "events of a room that is not known");
            return Ok(Outcomes::new());
        };
        let mut events = Vec::with_capacity(pdus.len());
        for pdu in &pdus {
            match Incoming::read(pdu, &room_id, &room.rules) {
                Ok(event) => events.push(event),
                Err(error) => tracing::debug!(%origin, %room_id, "no event: {error}"),
            }
        }
        if !self.may_take_part(&room, origin).await? {
            let refused = "the room's access control list excludes this server";
            return Ok(events
                .iter()
                .map(|event| (event.event_id().to_owned(), Err(refused.to_owned())))
                .collect());
        }
        let turn = self.turn(&room_id).await;
        let _turn = turn.lock().await;
        let _permit = self.work_permit().await?;
        self.receive(origin, &room, events, patience).await
    }

    async fn receive(
        &self,
        origin: &ServerName,
        room: &Room,
        events: Vec<Incoming>,
        patience: Patience,
    ) -> Result<Outcomes, TransactionError> {
        let ids: Vec<_> = events
            .iter()
            .map(|event| event.event_id().to_owned())
            .collect();
        let results = self.0.parts.rooms.receive_all(room, origin, events).await;
        let mut outcomes = Outcomes::new();
        for (event_id, result) in ids.into_iter().zip(results) {
            let outcome = match result {
                Ok(received) => match received.status {
                    // A peer need not know what clients do not see.
                    Status::Accepted | Status::SoftFailed => Ok(()),
                    Status::Rejected => Err("the authorisation rules reject it".to_owned()),
                },
                // The whole transaction comes again, rather than that an event is lost.
                Err(ReceiveError::Failed(SendError::Storage(error))) => return Err(error.into()),
                Err(ReceiveError::Failed(
                    error @ (SendError::Overloaded | SendError::Contended),
                )) => return Err(TransactionError::Busy(error)),
                Err(ReceiveError::TookTooLong) if patience == Patience::Left => {
                    return Err(TransactionError::TookTooLong);
                }
                // Nothing is wrong with the event: it is taken once what it refers to can be had.
                Err(error @ ReceiveError::Missing) => {
                    tracing::debug!(%origin, %event_id, "an event has to wait: {error}");
                    Ok(())
                }
                Err(error) => {
                    tracing::debug!(%origin, %event_id, "an event was not taken: {error}");
                    Err(error.to_string())
                }
            };
            outcomes.insert(event_id, outcome);
        }
        Ok(outcomes)
    }

    /// Events of one room are taken in one after the other.
    async fn turn(&self, room_id: &OwnedRoomId) -> Arc<Mutex<()>> {
        let rooms = &self.0.rooms;
        rooms
            .get_with_by_ref(room_id, async { Arc::default() })
            .await
    }
}
