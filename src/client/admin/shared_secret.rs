//! `/_synapse/admin/v1/register`: tools that know the server's secret make accounts, administrators among them.

use std::sync::Arc;

use axum::{Json, body::Bytes, extract::State};
use hearth_core::config::{Config, Secret};
use hearth_store::uia_session::Taken;
use hearth_users::{
    Accounts, Profiles, Sessions,
    accounts::{Kind, NewAccount, NewPassword},
    sessions::{NewSession, Refreshable},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{Method, StatusCode};
use ruma::api::error::ErrorKind;
use serde::Deserialize;
use serde_json::{Value, json};
use sha1::Sha1;
use subtle::ConstantTimeEq as _;

use crate::{
    client::ClientState,
    http::{Action, Api, ApiError, Authentication, ClientAddress, RateLimits},
};

const PATH: &str = "/_synapse/admin/v1/register";

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .route(Method::GET, PATH, Authentication::None, create_nonce)
        .route(Method::POST, PATH, Authentication::None, register)
}

/// What a tool sends.
#[derive(Deserialize)]
struct Request {
    nonce: String,
    username: String,
    password: String,
    mac: String,
    #[serde(default)]
    admin: bool,
    user_type: Option<String>,
    displayname: Option<String>,
    #[serde(default)]
    inhibit_login: bool,
}

/// `GET /_synapse/admin/v1/register`
async fn create_nonce(
    State(config): State<Arc<Config>>,
    State(accounts): State<Accounts>,
) -> Result<Json<Value>, ApiError> {
    secret(&config)?;
    let nonce = accounts.create_nonce().await?;

    Ok(Json(json!({ "nonce": nonce })))
}

/// `POST /_synapse/admin/v1/register`
async fn register(
    State(config): State<Arc<Config>>,
    State(accounts): State<Accounts>,
    State(sessions): State<Sessions>,
    State(profiles): State<Profiles>,
    (State(limits), address): (State<RateLimits>, ClientAddress),
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let secret = secret(&config)?;
    let request: Request = serde_json::from_slice(&body)?;
    check(&accounts, secret, &request, &limits, address).await?;
    let new = NewAccount {
        username: Some(request.username),
        password: Some(NewPassword::Plain(request.password)),
        kind: if request.admin {
            Kind::Admin
        } else {
            Kind::User
        },
        registration_token: None,
    };
    let account = accounts.register(new).await?;
    if let Some(name) = request.displayname {
        profiles
            .set(account.user, "displayname", &name.into())
            .await?;
    }
    let mut answer = json!({
        "user_id": account.user_id,
        "home_server": accounts.server_name(),
    });
    if !request.inhibit_login {
        let new = NewSession {
            user: account.user,
            device_id: None,
            display_name: None,
            refreshable: Refreshable::No,
        };
        let opened = sessions.open(&new).await?;
        answer["access_token"] = opened.access_token.into();
        answer["device_id"] = opened.device_id.as_str().into();
    }
    Ok(Json(answer))
}

fn secret(config: &Config) -> Result<&Secret, ApiError> {
    config
        .registration
        .shared_secret
        .as_ref()
        .ok_or_else(|| ApiError::bad_request(ErrorKind::Unknown, "no shared secret is configured"))
}

/// Checks that the tool knows the secret, and takes its nonce.
async fn check(
    accounts: &Accounts,
    secret: &Secret,
    request: &Request,
    limits: &RateLimits,
    address: ClientAddress,
) -> Result<(), ApiError> {
    if accounts.take_nonce(&request.nonce).await? == Taken::Gone {
        let message = "the nonce is unknown or too old";
        return Err(ApiError::bad_request(ErrorKind::Unknown, message));
    }
    let is_right: bool = mac(secret, request)
        .as_bytes()
        .ct_eq(request.mac.to_ascii_lowercase().as_bytes())
        .into();
    if is_right {
        return Ok(());
    }
    limits.check_address(Action::Login, address)?;
    let message = "the mac is wrong";
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        ErrorKind::Unknown,
        message,
    ))
}

/// HMAC-SHA1 of what is asked for, in hexadecimal digits.
fn mac(secret: &Secret, request: &Request) -> String {
    let role = if request.admin { "admin" } else { "notadmin" };
    let mut parts = vec![
        request.nonce.as_str(),
        &request.username,
        &request.password,
        role,
    ];
    parts.extend(request.user_type.as_deref());
    let mut mac =
        Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes()).expect("any length will do");
    mac.update(parts.join("\0").as_bytes());
    let bytes = mac.finalize().into_bytes();
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}
