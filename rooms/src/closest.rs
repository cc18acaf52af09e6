//! The event closest to a time, wherever it is.
//!
//! Client-Server API, `GET /timestamp_to_event`; Server-Server API, the same. What is here may not be all: where the history
//! has gaps, or nothing is found, other servers are asked, and a closer event of theirs is fetched.

use std::sync::Arc;

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, api::Direction};

use crate::{Rooms, client_event::Receiver, event::RoomEvent, room::Room};

/// How many servers are asked.
const SERVERS: usize = 3;

impl Rooms {
    /// The event closest to `ts` in one direction, of those that `receiver` may see.
    pub async fn closest(
        &self,
        room: &Room,
        receiver: &Receiver,
        ts: MilliSecondsSinceUnixEpoch,
        direction: Direction,
    ) -> sqlx::Result<Option<Arc<RoomEvent>>> {
        let here = self.closest_here(room, receiver, ts, direction).await?;
        if here.is_some() && !self.has_gaps(room).await? {
            return Ok(here);
        }
        let known = here.as_ref().map(|event| event.pdu.origin_server_ts);
        let Some(closer) = self.closer_elsewhere(room, (ts, direction), known).await? else {
            return Ok(here);
        };
        if Box::pin(self.fetch_past(room, &[closer])).await {
            return self.closest_here(room, receiver, ts, direction).await;
        }
        Ok(here)
    }

    /// Asks servers in the room for an event that is closer to a time than the one that is known.
    async fn closer_elsewhere(
        &self,
        room: &Room,
        (ts, direction): (MilliSecondsSinceUnixEpoch, Direction),
        known: Option<MilliSecondsSinceUnixEpoch>,
    ) -> sqlx::Result<Option<OwnedEventId>> {
        if !self.is_resident(room).await? {
            return Ok(None);
        }
        let own = &self.identity().server_name;
        let servers = self.servers(room).await?;
        let others = servers.iter().filter(|server| *server != own);
        for server in others.take(SERVERS) {
            let asked = self.peers().closest_event(server, &room.id, ts, direction);
            if let Ok(found) = asked.await {
                let closer = is_closer(found.origin_server_ts, known, (ts, direction));
                return Ok(closer.then_some(found.event_id));
            }
        }
        Ok(None)
    }
}

/// Whether `found` lies in the direction asked for, and closer than what is known.
fn is_closer(
    found: MilliSecondsSinceUnixEpoch,
    known: Option<MilliSecondsSinceUnixEpoch>,
    (ts, direction): (MilliSecondsSinceUnixEpoch, Direction),
) -> bool {
    match direction {
        Direction::Forward => found >= ts && known.is_none_or(|known| found < known),
        Direction::Backward => found <= ts && known.is_none_or(|known| found > known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ts: u32) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(ts.into())
    }

    #[test]
    fn closer_is_what_lies_between() {
        let forward = (at(10), Direction::Forward);
        let backward = (at(10), Direction::Backward);

        assert!(is_closer(at(12), Some(at(15)), forward));
        assert!(is_closer(at(12), None, forward));
        assert!(!is_closer(at(16), Some(at(15)), forward));
        assert!(!is_closer(at(9), None, forward));
        assert!(is_closer(at(9), Some(at(5)), backward));
        assert!(!is_closer(at(4), Some(at(5)), backward));
        assert!(!is_closer(at(11), None, backward));
    }
}
