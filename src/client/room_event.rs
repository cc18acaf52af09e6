//! Single events: by id, and by time.

use axum::extract::{Path, State};
use hearth_rooms::{Relations, Rooms};
use http::Method;
use ruma::{
    OwnedEventId,
    api::client::room::{get_event_by_timestamp, get_room_event},
};

use super::{
    ClientState,
    reader::{Reader, event, raw, view},
};
use crate::http::{Api, ApiError, Authentication, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    let api = Api::new()
        .endpoint(get_room_event)
        .endpoint(get_event_by_timestamp);
    ["r0", "v3"].into_iter().fold(api, |api, version| {
        let path = format!("/_matrix/client/{version}/events/{{event_id}}");
        api.route(Method::GET, &path, Authentication::AccessToken, get_event)
    })
}

/// `GET /_matrix/client/*/rooms/{roomId}/event/{eventId}`
async fn get_room_event(
    State(rooms): State<Rooms>,
    Reader(reader): Reader,
    Ruma(request): Ruma<get_room_event::v3::Request>,
) -> Result<Ruma<get_room_event::v3::Response>, ApiError> {
    let (_, event) = event(&rooms, &reader, &request.room_id, &request.event_id).await?;

    let served = rooms.serve_one(event, &reader, Relations::Bundled).await?;

    Ok(Ruma(get_room_event::v3::Response::new(raw(&served))))
}

/// `GET /_matrix/client/*/events/{eventId}`: of old, without the room.
async fn get_event(
    State(rooms): State<Rooms>,
    Reader(reader): Reader,
    Path(event_id): Path<String>,
) -> Result<Ruma<get_room_event::v3::Response>, ApiError> {
    let not_found = || ApiError::not_found("the event was not found");
    let event_id: OwnedEventId = event_id
        .try_into()
        .map_err(|_| ApiError::invalid_param("this is no event id"))?;
    let room = rooms
        .room_of_event(&event_id)
        .await?
        .ok_or_else(not_found)?;
    let event = rooms.visible_event(&room, &reader, &event_id).await?;
    let event = event.ok_or_else(not_found)?;

    let served = rooms.serve_one(event, &reader, Relations::Left).await?;

    Ok(Ruma(get_room_event::v3::Response::new(raw(&served))))
}

/// `GET /_matrix/client/*/rooms/{roomId}/timestamp_to_event`
async fn get_event_by_timestamp(
    State(rooms): State<Rooms>,
    Reader(reader): Reader,
    Ruma(request): Ruma<get_event_by_timestamp::v1::Request>,
) -> Result<Ruma<get_event_by_timestamp::v1::Response>, ApiError> {
    let (room, _) = view(&rooms, &reader, &request.room_id).await?;

    let found = rooms
        .closest(&room, &reader, request.ts, request.dir)
        .await?
        .ok_or_else(|| ApiError::not_found("there is no event in that direction"))?;

    Ok(Ruma(get_event_by_timestamp::v1::Response::new(
        found.pdu.event_id.clone(),
        found.pdu.origin_server_ts,
    )))
}
