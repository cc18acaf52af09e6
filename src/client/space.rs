//! Spaces, and what is told of rooms without going in.

use axum::extract::State;
use hearth_rooms::{
    Directory,
    directory::{HierarchyError, HierarchyQuery, SpaceRoom},
};
use http::Method;
use ruma::{
    api::{
        client::{
            room::get_summary,
            space::{SpaceHierarchyRoomsChunk, get_hierarchy},
        },
        error::ErrorKind,
    },
    serde::Raw,
};

use super::{ClientState, OptionalRequester, Requester, room_error::no_such_room};
use crate::http::{Api, ApiError, Authentication, Ruma};

/// The path of a summary in the last revision of MSC3266 before it was accepted.
const UNSTABLE_SUMMARY: &str =
    "/_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}";

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    let optional = Authentication::AccessTokenOptional;
    Api::new()
        .endpoint(get_hierarchy)
        .endpoint(get_summary)
        .route(Method::GET, UNSTABLE_SUMMARY, optional, get_summary)
}

/// `GET /_matrix/client/*/rooms/{roomId}/hierarchy`
async fn get_hierarchy(
    State(directory): State<Directory>,
    requester: Requester,
    Ruma(request): Ruma<get_hierarchy::v1::Request>,
) -> Result<Ruma<get_hierarchy::v1::Response>, ApiError> {
    let query = HierarchyQuery {
        root: request.room_id,
        suggested_only: request.suggested_only,
        limit: request.limit.map(u64::from),
        max_depth: request.max_depth.map(u64::from),
        from: request.from,
    };

    let page = directory.hierarchy(&query, requester.user_id()).await?;

    let mut response = get_hierarchy::v1::Response::new();
    response.rooms = page.rooms.into_iter().map(chunk).collect();
    response.next_batch = page.next_batch;
    Ok(Ruma(response))
}

fn chunk(room: SpaceRoom) -> SpaceHierarchyRoomsChunk {
    let children = room.children.into_iter();
    let children = children.map(|child| Raw::from_json(child.json));
    SpaceHierarchyRoomsChunk::new(room.summary, children.collect())
}

/// `GET /_matrix/client/*/room_summary/{roomIdOrAlias}`
async fn get_summary(
    State(directory): State<Directory>,
    OptionalRequester(requester): OptionalRequester,
    Ruma(request): Ruma<get_summary::v1::Request>,
) -> Result<Ruma<get_summary::v1::Response>, ApiError> {
    let user = requester.as_ref().map(Requester::user_id);
    let (summary, membership) = directory
        .summary(&request.room_id_or_alias, &request.via, user)
        .await?
        .ok_or_else(no_such_room)?;

    let mut response = get_summary::v1::Response::new(summary);
    response.membership = user.map(|_| membership);
    Ok(Ruma(response))
}

impl From<HierarchyError> for ApiError {
    fn from(error: HierarchyError) -> Self {
        match error {
            HierarchyError::Forbidden => Self::forbidden("you are not allowed to view this room"),
            HierarchyError::BadLimit | HierarchyError::BadToken | HierarchyError::OtherWalk => {
                Self::bad_request(ErrorKind::InvalidParam, error.to_string())
            }
            HierarchyError::Storage(error) => error.into(),
        }
    }
}
