//! Finding users, and the rooms that one shares with them.

use std::sync::Arc;

use axum::extract::State;
use hearth_core::RoomNid;
use hearth_rooms::{Room, Rooms, Snapshot};
use hearth_users::{
    UserDirectory,
    user_directory::{MutualRooms, MutualRoomsError, PublicRooms},
};
use ruma::{
    UInt,
    api::client::{membership::get_mutual_rooms, user_directory::search_users},
    events::{StateEventType, room::history_visibility::HistoryVisibility},
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
    State(rooms): State<Rooms>,
    requester: Requester,
    Ruma(request): Ruma<search_users::v3::Request>,
) -> Result<Ruma<search_users::v3::Response>, ApiError> {
    let limit = usize::try_from(u64::from(request.limit)).unwrap_or(usize::MAX);

    let results = directory
        .search(requester.user, &request.search_term, limit, &Public(rooms))
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

/// The rooms that anybody may join or read.
struct Public(Rooms);

impl PublicRooms for Public {
    async fn filter(&self, rooms: Vec<RoomNid>) -> sqlx::Result<Vec<RoomNid>> {
        let Self(service) = self;
        let found: Vec<Arc<Room>> = service.find_by_nids(&rooms).await?.into_values().collect();
        let currents = service.currents(&found).await?;
        let (visibility, rule) = (
            StateEventType::RoomHistoryVisibility.to_string(),
            StateEventType::RoomJoinRules.to_string(),
        );
        let snapshots: Vec<_> = currents
            .values()
            .map(|current| Arc::clone(&current.snapshot))
            .collect();
        // What is looked at below is in memory then.
        service
            .load_state(&snapshots, &[(&visibility, ""), (&rule, "")])
            .await?;
        let mut public = Vec::new();
        for room in found {
            let Some(current) = currents.get(&room.nid) else {
                continue;
            };
            if self.is_public(&room, &current.snapshot).await? {
                public.push(room.nid);
            }
        }
        Ok(public)
    }
}

impl Public {
    async fn is_public(&self, room: &Room, state: &Snapshot) -> sqlx::Result<bool> {
        let Self(rooms) = self;
        let visibility = rooms.history_visibility(state).await?;
        let rule = rooms.join_rule(room, state).await?;
        Ok(visibility == HistoryVisibility::WorldReadable || rule.is_public())
    }
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
