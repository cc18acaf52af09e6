//! Typing.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State},
};
use bytes::Bytes;
use hearth_rooms::Rooms;
use hearth_users::{Typing, typing::TypingError};
use ruma::{RoomId, UserId, api::client::typing::create_typing_event};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ClientState, Requester, room_error::not_in_room};
use crate::http::{Api, ApiError};

/// How long a user types that does not say how long.
const DEFAULT_TIMEOUT: u64 = 30_000;

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new().read_by_hand::<create_typing_event::v3::Request, _>(create_typing_event)
}

#[derive(Deserialize)]
struct Body {
    typing: bool,
    timeout: Option<u64>,
}

/// `PUT /_matrix/client/*/rooms/{roomId}/typing/{userId}`
///
/// Read by hand, because the time-out may be missing.
async fn create_typing_event(
    State(typing): State<Typing>,
    State(rooms): State<Rooms>,
    requester: Requester,
    Path((room_id, user_id)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let invalid = |error: ruma::IdParseError| ApiError::invalid_param(error.to_string());
    let room_id = RoomId::parse(room_id).map_err(invalid)?;
    requester.refuse_other(&UserId::parse(user_id).map_err(invalid)?)?;
    let body: Body = serde_json::from_slice(&body)?;
    let timeout = Duration::from_millis(body.timeout.unwrap_or(DEFAULT_TIMEOUT));
    let room = rooms.find(&room_id).await?.ok_or_else(not_in_room)?;

    typing
        .set(requester.user, room.nid, body.typing.then_some(timeout))
        .await?;

    Ok(Json(json!({})))
}

impl From<TypingError> for ApiError {
    fn from(error: TypingError) -> Self {
        match error {
            TypingError::NotJoined => not_in_room(),
            TypingError::Storage(error) => error.into(),
        }
    }
}
