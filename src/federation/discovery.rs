//! Who this server is, and the keys of servers.

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use hearth_core::{Clock, config::Config};
use hearth_federation::{
    Keys,
    keys::{KeyError, notary::MOST_SERVERS},
};
use ruma::{
    OwnedServerName,
    api::federation::discovery::{
        discover_homeserver, get_remote_server_keys, get_remote_server_keys_batch, get_server_keys,
        get_server_version,
    },
};

use super::FederationState;
use crate::http::{Action, Api, ApiError, ClientAddress, RateLimits, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<FederationState> {
    Api::new()
        .endpoint(discover_homeserver)
        .endpoint(get_server_version)
        .endpoint(get_server_keys)
        .endpoint(get_remote_server_keys)
        .endpoint(get_remote_server_keys_batch)
}

/// `GET /.well-known/matrix/server`
async fn discover_homeserver(
    State(config): State<Arc<Config>>,
    _: Ruma<discover_homeserver::Request>,
) -> Result<Ruma<discover_homeserver::Response>, ApiError> {
    let server = config.well_known.server.clone();
    let server = server.ok_or_else(|| ApiError::not_found("this server is where its name says"))?;

    Ok(Ruma(discover_homeserver::Response::new(server)))
}

/// `GET /_matrix/federation/v1/version`
async fn get_server_version(
    _: Ruma<get_server_version::v1::Request>,
) -> Result<Ruma<get_server_version::v1::Response>, ApiError> {
    let mut server = get_server_version::v1::Server::new();
    server.name = Some("Hearth".to_owned());
    server.version = Some(env!("CARGO_PKG_VERSION").to_owned());

    let mut response = get_server_version::v1::Response::new();
    response.server = Some(server);
    Ok(Ruma(response))
}

/// `GET /_matrix/key/v2/server`
async fn get_server_keys(
    State(keys): State<Keys>,
    _: Ruma<get_server_keys::v2::Request>,
) -> Result<Ruma<get_server_keys::v2::Response>, ApiError> {
    let published = keys.publish()?;

    Ok(Ruma(get_server_keys::v2::Response::new(published)))
}

/// `GET /_matrix/key/v2/query/{serverName}`
async fn get_remote_server_keys(
    State(keys): State<Keys>,
    State(limits): State<RateLimits>,
    address: ClientAddress,
    Ruma(request): Ruma<get_remote_server_keys::v2::Request>,
) -> Result<Ruma<get_remote_server_keys::v2::Response>, ApiError> {
    limits.check_address(Action::Request, address)?;
    let until = i64::from(request.minimum_valid_until_ts.get());
    let wanted = BTreeMap::from([(request.server_name, until)]);

    let answers = keys.notarize(&wanted).await?;

    Ok(Ruma(get_remote_server_keys::v2::Response::new(answers)))
}

/// `POST /_matrix/key/v2/query`
async fn get_remote_server_keys_batch(
    State(keys): State<Keys>,
    State(clock): State<Clock>,
    State(limits): State<RateLimits>,
    address: ClientAddress,
    Ruma(request): Ruma<get_remote_server_keys_batch::v2::Request>,
) -> Result<Ruma<get_remote_server_keys_batch::v2::Response>, ApiError> {
    limits.check_address(Action::Request, address)?;
    if request.server_keys.len() > MOST_SERVERS {
        return Err(ApiError::too_large(format!(
            "a request may ask about {MOST_SERVERS} servers"
        )));
    }
    let now = clock.millis();
    let wanted: BTreeMap<OwnedServerName, i64> = request
        .server_keys
        .into_iter()
        .map(|(server, keys)| {
            let times = keys.values().filter_map(|key| key.minimum_valid_until_ts);
            let until = times.map(|time| i64::from(time.get())).max();
            (server, until.unwrap_or(now))
        })
        .collect();

    let answers = keys.notarize(&wanted).await?;

    Ok(Ruma(get_remote_server_keys_batch::v2::Response::new(
        answers,
    )))
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Storage(error) => error.into(),
            KeyError::Signing(_) => Self::internal(error),
        }
    }
}
