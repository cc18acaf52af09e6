//! What administrators do to accounts.

mod server_notice;
mod shared_secret;

use axum::extract::State;
use hearth_store::{account::Moderation, device::DeviceRow};
use hearth_users::{Accounts, Devices, accounts::ModerationError};
use ruma::{
    MilliSecondsSinceUnixEpoch, UInt,
    api::{
        client::admin::{
            get_user_info::{
                self,
                v3::{ConnectionInfo, DeviceInfo, SessionInfo},
            },
            is_user_locked, is_user_suspended, lock_user, suspend_user,
        },
        error::ErrorKind,
    },
};

use super::{ClientState, Requester};
use crate::http::{Api, ApiError, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(get_user_info)
        .endpoint(is_user_locked)
        .endpoint(lock_user)
        .endpoint(is_user_suspended)
        .endpoint(suspend_user)
        .merge(server_notice::api())
        .merge(shared_secret::api())
}

/// `GET /_matrix/client/*/admin/whois/{userId}`
async fn get_user_info(
    State(accounts): State<Accounts>,
    State(devices): State<Devices>,
    requester: Requester,
    Ruma(request): Ruma<get_user_info::v3::Request>,
) -> Result<Ruma<get_user_info::v3::Response>, ApiError> {
    if !requester.admin {
        requester.refuse_other(&request.user_id)?;
    }
    let account = accounts.find(&request.user_id).await?;
    let account = account.ok_or_else(|| ApiError::not_found("there is no such user"))?;
    let devices = devices.list(account.user).await?;

    let mut response = get_user_info::v3::Response::new();
    response.user_id = Some(account.user_id);
    response.devices = devices.into_iter().map(device_info).collect();
    Ok(Ruma(response))
}

fn device_info(device: DeviceRow) -> (String, DeviceInfo) {
    let mut connection = ConnectionInfo::new();
    connection.ip = device.last_seen_ip;
    connection.last_seen = device.last_seen_ts.and_then(timestamp);
    connection.user_agent = device.last_seen_user_agent;
    let mut session = SessionInfo::new();
    session.connections = vec![connection];
    let mut info = DeviceInfo::new();
    info.sessions = vec![session];
    (device.device_id, info)
}

/// A time of the database as it is on the wire.
pub(super) fn timestamp(millis: i64) -> Option<MilliSecondsSinceUnixEpoch> {
    UInt::try_from(millis).ok().map(MilliSecondsSinceUnixEpoch)
}

/// `GET /_matrix/client/*/admin/lock/{userId}`
async fn is_user_locked(
    State(accounts): State<Accounts>,
    requester: Requester,
    Ruma(request): Ruma<is_user_locked::v1::Request>,
) -> Result<Ruma<is_user_locked::v1::Response>, ApiError> {
    let found = accounts
        .find_moderation(&requester, &request.user_id)
        .await?;

    let locked = found.locked.unwrap_or_default();
    Ok(Ruma(is_user_locked::v1::Response::new(locked)))
}

/// `PUT /_matrix/client/*/admin/lock/{userId}`
async fn lock_user(
    State(accounts): State<Accounts>,
    requester: Requester,
    Ruma(request): Ruma<lock_user::v1::Request>,
) -> Result<Ruma<lock_user::v1::Response>, ApiError> {
    let moderation = Moderation {
        locked: Some(request.locked),
        suspended: None,
    };
    accounts
        .moderate(&requester, &request.user_id, moderation)
        .await?;

    Ok(Ruma(lock_user::v1::Response::new(request.locked)))
}

/// `GET /_matrix/client/*/admin/suspend/{userId}`
async fn is_user_suspended(
    State(accounts): State<Accounts>,
    requester: Requester,
    Ruma(request): Ruma<is_user_suspended::v1::Request>,
) -> Result<Ruma<is_user_suspended::v1::Response>, ApiError> {
    let found = accounts
        .find_moderation(&requester, &request.user_id)
        .await?;

    let suspended = found.suspended.unwrap_or_default();
    Ok(Ruma(is_user_suspended::v1::Response::new(suspended)))
}

/// `PUT /_matrix/client/*/admin/suspend/{userId}`
async fn suspend_user(
    State(accounts): State<Accounts>,
    requester: Requester,
    Ruma(request): Ruma<suspend_user::v1::Request>,
) -> Result<Ruma<suspend_user::v1::Response>, ApiError> {
    let moderation = Moderation {
        locked: None,
        suspended: Some(request.suspended),
    };
    accounts
        .moderate(&requester, &request.user_id, moderation)
        .await?;

    Ok(Ruma(suspend_user::v1::Response::new(request.suspended)))
}

impl From<ModerationError> for ApiError {
    fn from(error: ModerationError) -> Self {
        match error {
            ModerationError::NotAdmin | ModerationError::IsAdmin => {
                Self::forbidden(error.to_string())
            }
            ModerationError::NotLocal => {
                Self::bad_request(ErrorKind::InvalidParam, error.to_string())
            }
            ModerationError::NotFound => Self::not_found(error.to_string()),
            ModerationError::Storage(error) => error.into(),
        }
    }
}
