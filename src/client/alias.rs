//! Names of rooms.

use axum::extract::State;
use hearth_rooms::{Directory, directory::AliasError, peers::RemoteError};
use http::StatusCode;
use ruma::api::{
    client::{
        alias::{create_alias, delete_alias, get_alias},
        room::aliases,
    },
    error::ErrorKind,
};

use super::{ClientState, Requester, directory::caller, requester::Counted};
use crate::http::{Api, ApiError, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(create_alias)
        .endpoint(get_alias)
        .endpoint(delete_alias)
        .endpoint(aliases)
}

/// `PUT /_matrix/client/*/directory/room/{roomAlias}`
async fn create_alias(
    State(directory): State<Directory>,
    requester: Requester,
    Ruma(request): Ruma<create_alias::v3::Request>,
) -> Result<Ruma<create_alias::v3::Response>, ApiError> {
    requester.refuse_suspended()?;
    directory
        .bind(&request.room_alias, &request.room_id, caller(&requester))
        .await?;

    Ok(Ruma(create_alias::v3::Response::new()))
}

/// `GET /_matrix/client/*/directory/room/{roomAlias}`
async fn get_alias(
    State(directory): State<Directory>,
    _: Counted,
    Ruma(request): Ruma<get_alias::v3::Request>,
) -> Result<Ruma<get_alias::v3::Response>, ApiError> {
    let resolved = directory.resolve(&request.room_alias).await?;

    Ok(Ruma(get_alias::v3::Response::new(
        resolved.room_id,
        resolved.servers,
    )))
}

/// `DELETE /_matrix/client/*/directory/room/{roomAlias}`
async fn delete_alias(
    State(directory): State<Directory>,
    requester: Requester,
    Ruma(request): Ruma<delete_alias::v3::Request>,
) -> Result<Ruma<delete_alias::v3::Response>, ApiError> {
    directory
        .unbind(&request.room_alias, caller(&requester))
        .await?;

    Ok(Ruma(delete_alias::v3::Response::new()))
}

/// `GET /_matrix/client/*/rooms/{roomId}/aliases`
async fn aliases(
    State(directory): State<Directory>,
    requester: Requester,
    Ruma(request): Ruma<aliases::v3::Request>,
) -> Result<Ruma<aliases::v3::Response>, ApiError> {
    let aliases = directory
        .aliases(&request.room_id, caller(&requester))
        .await?;

    Ok(Ruma(aliases::v3::Response::new(aliases)))
}

impl From<AliasError> for ApiError {
    fn from(error: AliasError) -> Self {
        match error {
            AliasError::NotLocal => Self::invalid_param("the alias belongs to another server"),
            AliasError::AlreadyBound => Self::new(
                StatusCode::CONFLICT,
                ErrorKind::Unknown,
                "the alias is in use",
            ),
            AliasError::NotFound => Self::not_found("there is no such room here"),
            AliasError::Malformed => {
                Self::invalid_param("the alias has characters that no alias may have")
            }
            AliasError::Forbidden(reason) => Self::forbidden(reason),
            AliasError::Remote(error) => error.into(),
            AliasError::Room(error) => error.into(),
        }
    }
}

impl From<RemoteError> for ApiError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Unknown => Self::not_found("the other server is not known here"),
            RemoteError::Unreachable => Self::new(
                StatusCode::BAD_GATEWAY,
                ErrorKind::Unknown,
                "the other server does not answer",
            ),
            RemoteError::Refused => Self::forbidden("the other server refuses to answer"),
        }
    }
}
