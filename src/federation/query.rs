//! Questions about rooms and users of this server.

use std::sync::Arc;

use axum::extract::State;
use hearth_core::config::Config;
use hearth_rooms::Directory;
use hearth_users::{Accounts, Profiles};
use ruma::api::federation::query::{
    get_custom_information, get_profile_information, get_room_information,
};

use super::FederationState;
use crate::http::{Api, ApiError, Ruma, Signed};

/// The endpoints of this module.
pub(super) fn api() -> Api<FederationState> {
    Api::new()
        .endpoint(get_room_information)
        .endpoint(get_profile_information)
        .endpoint(get_custom_information)
}

/// `GET /_matrix/federation/v1/query/directory`
async fn get_room_information(
    State(config): State<Arc<Config>>,
    State(directory): State<Directory>,
    Signed { request, .. }: Signed<get_room_information::v1::Request>,
) -> Result<Ruma<get_room_information::v1::Response>, ApiError> {
    if request.room_alias.server_name() != config.server_name {
        return Err(ApiError::not_found("the alias belongs to another server"));
    }
    let resolved = directory.resolve(&request.room_alias).await?;

    Ok(Ruma(get_room_information::v1::Response::new(
        resolved.room_id,
        resolved.servers,
    )))
}

/// `GET /_matrix/federation/v1/query/profile`
async fn get_profile_information(
    State(accounts): State<Accounts>,
    State(profiles): State<Profiles>,
    Signed { request, .. }: Signed<get_profile_information::v1::Request>,
) -> Result<Ruma<get_profile_information::v1::Response>, ApiError> {
    let account = accounts.find(&request.user_id).await?;
    let account = account.ok_or_else(|| ApiError::not_found("there is no such profile"))?;

    let mut fields = profiles.list(account.user).await?;

    if let Some(field) = &request.field {
        fields.retain(|key, _| key == field.as_str());
    }
    Ok(Ruma(fields.into_iter().collect()))
}

/// `GET /_matrix/federation/v1/query/{queryType}`
///
/// The types that there are have endpoints of their own; another server learns that we know no other.
async fn get_custom_information(
    Signed { .. }: Signed<get_custom_information::v1::Request>,
) -> Result<Ruma<get_custom_information::v1::Response>, ApiError> {
    Err(ApiError::unrecognized())
}
