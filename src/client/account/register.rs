//! Registering.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRef, State},
    response::{IntoResponse as _, Response},
};
use hearth_core::config::Config;
use hearth_store::registration_token::Validity;
use hearth_users::{
    Accounts, Session, Sessions, Uia,
    accounts::{Account, Kind, NewAccount, RegisterError},
    sessions::{NewSession, Refreshable},
};
use http::StatusCode;
use ruma::api::{
    client::account::{
        check_registration_token_validity, get_username_availability,
        register::{self, LoginType, RegistrationKind},
    },
    error::ErrorKind,
};
use serde_json::json;

use crate::{
    client::ClientState,
    http::{
        Action, Api, ApiError, Authenticated, ClientAddress, Interactive, RateLimits, Ruma,
        error::SoftLogout,
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
    State(services): State<Registering>,
    State(uia): State<Uia>,
    State(limits): State<RateLimits>,
    address: ClientAddress,
    request: Interactive<register::v3::Request>,
) -> Result<Response, ApiError> {
    let asked = request.peek()?;
    if asked.kind == RegistrationKind::Guest {
        limits.check_address(Action::Registration, address)?;
        check_device(&asked)?;
        return services.register_guest(asked).await;
    }
    refuse_kind(&asked, &request)?;
    uia.check_registration_open().await?;
    // Even the first request costs a hash of the password.
    let action = match request.has_auth() {
        true => Action::Registration,
        false => Action::Login,
    };
    limits.check_address(action, address)?;
    check_device(&asked)?;
    let guest = services.guest(&asked).await?;
    if let (Some(username), None) = (&asked.username, &guest) {
        services.accounts.check_available(username).await?;
    }
    let authenticated = request.authenticate_registration(&uia).await?;
    services.register(authenticated, guest).await
}

/// What it takes to make an account and a session.
#[derive(Clone, Debug)]
struct Registering {
    config: Arc<Config>,
    accounts: Accounts,
    sessions: Sessions,
}

impl FromRef<ClientState> for Registering {
    fn from_ref(state: &ClientState) -> Self {
        Self {
            config: Arc::clone(&state.config),
            accounts: state.accounts.clone(),
            sessions: state.sessions.clone(),
        }
    }
}

impl Registering {
    /// Makes an account for somebody who was let in, or an ordinary user of a guest.
    async fn register(
        &self,
        authenticated: Authenticated<register::v3::Request>,
        guest: Option<Arc<Session>>,
    ) -> Result<Response, ApiError> {
        let request = authenticated.request;
        let Some(password) = authenticated.new_password else {
            let message = "password is missing";
            return Err(ApiError::bad_request(ErrorKind::MissingParam, message));
        };
        let account = if let Some(guest) = guest {
            self.accounts.upgrade_guest(&guest, password).await?
        } else {
            let new = NewAccount {
                username: request.username,
                password: Some(password),
                kind: Kind::User,
                registration_token: authenticated.registration_token,
            };
            self.accounts.register(new).await?
        };
        if request.inhibit_login {
            // `ruma` would write that the device is `null`.
            return Ok(Json(json!({ "user_id": account.user_id })).into_response());
        }
        let new = NewSession {
            user: account.user,
            device_id: request.device_id,
            display_name: request.initial_device_display_name,
            refreshable: request.refresh_token.into(),
        };
        self.log_in(account, &new).await
    }

    /// Makes a guest, of whose request nothing counts but the name of the device.
    async fn register_guest(&self, request: register::v3::Request) -> Result<Response, ApiError> {
        if !self.config.registration.guests {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                ErrorKind::GuestAccessForbidden,
                "guests are not admitted",
            ));
        }
        let new = NewAccount {
            kind: Kind::Guest,
            ..NewAccount::default()
        };
        let account = self.accounts.register(new).await?;
        let new = NewSession {
            user: account.user,
            device_id: None,
            display_name: request.initial_device_display_name,
            refreshable: Refreshable::No,
        };
        self.log_in(account, &new).await
    }

    async fn log_in(&self, account: Account, new: &NewSession) -> Result<Response, ApiError> {
        let opened = self.sessions.open(new).await?;

        let mut response = register::v3::Response::new(account.user_id);
        response.access_token = Some(opened.access_token);
        response.device_id = Some(opened.device_id);
        response.refresh_token = opened.refresh_token;
        response.expires_in = opened.expires_in;
        Ok(Ruma(response).into_response())
    }

    /// The guest who wants to become an ordinary user, and who must say its name.
    async fn guest(&self, asked: &register::v3::Request) -> Result<Option<Arc<Session>>, ApiError> {
        let Some(token) = &asked.guest_access_token else {
            return Ok(None);
        };
        let guest = self.sessions.authenticate(token).await?;
        if !guest.guest {
            return Err(RegisterError::NoGuest.into());
        }
        match asked.username.as_deref() {
            Some(name) if name == guest.user_id.localpart() => Ok(Some(guest)),
            Some(_) | None => Err(ApiError::invalid_param(
                "`username` must be that of the guest",
            )),
        }
    }
}

/// Refuses a device that no session could be opened with, before there is an account.
fn check_device(asked: &register::v3::Request) -> Result<(), ApiError> {
    let device_id = asked.device_id.as_deref();
    NewSession::check(device_id, asked.initial_device_display_name.as_deref())?;
    Ok(())
}

/// Refuses accounts of kinds that this server does not have.
fn refuse_kind(
    asked: &register::v3::Request,
    request: &Interactive<register::v3::Request>,
) -> Result<(), ApiError> {
    if asked.kind != RegistrationKind::User {
        return Err(ApiError::invalid_param("kind is neither user nor guest"));
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
            RegisterError::NoGuest | RegisterError::InvalidRegistrationToken => {
                Self::forbidden(error.to_string())
            }
            RegisterError::Storage(error) => error.into(),
            RegisterError::Hash(_) => Self::internal(error),
        }
    }
}
