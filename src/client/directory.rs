//! The list of published rooms.

use axum::{Json, extract::State};
use hearth_rooms::{
    Directory,
    directory::{Caller, ListError, ListQuery, PublicRooms, Publication},
};
use ruma::{
    OwnedRoomId, UInt,
    api::client::{
        directory::{
            get_public_rooms, get_public_rooms_filtered, get_room_visibility, set_room_visibility,
        },
        room::Visibility,
    },
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{ClientState, Requester, requester::Counted, room_error::no_such_room};
use crate::http::{Api, ApiError, Object, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(get_public_rooms)
        .endpoint(get_public_rooms_filtered)
        .endpoint(get_room_visibility)
        .read_by_hand::<set_room_visibility::v3::Request, _>(set_room_visibility)
}

/// A page of published rooms. `ruma` leaves the join rule of public rooms out, which clients of old miss.
#[derive(Serialize)]
struct Page {
    chunk: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_batch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_room_count_estimate: Option<UInt>,
}

impl Page {
    fn new(rooms: PublicRooms) -> Result<Self, ApiError> {
        let mut chunk = Vec::with_capacity(rooms.chunk.len());
        for room in &rooms.chunk {
            let mut entry = serde_json::to_value(room).map_err(ApiError::internal)?;
            entry["join_rule"] = room.join_rule.as_str().into();
            chunk.push(entry);
        }
        Ok(Self {
            chunk,
            next_batch: rooms.next_batch,
            prev_batch: rooms.prev_batch,
            total_room_count_estimate: rooms.total,
        })
    }
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
    _: Counted,
    Ruma(request): Ruma<get_public_rooms::v3::Request>,
) -> Result<Json<Page>, ApiError> {
    let query = ListQuery {
        limit: request.limit,
        since: request.since,
        ..ListQuery::default()
    };

    let page = directory
        .public_rooms(request.server.as_deref(), &query)
        .await?;

    Ok(Json(Page::new(page)?))
}

/// `POST /_matrix/client/*/publicRooms`
async fn get_public_rooms_filtered(
    State(directory): State<Directory>,
    _: Requester,
    Ruma(request): Ruma<get_public_rooms_filtered::v3::Request>,
) -> Result<Json<Page>, ApiError> {
    let query = ListQuery {
        limit: request.limit,
        since: request.since,
        filter: request.filter,
        network: request.room_network,
    };

    let page = directory
        .public_rooms(request.server.as_deref(), &query)
        .await?;

    Ok(Json(Page::new(page)?))
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
