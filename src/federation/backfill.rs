//! The history of rooms that another server is in.

use std::sync::Arc;

use axum::extract::State;
use hearth_core::{Clock, config::Config};
use hearth_rooms::Rooms;
use ruma::api::federation::backfill::get_backfill;

use super::{FederationState, membership::pdus};
use crate::http::{Api, ApiError, Ruma, Signed};

/// The endpoints of this module.
pub(super) fn api() -> Api<FederationState> {
    Api::new().endpoint(get_backfill)
}

/// `GET /_matrix/federation/v1/backfill/{roomId}`
async fn get_backfill(
    State(config): State<Arc<Config>>,
    State(clock): State<Clock>,
    State(rooms): State<Rooms>,
    Signed { origin, request }: Signed<get_backfill::v1::Request>,
) -> Result<Ruma<get_backfill::v1::Response>, ApiError> {
    let limit = usize::try_from(u64::from(request.limit)).unwrap_or(usize::MAX);

    let events = rooms
        .history_for(&origin, &request.room_id, &request.v, limit)
        .await?;

    Ok(Ruma(get_backfill::v1::Response::new(
        config.server_name.clone(),
        clock.now(),
        pdus(&events),
    )))
}
