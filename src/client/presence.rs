//! Presence.

use axum::extract::State;
use hearth_store::intern::Interner;
use hearth_users::{Presence, presence::PresenceError};
use ruma::api::client::presence::{get_presence, set_presence};

use super::{ClientState, Requester};
use crate::http::{Api, ApiError, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new().endpoint(get_presence).endpoint(set_presence)
}

/// `GET /_matrix/client/*/presence/{userId}/status`
async fn get_presence(
    State(presence): State<Presence>,
    State(interner): State<Interner>,
    requester: Requester,
    Ruma(request): Ruma<get_presence::v3::Request>,
) -> Result<Ruma<get_presence::v3::Response>, ApiError> {
    let user = interner.find_user(&request.user_id).await?;
    let user = user.ok_or(PresenceError::NotShared)?;

    let status = presence.get(requester.user, user).await?;

    let mut response = get_presence::v3::Response::new(status.state);
    response.status_msg = status.status_msg;
    response.currently_active = status.currently_active;
    response.last_active_ago = status.last_active_ago;
    Ok(Ruma(response))
}

/// `PUT /_matrix/client/*/presence/{userId}/status`
async fn set_presence(
    State(presence): State<Presence>,
    requester: Requester,
    Ruma(request): Ruma<set_presence::v3::Request>,
) -> Result<Ruma<set_presence::v3::Response>, ApiError> {
    requester.refuse_other(&request.user_id)?;
    let status = request.status_msg.as_deref();

    presence.set(requester.user, &request.presence, status)?;

    Ok(Ruma(set_presence::v3::Response::new()))
}

impl From<PresenceError> for ApiError {
    fn from(error: PresenceError) -> Self {
        match error {
            PresenceError::NotShared => Self::forbidden(error.to_string()),
            PresenceError::UnknownState => Self::invalid_param(error.to_string()),
            PresenceError::Storage(error) => error.into(),
        }
    }
}
