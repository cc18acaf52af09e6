//! Finding users, and the rooms that one shares with them.

use axum::extract::State;
use hearth_users::{
    UserDirectory,
    user_directory::{MutualRooms, MutualRoomsError},
};
use ruma::{
    UInt,
    api::client::{membership::get_mutual_rooms, user_directory::search_users},
};

use super::{ClientState, Requester};
use crate::http::{Api, ApiError, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(search_users)
        .endpoint(get_mutual_rooms)
        .endpoint(get_mutual_rooms_unstable)
}

/// `POST /_matrix/client/*/user_directory/search`
async fn search_users(
    State(directory): State<UserDirectory>,
    requester: Requester,
    Ruma(request): Ruma<search_users::v3::Request>,
) -> Result<Ruma<search_users::v3::Response>, ApiError> {
    let limit = usize::try_from(u64::from(request.limit)).unwrap_or(usize::MAX);

    let results = directory
        .search(requester.user, &request.search_term, limit)
        .await?;

    let users = results.users.into_iter().map(|found| {
        let mut user = search_users::v3::User::new(found.user_id);
        user.display_name = found.display_name;
        user.avatar_url = found.avatar_url;
        user
    });
    let response = search_users::v3::Response::new(users.collect(), results.limited);
    Ok(Ruma(response))
}

/// `GET /_matrix/client/v1/mutual_rooms`
async fn get_mutual_rooms(
    State(directory): State<UserDirectory>,
    requester: Requester,
    Ruma(request): Ruma<get_mutual_rooms::v1::Request>,
) -> Result<Ruma<get_mutual_rooms::v1::Response>, ApiError> {
    let from = request.from.as_deref();

    let MutualRooms { count, rooms, next } = directory
        .mutual_rooms(requester.user, &request.user_id, from)
        .await?;

    let count = UInt::try_from(count).unwrap_or(UInt::MAX);
    let mut response = get_mutual_rooms::v1::Response::new(count, rooms);
    response.next_batch = next;
    Ok(Ruma(response))
}

/// `GET /_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms`
async fn get_mutual_rooms_unstable(
    State(directory): State<UserDirectory>,
    requester: Requester,
    Ruma(request): Ruma<get_mutual_rooms::unstable::Request>,
) -> Result<Ruma<get_mutual_rooms::unstable::Response>, ApiError> {
    let from = request.from.as_deref();

    let found = directory
        .mutual_rooms(requester.user, &request.user_id, from)
        .await?;

    let mut response = get_mutual_rooms::unstable::Response::new(found.rooms);
    response.next_batch = found.next;
    Ok(Ruma(response))
}

impl From<MutualRoomsError> for ApiError {
    fn from(error: MutualRoomsError) -> Self {
        match error {
            MutualRoomsError::Oneself | MutualRoomsError::BadToken => {
                Self::invalid_param(error.to_string())
            }
            MutualRoomsError::Storage(error) => error.into(),
        }
    }
}
