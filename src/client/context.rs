//! What happened around an event.

use axum::extract::State;
use hearth_rooms::Rooms;
use ruma::api::client::context::get_context;

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

    let around = rooms
        .surroundings(&room, &reader, event, (&filter, limit))
        .await?;

    let mut response = get_context::v3::Response::new();
    response.start = Some(around.start.to_string());
    response.end = Some(around.end.to_string());
    response.events_before = raws(&around.before);
    response.event = Some(raw(&around.event));
    response.events_after = raws(&around.after);
    response.state = raws(&around.state);
    Ok(Ruma(response))
}
