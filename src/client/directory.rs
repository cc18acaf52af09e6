//! The list of published rooms.

use axum::{Json, extract::State};
use hearth_rooms::{
    Directory,
    directory::{Caller, ListError, ListQuery, Publication},
};
use http::Method;
use ruma::{
    OwnedRoomId,
    api::{
        Metadata as _,
        client::{
            directory::{
                get_public_rooms, get_public_rooms_filtered, get_room_visibility,
                set_room_visibility,
            },
            room::Visibility,
        },
        path_builder::PathBuilder as _,
    },
};
use serde_json::{Map, Value};

use super::{ClientState, Requester, room_error::no_such_room};
use crate::http::{Api, ApiError, Authentication, Object, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    let api = Api::new()
        .endpoint(get_public_rooms)
        .endpoint(get_public_rooms_filtered)
        .endpoint(get_room_visibility);
    let token = Authentication::AccessToken;
    let paths = set_room_visibility::v3::Request::PATH_BUILDER;
    paths.all_paths().fold(api, |api, path| {
        api.route(Method::PUT, path, token, set_room_visibility)
    })
}

/// The requester, as the directory sees him.
pub(super) fn caller(requester: &Requester) -> Caller<'_> {
    Caller {
        user_id: requester.user_id(),
        is_admin: requester.admin,
    }
}

/// `GET /_matrix/client/*/publicRooms`
async fn get_public_rooms(
    State(directory): State<Directory>,
    Ruma(request): Ruma<get_public_rooms::v3::Request>,
) -> Result<Ruma<get_public_rooms::v3::Response>, ApiError> {
    let query = ListQuery {
        limit: request.limit,
        since: request.since,
        ..ListQuery::default()
    };

    let page = directory
        .public_rooms(request.server.as_deref(), &query)
        .await?;

    let mut response = get_public_rooms::v3::Response::new(page.chunk);
    response.next_batch = page.next_batch;
    response.prev_batch = page.prev_batch;
    response.total_room_count_estimate = page.total;
    Ok(Ruma(response))
}

/// `POST /_matrix/client/*/publicRooms`
async fn get_public_rooms_filtered(
    State(directory): State<Directory>,
    _: Requester,
    Ruma(request): Ruma<get_public_rooms_filtered::v3::Request>,
) -> Result<Ruma<get_public_rooms_filtered::v3::Response>, ApiError> {
    let query = ListQuery {
        limit: request.limit,
        since: request.since,
        filter: request.filter,
        network: request.room_network,
    };

    let page = directory
        .public_rooms(request.server.as_deref(), &query)
        .await?;

    let mut response = get_public_rooms_filtered::v3::Response::new();
    response.chunk = page.chunk;
    response.next_batch = page.next_batch;
    response.prev_batch = page.prev_batch;
    response.total_room_count_estimate = page.total;
    Ok(Ruma(response))
}

/// `GET /_matrix/client/*/directory/list/room/{roomId}`
async fn get_room_visibility(
    State(directory): State<Directory>,
    Ruma(request): Ruma<get_room_visibility::v3::Request>,
) -> Result<Ruma<get_room_visibility::v3::Response>, ApiError> {
    let publication = directory.publication(&request.room_id).await?;
    let visibility = match publication.ok_or_else(no_such_room)? {
        Publication::Public => Visibility::Public,
        Publication::Private => Visibility::Private,
    };

    Ok(Ruma(get_room_visibility::v3::Response::new(visibility)))
}

/// `PUT /_matrix/client/*/directory/list/room/{roomId}`
///
/// Not read by `ruma`, which wants a visibility; without one the room becomes public.
async fn set_room_visibility(
    State(directory): State<Directory>,
    requester: Requester,
    request: Object,
) -> Result<Json<Map<String, Value>>, ApiError> {
    requester.refuse_suspended()?;
    let room_id: OwnedRoomId = request.argument(0)?;
    let publication = match request.body.get("visibility").map(Value::as_str) {
        None | Some(Some("public")) => Publication::Public,
        Some(Some("private")) => Publication::Private,
        Some(_) => {
            return Err(ApiError::invalid_param(
                "`visibility` is `public` or `private`",
            ));
        }
    };

    directory
        .publish(&room_id, publication, caller(&requester))
        .await?;

    Ok(Json(Map::new()))
}

impl From<ListError> for ApiError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::BadToken => Self::invalid_param("`since` is no token of this server"),
            ListError::Remote(error) => error.into(),
            ListError::Storage(error) => error.into(),
        }
    }
}
