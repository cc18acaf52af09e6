//! Tags of rooms.

use axum::extract::State;
use hearth_rooms::Rooms;
use hearth_users::{RoomTags, tags::TagError};
use ruma::api::client::tag::{create_tag, delete_tag, get_tags};

use super::{ClientState, Requester, config::known};
use crate::http::{Api, ApiError, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(get_tags)
        .endpoint(create_tag)
        .endpoint(delete_tag)
}

/// `GET /_matrix/client/*/user/{userId}/rooms/{roomId}/tags`
async fn get_tags(
    State(tags): State<RoomTags>,
    State(rooms): State<Rooms>,
    requester: Requester,
    Ruma(request): Ruma<get_tags::v3::Request>,
) -> Result<Ruma<get_tags::v3::Response>, ApiError> {
    requester.refuse_other(&request.user_id)?;
    let room = known(&rooms, &request.room_id).await?;

    let tags = tags.list(requester.user, room).await?;

    Ok(Ruma(get_tags::v3::Response::new(tags)))
}

/// `PUT /_matrix/client/*/user/{userId}/rooms/{roomId}/tags/{tag}`
async fn create_tag(
    State(tags): State<RoomTags>,
    State(rooms): State<Rooms>,
    requester: Requester,
    Ruma(request): Ruma<create_tag::v3::Request>,
) -> Result<Ruma<create_tag::v3::Response>, ApiError> {
    requester.refuse_other(&request.user_id)?;
    let room = known(&rooms, &request.room_id).await?;

    let (name, info) = (&request.tag, &request.tag_info);
    tags.set(requester.user, room, name, info).await?;

    Ok(Ruma(create_tag::v3::Response::new()))
}

/// `DELETE /_matrix/client/*/user/{userId}/rooms/{roomId}/tags/{tag}`
async fn delete_tag(
    State(tags): State<RoomTags>,
    State(rooms): State<Rooms>,
    requester: Requester,
    Ruma(request): Ruma<delete_tag::v3::Request>,
) -> Result<Ruma<delete_tag::v3::Response>, ApiError> {
    requester.refuse_other(&request.user_id)?;
    let room = known(&rooms, &request.room_id).await?;

    tags.remove(requester.user, room, &request.tag).await?;

    Ok(Ruma(delete_tag::v3::Response::new()))
}

impl From<TagError> for ApiError {
    fn from(error: TagError) -> Self {
        match error {
            TagError::NameTooLong | TagError::TooMany => Self::invalid_param(error.to_string()),
            TagError::Write(error) => error.into(),
        }
    }
}
