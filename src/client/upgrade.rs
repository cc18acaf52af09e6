//! Replacing rooms by newer ones.

use axum::extract::State;
use hearth_rooms::{Upgrade, UpgradeError};
use hearth_users::Profiles;
use ruma::api::client::room::upgrade_room;

use super::{
    ClientState, Requester,
    room::{Arrivals, member},
    room_error::no_such_room,
};
use crate::http::{Api, ApiError, RateLimits, Ruma, limit::Action};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new().endpoint(upgrade_room)
}

/// `POST /_matrix/client/*/rooms/{roomId}/upgrade`
async fn upgrade_room(
    State(arrivals): State<Arrivals>,
    State(profiles): State<Profiles>,
    State(limits): State<RateLimits>,
    requester: Requester,
    Ruma(request): Ruma<upgrade_room::v3::Request>,
) -> Result<Ruma<upgrade_room::v3::Response>, ApiError> {
    requester.refuse_suspended()?;
    limits.check_user(Action::Join, requester.user_id())?;
    let room = arrivals.rooms.find(&request.room_id).await?;
    let room = room.ok_or_else(no_such_room)?;
    let upgrade = Upgrade {
        creator: member(&arrivals.rooms, &profiles, requester.user_id()).await?,
        version: request.new_version,
        additional_creators: request.additional_creators,
    };

    let replacement = arrivals.rooms.upgrade(&room, upgrade).await?;
    arrivals.take_along(&requester, &replacement).await;

    Ok(Ruma(upgrade_room::v3::Response::new(replacement)))
}

impl From<UpgradeError> for ApiError {
    fn from(error: UpgradeError) -> Self {
        match error {
            UpgradeError::Forbidden => Self::forbidden("you cannot upgrade this room"),
            UpgradeError::Create(error) => error.into(),
            UpgradeError::Event(error) => error.into(),
        }
    }
}
