//! What happened around an event.

use std::sync::Arc;

use axum::extract::State;
use hearth_core::token::PageToken;
use hearth_rooms::{
    Filter, Page, PageRequest, Receiver, Relations, Room, RoomEvent, RoomIdField, Rooms, timeline,
};
use ruma::api::{
    Direction,
    client::{context::get_context, filter::LazyLoadOptions},
};

use super::{
    ClientState,
    reader::{FilterParameter, Reader, event, limit, raw, raws},
};
use crate::http::{Api, ApiError, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new().endpoint(get_context)
}

/// `GET /_matrix/client/*/rooms/{roomId}/context/{eventId}`
async fn get_context(
    State(rooms): State<Rooms>,
    Reader(reader): Reader,
    FilterParameter(filter): FilterParameter,
    Ruma(request): Ruma<get_context::v3::Request>,
) -> Result<Ruma<get_context::v3::Response>, ApiError> {
    let (room, event) = event(&rooms, &reader, &request.room_id, &request.event_id).await?;
    let limit = limit(request.limit, filter.limit);
    let ceiling = rooms
        .view(&room, &reader)
        .await?
        .and_then(|view| view.ceiling);
    let around = Around {
        rooms: &rooms,
        room: &room,
        reader: &reader,
        filter: &filter,
        ceiling,
    };
    let (start, end) = (timeline::before(&event), timeline::after(&event));
    let before = around.page(Direction::Backward, start, limit / 2).await?;
    let after = around
        .page(Direction::Forward, end, limit - limit / 2)
        .await?;

    let mut response = get_context::v3::Response::new();
    let start = before
        .end
        .or(before.events.last().map(|event| timeline::before(event)))
        .unwrap_or(start);
    let end = after
        .end
        .or(after.events.last().map(|event| timeline::after(event)))
        .unwrap_or(end);
    response.start = Some(start.to_string());
    response.end = Some(end.to_string());
    let last = after.events.last().unwrap_or(&event);
    let mut shown = before.events.clone();
    shown.push(Arc::clone(&event));
    shown.extend_from_slice(&after.events);
    response.state = raws(&rooms.plain(around.state(last, &shown).await?));
    let served = rooms
        .serve(shown, &reader, RoomIdField::Written, Relations::Bundled)
        .await?;
    let (earlier, rest) = served.split_at(before.events.len());
    let (event, later) = rest.split_first().expect("the event is among those shown");
    response.events_before = raws(earlier);
    response.event = Some(raw(event));
    response.events_after = raws(later);
    Ok(Ruma(response))
}

/// The surroundings of an event for one reader.
struct Around<'a> {
    rooms: &'a Rooms,
    room: &'a Room,
    reader: &'a Receiver,
    filter: &'a Filter,
    ceiling: Option<i64>,
}

impl Around<'_> {
    async fn page(
        &self,
        direction: Direction,
        from: PageToken,
        limit: usize,
    ) -> Result<Page, ApiError> {
        let request = PageRequest {
            direction,
            from: Some(from),
            to: None,
            ceiling: self.ceiling,
            limit,
            filter: self.filter,
        };
        Ok(self.rooms.page(self.room, self.reader, &request).await?)
    }

    /// The state after `last`, with those members only who matter when they are loaded lazily.
    async fn state(
        &self,
        last: &RoomEvent,
        shown: &[Arc<RoomEvent>],
    ) -> Result<Vec<Arc<RoomEvent>>, ApiError> {
        let state = self.rooms.state_after(last).await?;
        if self.filter.lazy_load == LazyLoadOptions::Disabled {
            return Ok(self.rooms.state_events(&state).await?);
        }
        let mut events = self.rooms.state_without_members(&state).await?;
        events.extend(self.rooms.senders(&state, shown).await?);
        Ok(events)
    }
}
