//! Account data.

use axum::{Json, extract::State};
use hearth_core::RoomNid;
use hearth_push::{PushRules, rules::content_of};
use hearth_rooms::Rooms;
use hearth_users::{
    AccountData,
    account_data::{GLOBAL, Key, SetError},
};
use http::StatusCode;
use ruma::{
    RoomId,
    api::{
        client::config::{
            get_global_account_data, get_room_account_data, set_global_account_data,
            set_room_account_data,
        },
        error::ErrorKind,
    },
};
use serde_json::value::{RawValue, to_raw_value};

use super::{ClientState, Requester, room_error::no_such_room};
use crate::http::{Api, ApiError, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(get_global_account_data)
        .endpoint(set_global_account_data)
        .endpoint(get_room_account_data)
        .endpoint(set_room_account_data)
}

/// `GET /_matrix/client/*/user/{userId}/account_data/{type}`
async fn get_global_account_data(
    State(account_data): State<AccountData>,
    State(rules): State<PushRules>,
    requester: Requester,
    Ruma(request): Ruma<get_global_account_data::v3::Request>,
) -> Result<Json<Box<RawValue>>, ApiError> {
    requester.refuse_other(&request.user_id)?;
    let kind = request.event_type.to_string();
    if kind == "m.push_rules" {
        // Users who never changed their rules have some nevertheless.
        let rules = rules.find(requester.user, requester.user_id()).await?;
        return Ok(Json(to_raw_value(&content_of(&rules))?));
    }

    find(&account_data, &requester, GLOBAL, &kind).await
}

/// `PUT /_matrix/client/*/user/{userId}/account_data/{type}`
async fn set_global_account_data(
    State(account_data): State<AccountData>,
    requester: Requester,
    Ruma(request): Ruma<set_global_account_data::v3::Request>,
) -> Result<Ruma<set_global_account_data::v3::Response>, ApiError> {
    requester.refuse_other(&request.user_id)?;
    let kind = request.event_type.to_string();
    let key = key(&requester, GLOBAL, &kind);

    account_data.set(key, request.data.json()).await?;

    Ok(Ruma(set_global_account_data::v3::Response::new()))
}

/// `GET /_matrix/client/*/user/{userId}/rooms/{roomId}/account_data/{type}`
async fn get_room_account_data(
    State(account_data): State<AccountData>,
    State(rooms): State<Rooms>,
    requester: Requester,
    Ruma(request): Ruma<get_room_account_data::v3::Request>,
) -> Result<Json<Box<RawValue>>, ApiError> {
    requester.refuse_other(&request.user_id)?;
    let room = known(&rooms, &request.room_id).await?;

    let kind = request.event_type.to_string();
    find(&account_data, &requester, room, &kind).await
}

/// `PUT /_matrix/client/*/user/{userId}/rooms/{roomId}/account_data/{type}`
async fn set_room_account_data(
    State(account_data): State<AccountData>,
    State(rooms): State<Rooms>,
    requester: Requester,
    Ruma(request): Ruma<set_room_account_data::v3::Request>,
) -> Result<Ruma<set_room_account_data::v3::Response>, ApiError> {
    requester.refuse_other(&request.user_id)?;
    let kind = request.event_type.to_string();
    AccountData::check(&kind)?;
    let room = known(&rooms, &request.room_id).await?;
    let key = key(&requester, room, &kind);

    account_data.set(key, request.data.json()).await?;

    Ok(Ruma(set_room_account_data::v3::Response::new()))
}

async fn find(
    account_data: &AccountData,
    requester: &Requester,
    room: RoomNid,
    kind: &str,
) -> Result<Json<Box<RawValue>>, ApiError> {
    let content = account_data.find(key(requester, room, kind)).await?;
    content
        .map(Json)
        .ok_or_else(|| ApiError::not_found("there is no such account data"))
}

fn key<'a>(requester: &Requester, room: RoomNid, kind: &'a str) -> Key<'a> {
    Key {
        user: requester.user,
        room,
        kind,
    }
}

/// The number of a room that is known here.
pub(super) async fn known(rooms: &Rooms, room_id: &RoomId) -> Result<RoomNid, ApiError> {
    let room = rooms.find(room_id).await?;
    room.map(|room| room.nid).ok_or_else(no_such_room)
}

impl From<SetError> for ApiError {
    fn from(error: SetError) -> Self {
        match error {
            SetError::Managed(_) => Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorKind::BadJson,
                error.to_string(),
            ),
            SetError::TypeTooLong => Self::invalid_param(error.to_string()),
            SetError::Write(error) => error.into(),
        }
    }
}
