//! Spaces, for other servers.

use axum::extract::State;
use hearth_rooms::Directory;
use ruma::{
    api::federation::space::{SpaceHierarchyParentSummary, get_hierarchy},
    serde::Raw,
};

use super::FederationState;
use crate::http::{Api, ApiError, Ruma, Signed};

/// The endpoints of this module.
pub(super) fn api() -> Api<FederationState> {
    Api::new().endpoint(get_hierarchy)
}

/// `GET /_matrix/federation/v1/hierarchy/{roomId}`
async fn get_hierarchy(
    State(directory): State<Directory>,
    Signed { origin, request }: Signed<get_hierarchy::v1::Request>,
) -> Result<Ruma<get_hierarchy::v1::Response>, ApiError> {
    let space = directory
        .space_for(&origin, &request.room_id, request.suggested_only)
        .await?
        .ok_or_else(|| ApiError::not_found("there is no such room for this server"))?;

    let children = space.room.children.into_iter();
    let children = children.map(|child| Raw::from_json(child.json)).collect();
    let room = SpaceHierarchyParentSummary::new(space.room.summary, children);
    let mut response = get_hierarchy::v1::Response::new(room);
    response.children = space.children;
    response.inaccessible_children = space.inaccessible;
    Ok(Ruma(response))
}
