//! Everything of a user at once, as it was asked for before `/sync`.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use hearth_sync::{
    Sync,
    initial::{Archived, InitialSync},
};
use http::Method;
use serde::Deserialize;

use super::{ClientState, reader::Reader};
use crate::http::{Api, ApiError, api::Authentication};

/// Where it is; `ruma` does not know it any more.
const PATHS: [&str; 2] = [
    "/_matrix/client/r0/initialSync",
    "/_matrix/client/v3/initialSync",
];

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    let token = Authentication::AccessToken;
    PATHS.into_iter().fold(Api::new(), |api, path| {
        api.route(Method::GET, path, token, initial_sync)
    })
}

#[derive(Debug, Deserialize)]
struct InitialSyncQuery {
    limit: Option<usize>,
    #[serde(default)]
    archived: bool,
}

/// `GET /_matrix/client/*/initialSync`
async fn initial_sync(
    State(sync): State<Sync>,
    Reader(reader): Reader,
    query: Result<Query<InitialSyncQuery>, QueryRejection>,
) -> Result<Json<InitialSync>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let archived = match query.archived {
        true => Archived::Included,
        false => Archived::Left,
    };

    let everything = sync.initial(reader, query.limit, archived).await?;

    Ok(Json(everything))
}
