//! Calls.

use std::sync::Arc;

use axum::{Json, extract::State};
use hearth_core::{Clock, config::Config};
use hearth_users::turn;
use ruma::api::client::voip::get_turn_server_info;
use serde_json::{Value, json};

use super::{ClientState, Requester};
use crate::http::{Api, ApiError, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new().endpoint(get_turn_server_info)
}

/// `GET /_matrix/client/*/voip/turnServer`
///
/// Without a TURN server the object is empty, as clients expect it.
async fn get_turn_server_info(
    State(config): State<Arc<Config>>,
    State(clock): State<Clock>,
    requester: Requester,
    _: Ruma<get_turn_server_info::v3::Request>,
) -> Result<Json<Value>, ApiError> {
    let voip = &config.voip;
    let Some(secret) = &voip.turn_shared_secret else {
        return Ok(Json(json!({})));
    };
    let lifetime = voip.user_lifetime.duration().as_secs();
    let expires_at = (clock.millis() / 1000).saturating_add_unsigned(lifetime);
    let credentials = turn::credentials(secret.expose(), requester.user_id(), expires_at);

    Ok(Json(json!({
        "username": credentials.username,
        "password": credentials.password,
        "uris": voip.turn_uris,
        "ttl": lifetime,
    })))
}
