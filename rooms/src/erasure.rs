//! Users whose account was closed with the wish that what they sent be erased: who was not in the room when they sent it
//! gets it as a redaction would leave it.
//!
//! Client-Server API, "Account deactivation".

use std::{collections::HashSet, sync::Arc};

use hearth_core::{RoomNid, UserNid};
use hearth_store::account;

use crate::{Rooms, event::RoomEvent};

impl Rooms {
    /// The events in the order given, stripped if their sender was erased and the receiver was not in the room then.
    ///
    /// `was_in` says of an event whether the receiver was; for who was in the room all the time nothing is read.
    pub(crate) async fn without_erased(
        &self,
        events: Vec<Arc<RoomEvent>>,
        was_in: impl Fn(&RoomEvent) -> bool,
    ) -> sqlx::Result<Vec<Arc<RoomEvent>>> {
        let ours = &self.identity().server_name;
        let unseen = |event: &RoomEvent| event.pdu.sender.server_name() == ours && !was_in(event);
        let senders: HashSet<UserNid> = events
            .iter()
            .filter(|event| unseen(event))
            .map(|event| event.sender)
            .collect();
        if senders.is_empty() {
            return Ok(events);
        }
        let senders: Vec<UserNid> = senders.into_iter().collect();
        let mut conn = self.pool().acquire().await?;
        let erased = account::list_erased(&mut conn, &senders).await?;
        drop(conn);
        if erased.is_empty() {
            return Ok(events);
        }
        let rooms: Vec<RoomNid> = events.iter().map(|event| event.room).collect();
        let rooms = self.find_by_nids(&rooms).await?;
        let shown = events
            .into_iter()
            .map(|event| match rooms.get(&event.room) {
                Some(room) if erased.contains(&event.sender) && unseen(&event) => {
                    event.stripped(&room.rules).map(Arc::new)
                }
                Some(_) | None => Ok(event),
            });
        shown.collect()
    }
}
