//! Logging in and out.

mod login;

use std::sync::Arc;

use axum::extract::State;
use hearth_core::config::Config;
use hearth_users::{
    Accounts, Sessions, Uia,
    sessions::{RefreshError, SessionError},
};
use ruma::api::{
    client::session::{get_login_token, logout, logout_all, refresh_token},
    error::ErrorKind,
};

use super::{AnyRequester, ClientState, Requester, requester::locked};
use crate::http::{
    Action, Api, ApiError, ClientAddress, Interactive, RateLimits, Ruma, error::SoftLogout,
};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(get_login_token)
        .endpoint(refresh_token)
        .endpoint(logout)
        .endpoint(logout_all)
        .merge(login::api())
}

/// `POST /_matrix/client/*/login/get_token`
async fn get_login_token(
    State(accounts): State<Accounts>,
    State(uia): State<Uia>,
    State(config): State<Arc<Config>>,
    State(limits): State<RateLimits>,
    requester: Requester,
    request: Interactive<get_login_token::v1::Request>,
) -> Result<Ruma<get_login_token::v1::Response>, ApiError> {
    if !config.sessions.login_tokens {
        return Err(ApiError::unrecognized());
    }
    limits.check_user(Action::Login, requester.user_id())?;
    request.authenticate(&uia, &requester).await?;
    let token = accounts.create_login_token(requester.user).await?;

    Ok(Ruma(get_login_token::v1::Response::new(
        config.sessions.login_token_lifetime.duration(),
        token,
    )))
}

/// `POST /_matrix/client/*/refresh`
async fn refresh_token(
    State(sessions): State<Sessions>,
    State(limits): State<RateLimits>,
    address: ClientAddress,
    Ruma(request): Ruma<refresh_token::v3::Request>,
) -> Result<Ruma<refresh_token::v3::Response>, ApiError> {
    let opened = match sessions.refresh(&request.refresh_token).await {
        Ok(opened) => opened,
        Err(error) => {
            limits.check_address(Action::Login, address)?;
            return Err(error.into());
        }
    };

    let mut response = refresh_token::v3::Response::new(opened.access_token);
    response.refresh_token = opened.refresh_token;
    response.expires_in_ms = opened.expires_in;
    Ok(Ruma(response))
}

/// `POST /_matrix/client/*/logout`
async fn logout(
    State(sessions): State<Sessions>,
    AnyRequester(session): AnyRequester,
    _: Ruma<logout::v3::Request>,
) -> Result<Ruma<logout::v3::Response>, ApiError> {
    sessions.close(&session).await?;

    Ok(Ruma(logout::v3::Response::new()))
}

/// `POST /_matrix/client/*/logout/all`
async fn logout_all(
    State(sessions): State<Sessions>,
    AnyRequester(session): AnyRequester,
    _: Ruma<logout_all::v3::Request>,
) -> Result<Ruma<logout_all::v3::Response>, ApiError> {
    sessions.close_all(session.user, None).await?;

    Ok(Ruma(logout_all::v3::Response::new()))
}

impl From<RefreshError> for ApiError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Unknown => Self::unknown_token(SoftLogout::No),
            RefreshError::Expired => Self::unknown_token(SoftLogout::Yes),
            RefreshError::Locked => locked(),
            RefreshError::Storage(error) => error.into(),
        }
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NoAccount => Self::forbidden("there is no such account"),
            SessionError::InvalidDeviceId | SessionError::InvalidDisplayName => {
                Self::bad_request(ErrorKind::InvalidParam, error.to_string())
            }
            SessionError::Storage(error) => error.into(),
            SessionError::Journal(_) => Self::internal(error),
        }
    }
}
