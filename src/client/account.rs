//! Registering, and what users do with their accounts.

mod register;
mod threepid;

use std::time::Duration;

use axum::extract::State;
use hearth_rooms::Departures;
use hearth_store::account::Erase;
use hearth_users::{
    Accounts, OpenIds, Uia,
    accounts::{ChangeError, OtherDevices},
    openid,
};
use ruma::{
    api::{
        client::account::{
            ThirdPartyIdRemovalStatus, change_password, deactivate, request_openid_token, whoami,
        },
        error::ErrorKind,
    },
    authentication::TokenType,
};

use super::{ClientState, Requester};
use crate::http::{Api, ApiError, Interactive, Ruma};

/// How long a client waits for its user to leave all rooms.
const DEPARTURE: Duration = Duration::from_secs(10);

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(whoami)
        .endpoint(change_password)
        .endpoint(deactivate)
        .endpoint(request_openid_token)
        .merge(register::api())
        .merge(threepid::api())
}

/// `GET /_matrix/client/*/account/whoami`
async fn whoami(
    requester: Requester,
    _: Ruma<whoami::v3::Request>,
) -> Result<Ruma<whoami::v3::Response>, ApiError> {
    let user_id = requester.user_id().to_owned();
    let mut response = whoami::v3::Response::new(user_id, requester.guest);
    response.device_id = requester.device_id().map(ToOwned::to_owned);

    Ok(Ruma(response))
}

/// `POST /_matrix/client/*/account/password`
async fn change_password(
    State(accounts): State<Accounts>,
    State(uia): State<Uia>,
    requester: Requester,
    request: Interactive<change_password::v3::Request>,
) -> Result<Ruma<change_password::v3::Response>, ApiError> {
    let authenticated = request.authenticate(&uia, &requester).await?;
    let password = authenticated
        .new_password
        .ok_or_else(|| ApiError::bad_request(ErrorKind::MissingParam, "new_password is missing"))?;
    let others = if authenticated.request.logout_devices {
        OtherDevices::LogOut
    } else {
        OtherDevices::Keep
    };
    accounts
        .change_password(&requester, password, others)
        .await?;

    Ok(Ruma(change_password::v3::Response::new()))
}

/// `POST /_matrix/client/*/account/deactivate`
async fn deactivate(
    State(accounts): State<Accounts>,
    State(departures): State<Departures>,
    State(uia): State<Uia>,
    requester: Requester,
    request: Interactive<deactivate::v3::Request>,
) -> Result<Ruma<deactivate::v3::Response>, ApiError> {
    let request = request.authenticate(&uia, &requester).await?.request;
    let erase = if request.erase { Erase::Yes } else { Erase::No };
    accounts.deactivate(requester.user, erase).await?;
    departures.depart(requester.user, DEPARTURE).await;

    // There are no third-party identifiers, hence none that stayed bound.
    let unbound = ThirdPartyIdRemovalStatus::Success;
    Ok(Ruma(deactivate::v3::Response::new(unbound)))
}

/// `POST /_matrix/client/*/user/{userId}/openid/request_token`
async fn request_openid_token(
    State(openids): State<OpenIds>,
    State(accounts): State<Accounts>,
    requester: Requester,
    Ruma(request): Ruma<request_openid_token::v3::Request>,
) -> Result<Ruma<request_openid_token::v3::Response>, ApiError> {
    requester.refuse_other(&request.user_id)?;
    let token = openids.create(requester.user).await?;

    Ok(Ruma(request_openid_token::v3::Response::new(
        token,
        TokenType::Bearer,
        accounts.server_name().to_owned(),
        Duration::from_secs(openid::LIFETIME.as_secs()),
    )))
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::UnfitPassword => {
                Self::bad_request(ErrorKind::WeakPassword, error.to_string())
            }
            ChangeError::Storage(error) => error.into(),
            ChangeError::Session(error) => error.into(),
            ChangeError::Hash(_) | ChangeError::Journal(_) => Self::internal(error),
        }
    }
}
