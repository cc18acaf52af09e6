//! Events and states of rooms that another server is in.

use std::sync::Arc;

use axum::extract::State;
use hearth_core::{Clock, config::Config};
use hearth_rooms::Rooms;
use hearth_store::timeline::Towards;
use ruma::api::{
    Direction,
    federation::event::{
        get_event, get_event_by_timestamp, get_missing_events, get_room_state, get_room_state_ids,
    },
};

use super::{FederationState, membership::pdus};
use crate::http::{Api, ApiError, Ruma, Signed};

/// The endpoints of this module.
pub(super) fn api() -> Api<FederationState> {
    Api::new()
        .endpoint(get_event)
        .endpoint(get_room_state)
        .endpoint(get_room_state_ids)
        .endpoint(get_missing_events)
        .endpoint(get_event_by_timestamp)
}

/// `GET /_matrix/federation/v1/event/{eventId}`
async fn get_event(
    State(config): State<Arc<Config>>,
    State(clock): State<Clock>,
    State(rooms): State<Rooms>,
    Signed { origin, request }: Signed<get_event::v1::Request>,
) -> Result<Ruma<get_event::v1::Response>, ApiError> {
    let event = rooms.event_for(&origin, &request.event_id).await?;

    Ok(Ruma(get_event::v1::Response::new(
        config.server_name.clone(),
        clock.now(),
        event.pdu.json.clone(),
    )))
}

/// `GET /_matrix/federation/v1/state/{roomId}`
async fn get_room_state(
    State(rooms): State<Rooms>,
    Signed { origin, request }: Signed<get_room_state::v1::Request>,
) -> Result<Ruma<get_room_state::v1::Response>, ApiError> {
    let before = rooms
        .state_before(&origin, &request.room_id, &request.event_id)
        .await?;

    Ok(Ruma(get_room_state::v1::Response::new(
        pdus(&before.auth_chain),
        pdus(&before.state),
    )))
}

/// `GET /_matrix/federation/v1/state_ids/{roomId}`
async fn get_room_state_ids(
    State(rooms): State<Rooms>,
    Signed { origin, request }: Signed<get_room_state_ids::v1::Request>,
) -> Result<Ruma<get_room_state_ids::v1::Response>, ApiError> {
    let before = rooms
        .state_ids_before(&origin, &request.room_id, &request.event_id)
        .await?;

    Ok(Ruma(get_room_state_ids::v1::Response::new(
        before.auth_chain,
        before.state,
    )))
}

/// `POST /_matrix/federation/v1/get_missing_events/{roomId}`
async fn get_missing_events(
    State(rooms): State<Rooms>,
    Signed { origin, request }: Signed<get_missing_events::v1::Request>,
) -> Result<Ruma<get_missing_events::v1::Response>, ApiError> {
    let wanted = hearth_rooms::peers::MissingEvents {
        room_id: request.room_id,
        earliest: request.earliest_events,
        latest: request.latest_events,
        limit: u32::try_from(u64::from(request.limit)).unwrap_or(u32::MAX),
        min_depth: i64::from(request.min_depth),
    };

    let events = rooms.missing_events_for(&origin, &wanted).await?;

    Ok(Ruma(get_missing_events::v1::Response::new(pdus(&events))))
}

/// `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`
async fn get_event_by_timestamp(
    State(rooms): State<Rooms>,
    Signed { origin, request }: Signed<get_event_by_timestamp::v1::Request>,
) -> Result<Ruma<get_event_by_timestamp::v1::Response>, ApiError> {
    let towards = match request.dir {
        Direction::Forward => Towards::Later,
        Direction::Backward => Towards::Earlier,
    };
    let ts = i64::from(request.ts.get());

    let event = rooms
        .closest_for(&origin, &request.room_id, ts, towards)
        .await?;

    Ok(Ruma(get_event_by_timestamp::v1::Response::new(
        event.pdu.event_id.clone(),
        event.pdu.origin_server_ts,
    )))
}
