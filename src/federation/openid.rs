//! Whom a token stands for that a user of this server gave to a third party.

use axum::extract::State;
use hearth_users::OpenIds;
use ruma::api::federation::openid::get_openid_userinfo;

use super::FederationState;
use crate::http::{Api, ApiError, Ruma, error::SoftLogout};

/// The endpoints of this module.
pub(super) fn api() -> Api<FederationState> {
    Api::new().endpoint(get_openid_userinfo)
}

/// `GET /_matrix/federation/v1/openid/userinfo`
async fn get_openid_userinfo(
    State(openids): State<OpenIds>,
    Ruma(request): Ruma<get_openid_userinfo::v1::Request>,
) -> Result<Ruma<get_openid_userinfo::v1::Response>, ApiError> {
    let user = openids.find(&request.access_token).await?;
    let user = user.ok_or_else(|| ApiError::unknown_token(SoftLogout::No))?;

    Ok(Ruma(get_openid_userinfo::v1::Response::new(user)))
}
