//! Logging in.

use std::sync::Arc;

use axum::extract::State;
use hearth_core::config::Config;
use hearth_users::{
    Accounts, Sessions,
    accounts::{Account, LoginError},
    sessions::{NewSession, Standing},
};
use ruma::api::{
    client::{
        session::{
            get_login_types::{
                self,
                v3::{LoginType, PasswordLoginType, TokenLoginType},
            },
            login::{
                self,
                v3::{DiscoveryInfo, HomeserverInfo, LoginInfo, Password},
            },
        },
        uiaa::UserIdentifier,
    },
    error::ErrorKind,
};

use crate::{
    client::{ClientState, requester::locked},
    http::{Action, Api, ApiError, ClientAddress, Interactive, RateLimits, Ruma},
};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new().endpoint(get_login_types).endpoint(login)
}

/// `GET /_matrix/client/*/login`
async fn get_login_types(
    State(config): State<Arc<Config>>,
    _: Ruma<get_login_types::v3::Request>,
) -> Result<Ruma<get_login_types::v3::Response>, ApiError> {
    let mut flows = vec![LoginType::Password(PasswordLoginType::new())];
    if config.sessions.login_tokens {
        let mut by_token = TokenLoginType::new();
        by_token.get_login_token = true;
        flows.push(LoginType::Token(by_token));
    }

    Ok(Ruma(get_login_types::v3::Response::new(flows)))
}

/// `POST /_matrix/client/*/login`
///
/// There is nothing interactive about it, but `ruma` may be given only requests that have a `type`.
async fn login(
    State(config): State<Arc<Config>>,
    State(accounts): State<Accounts>,
    State(sessions): State<Sessions>,
    State(limits): State<RateLimits>,
    address: ClientAddress,
    request: Interactive<login::v3::Request>,
) -> Result<Ruma<login::v3::Response>, ApiError> {
    if !request.has_field("type") {
        let message = "type is missing";
        return Err(ApiError::bad_request(ErrorKind::MissingParam, message));
    }
    let asked = request.peek()?;
    limits.check_address(Action::Login, address)?;
    NewSession::check(
        asked.device_id.as_deref(),
        asked.initial_device_display_name.as_deref(),
    )?;
    let account = match asked.login_info {
        LoginInfo::Password(info) => by_password(&accounts, info, address).await?,
        LoginInfo::Token(info) => {
            if !config.sessions.login_tokens {
                return Err(unknown_type());
            }
            accounts.log_in_with_token(&info.token).await?
        }
        LoginInfo::ApplicationService(_) => return Err(refuse_appservice(&request)),
        _ => return Err(unknown_type()),
    };
    if account.standing == Standing::Locked {
        return Err(locked());
    }
    let new = NewSession {
        user: account.user,
        device_id: asked.device_id,
        display_name: asked.initial_device_display_name,
        refreshable: asked.refresh_token.into(),
    };
    let opened = sessions.open(&new).await?;

    let mut response =
        login::v3::Response::new(account.user_id, opened.access_token, opened.device_id);
    response.refresh_token = opened.refresh_token;
    response.expires_in = opened.expires_in;
    response.well_known = config
        .client_baseurl()
        .map(|url| DiscoveryInfo::new(HomeserverInfo::new(url.to_owned())));
    Ok(Ruma(response))
}

fn unknown_type() -> ApiError {
    ApiError::bad_request(ErrorKind::Unknown, "unknown login type")
}

async fn by_password(
    accounts: &Accounts,
    info: Password,
    address: ClientAddress,
) -> Result<Account, ApiError> {
    #[expect(deprecated, reason = "clients of old send it")]
    let user = info.user;
    let name = match (info.identifier, user) {
        (Some(UserIdentifier::Matrix(identifier)), _) => identifier.user,
        // There are no third-party identifiers, so that nobody is meant.
        (Some(identifier), _) => {
            return Err(match identifier.identifier_type() {
                "m.id.thirdparty" | "m.id.phone" => LoginError::WrongCredentials.into(),
                _ => ApiError::bad_request(ErrorKind::Unknown, "unknown type of identifier"),
            });
        }
        (None, Some(user)) => user,
        (None, None) => {
            let message = "identifier is missing";
            return Err(ApiError::bad_request(ErrorKind::MissingParam, message));
        }
    };
    Ok(accounts.log_in(&name, info.password, address.ip()).await?)
}

/// No application service is registered, so that no token can be one's.
fn refuse_appservice(request: &Interactive<login::v3::Request>) -> ApiError {
    if request.has_token() {
        ApiError::forbidden("the token is not one of an application service")
    } else {
        ApiError::missing_token()
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::WrongCredentials => Self::forbidden(error.to_string()),
            LoginError::Storage(error) => error.into(),
            LoginError::Hash(_) => Self::internal(error),
        }
    }
}
