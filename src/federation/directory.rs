//! The list of published rooms, for other servers.

use axum::extract::State;
use hearth_rooms::{
    Directory,
    directory::{ListQuery, PublicRooms},
};
use ruma::api::federation::directory::{get_public_rooms, get_public_rooms_filtered};

use super::FederationState;
use crate::http::{Api, ApiError, Ruma, Signed};

/// The endpoints of this module.
pub(super) fn api() -> Api<FederationState> {
    Api::new()
        .endpoint(get_public_rooms)
        .endpoint(get_public_rooms_filtered)
}

/// `GET /_matrix/federation/v1/publicRooms`
async fn get_public_rooms(
    State(directory): State<Directory>,
    Signed { request, .. }: Signed<get_public_rooms::v1::Request>,
) -> Result<Ruma<get_public_rooms::v1::Response>, ApiError> {
    let query = ListQuery {
        limit: request.limit,
        since: request.since,
        network: request.room_network,
        ..ListQuery::default()
    };

    let PublicRooms {
        chunk,
        next_batch,
        prev_batch,
        total,
    } = directory.public_rooms(None, &query).await?;

    let mut response = get_public_rooms::v1::Response::new();
    response.chunk = chunk;
    response.next_batch = next_batch;
    response.prev_batch = prev_batch;
    response.total_room_count_estimate = total;
    Ok(Ruma(response))
}

/// `POST /_matrix/federation/v1/publicRooms`
async fn get_public_rooms_filtered(
    State(directory): State<Directory>,
    Signed { request, .. }: Signed<get_public_rooms_filtered::v1::Request>,
) -> Result<Ruma<get_public_rooms_filtered::v1::Response>, ApiError> {
    let query = ListQuery {
        limit: request.limit,
        since: request.since,
        filter: request.filter,
        network: request.room_network,
    };

    let page = directory.public_rooms(None, &query).await?;

    let mut response = get_public_rooms_filtered::v1::Response::new();
    response.chunk = page.chunk;
    response.next_batch = page.next_batch;
    response.prev_batch = page.prev_batch;
    response.total_room_count_estimate = page.total;
    Ok(Ruma(response))
}
