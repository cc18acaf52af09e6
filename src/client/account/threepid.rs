//! E-mail addresses and phone numbers, which this server does not keep.

use http::StatusCode;
use ruma::api::{
    client::account::{
        request_password_change_token_via_email, request_password_change_token_via_msisdn,
        request_registration_token_via_email, request_registration_token_via_msisdn,
    },
    error::ErrorKind,
};

use crate::{
    client::ClientState,
    http::{Api, ApiError, Ruma},
};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(request_registration_token_via_email)
        .endpoint(request_registration_token_via_msisdn)
        .endpoint(request_password_change_token_via_email)
        .endpoint(request_password_change_token_via_msisdn)
}

/// `POST /_matrix/client/*/register/email/requestToken`
async fn request_registration_token_via_email(
    _: Ruma<request_registration_token_via_email::v3::Request>,
) -> Result<Ruma<request_registration_token_via_email::v3::Response>, ApiError> {
    Err(denied())
}

/// `POST /_matrix/client/*/register/msisdn/requestToken`
async fn request_registration_token_via_msisdn(
    _: Ruma<request_registration_token_via_msisdn::v3::Request>,
) -> Result<Ruma<request_registration_token_via_msisdn::v3::Response>, ApiError> {
    Err(denied())
}

/// `POST /_matrix/client/*/account/password/email/requestToken`
async fn request_password_change_token_via_email(
    _: Ruma<request_password_change_token_via_email::v3::Request>,
) -> Result<Ruma<request_password_change_token_via_email::v3::Response>, ApiError> {
    Err(not_found())
}

/// `POST /_matrix/client/*/account/password/msisdn/requestToken`
async fn request_password_change_token_via_msisdn(
    _: Ruma<request_password_change_token_via_msisdn::v3::Request>,
) -> Result<Ruma<request_password_change_token_via_msisdn::v3::Response>, ApiError> {
    Err(not_found())
}

fn denied() -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        ErrorKind::ThreepidDenied,
        "this server registers nobody by an address or a number",
    )
}

fn not_found() -> ApiError {
    ApiError::bad_request(
        ErrorKind::ThreepidNotFound,
        "no account has this address or number",
    )
}
