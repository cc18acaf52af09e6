//! What authorises events.

use axum::extract::State;
use hearth_rooms::Rooms;
use ruma::api::federation::authorization::get_event_authorization;

use super::{FederationState, membership::pdus};
use crate::http::{Api, ApiError, Ruma, Signed};

/// The endpoints of this module.
pub(super) fn api() -> Api<FederationState> {
    Api::new().endpoint(get_event_authorization)
}

/// `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`
async fn get_event_authorization(
    State(rooms): State<Rooms>,
    Signed { origin, request }: Signed<get_event_authorization::v1::Request>,
) -> Result<Ruma<get_event_authorization::v1::Response>, ApiError> {
    let chain = rooms
        .auth_chain_for(&origin, &request.room_id, &request.event_id)
        .await?;

    Ok(Ruma(get_event_authorization::v1::Response::new(pdus(
        &chain,
    ))))
}
