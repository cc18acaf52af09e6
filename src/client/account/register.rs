//! Registering.

use axum::extract::State;
use hearth_store::registration_token::Validity;
use hearth_users::{
    Accounts, Sessions, Uia,
    accounts::{Kind, NewAccount, RegisterError},
    sessions::NewSession,
};
use http::StatusCode;
use ruma::api::{
    client::account::{
        check_registration_token_validity, get_username_availability,
        register::{self, LoginType, RegistrationKind},
    },
    error::ErrorKind,
};

use crate::{
    client::ClientState,
    http::{
        Action, Api, ApiError, ClientAddress, Interactive, RateLimits, Ruma, error::SoftLogout,
    },
};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(register)
        .endpoint(get_username_availability)
        .endpoint(check_registration_token_validity)
}

/// `POST /_matrix/client/*/register`
async fn register(
    State(accounts): State<Accounts>,
    State(sessions): State<Sessions>,
    State(uia): State<Uia>,
    State(limits): State<RateLimits>,
    address: ClientAddress,
    request: Interactive<register::v3::Request>,
) -> Result<Ruma<register::v3::Response>, ApiError> {
    let asked = request.peek()?;
    refuse_kind(&asked, &request)?;
    uia.check_registration_open().await?;
    if request.has_auth() {
        limits.check_address(Action::Registration, address)?;
    }
    if let Some(username) = &asked.username {
        accounts.check_available(username).await?;
    }
    let authenticated = request.authenticate_registration(&uia).await?;
    let request = authenticated.request;
    if authenticated.new_password.is_none() {
        let message = "password is missing";
        return Err(ApiError::bad_request(ErrorKind::MissingParam, message));
    }
    let new = NewAccount {
        username: request.username,
        password: authenticated.new_password,
        kind: Kind::User,
        registration_token: authenticated.registration_token,
    };
    let account = accounts.register(new).await?;

    let mut response = register::v3::Response::new(account.user_id);
    if !request.inhibit_login {
        let new = NewSession {
            user: account.user,
            device_id: request.device_id,
            display_name: request.initial_device_display_name,
            refreshable: request.refresh_token.into(),
        };
        let opened = sessions.open(&new).await?;
        response.access_token = Some(opened.access_token);
        response.device_id = Some(opened.device_id);
        response.refresh_token = opened.refresh_token;
        response.expires_in = opened.expires_in;
    }
    Ok(Ruma(response))
}

/// Refuses accounts of kinds that this server does not have.
fn refuse_kind(
    asked: &register::v3::Request,
    request: &Interactive<register::v3::Request>,
) -> Result<(), ApiError> {
    match asked.kind {
        RegistrationKind::User => {}
        RegistrationKind::Guest => {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                ErrorKind::GuestAccessForbidden,
                "guests are not admitted",
            ));
        }
        _ => return Err(ApiError::invalid_param("kind is neither user nor guest")),
    }
    match asked.login_type {
        // No application service is registered, so that no token can be one's.
        Some(LoginType::ApplicationService) => Err(if request.has_token() {
            ApiError::unknown_token(SoftLogout::No)
        } else {
            ApiError::missing_token()
        }),
        _ => Ok(()),
    }
}

/// `GET /_matrix/client/*/register/available`
async fn get_username_availability(
    State(accounts): State<Accounts>,
    State(limits): State<RateLimits>,
    address: ClientAddress,
    Ruma(request): Ruma<get_username_availability::v3::Request>,
) -> Result<Ruma<get_username_availability::v3::Response>, ApiError> {
    limits.check_address(Action::Login, address)?;
    accounts.check_available(&request.username).await?;

    Ok(Ruma(get_username_availability::v3::Response::new(true)))
}

/// `GET /_matrix/client/*/register/m.login.registration_token/validity`
async fn check_registration_token_validity(
    State(uia): State<Uia>,
    State(limits): State<RateLimits>,
    address: ClientAddress,
    Ruma(request): Ruma<check_registration_token_validity::v1::Request>,
) -> Result<Ruma<check_registration_token_validity::v1::Response>, ApiError> {
    limits.check_address(Action::Registration, address)?;
    let is_valid = uia.check_registration_token(&request.token).await? == Validity::Valid;

    Ok(Ruma(check_registration_token_validity::v1::Response::new(
        is_valid,
    )))
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::InvalidUsername(_) => {
                Self::bad_request(ErrorKind::InvalidUsername, error.to_string())
            }
            RegisterError::Taken => Self::bad_request(ErrorKind::UserInUse, error.to_string()),
            RegisterError::UnfitPassword => {
                Self::bad_request(ErrorKind::WeakPassword, error.to_string())
            }
            RegisterError::InvalidRegistrationToken => Self::forbidden(error.to_string()),
            RegisterError::Storage(error) => error.into(),
            RegisterError::Hash(_) => Self::internal(error),
        }
    }
}
