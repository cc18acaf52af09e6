//! What clients learn about the server.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use hearth_core::{SUPPORTED_ROOM_VERSIONS, config::Config};
use ruma::api::client::discovery::{
    discover_homeserver::{self, HomeserverInfo},
    discover_support::{self, Contact, ContactRole},
    get_capabilities, get_supported_versions,
};
use serde_json::{Value, json};

use super::{ClientState, Requester};
use crate::http::{Api, ApiError, Ruma};

/// The versions of the specification that are claimed: up to the last one of which everything is served that it and those
/// before it added to the first. A test compares them with the routes.
///
/// The first one is claimed although parts of it are not served, since clients talk to no server that claims none.
const VERSIONS: [&str; 9] = [
    "r0.5.0", "r0.6.0", "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6",
];

/// Features of later versions that are served, under the names by which clients ask for them.
const UNSTABLE_FEATURES: [&str; 7] = [
    "org.matrix.msc3952_intentional_mentions",
    "org.matrix.msc3981",
    "org.matrix.msc4222",
    "uk.half-shot.msc2666.query_mutual_rooms",
    "uk.half-shot.msc2666.query_mutual_rooms.stable",
    "uk.tcpip.msc4133.stable",
    "uk.timedout.msc4323",
];

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(get_supported_versions)
        .endpoint(get_capabilities)
        .endpoint(discover_homeserver)
        .endpoint(discover_support)
}

/// `GET /_matrix/client/versions`
async fn get_supported_versions(
    _: Ruma<get_supported_versions::Request>,
) -> Result<Ruma<get_supported_versions::Response>, ApiError> {
    let versions = VERSIONS.map(str::to_owned).to_vec();
    let mut response = get_supported_versions::Response::new(versions);
    response.unstable_features = UNSTABLE_FEATURES
        .map(|feature| (feature.to_owned(), true))
        .into();

    Ok(Ruma(response))
}

/// `GET /_matrix/client/*/capabilities`
///
/// Written by hand, since `ruma` leaves out what is as clients assume.
async fn get_capabilities(
    State(config): State<Arc<Config>>,
    requester: Requester,
    _: Ruma<get_capabilities::v3::Request>,
) -> Result<Json<Value>, ApiError> {
    let stable = SUPPORTED_ROOM_VERSIONS.map(|version| (version, "stable"));
    let versions = BTreeMap::from(stable);
    let mut capabilities = json!({
        "m.change_password": { "enabled": true },
        "m.room_versions": {
            "default": config.rooms.default_version,
            "available": versions,
        },
        "m.set_displayname": { "enabled": true },
        "m.set_avatar_url": { "enabled": true },
        "m.profile_fields": { "enabled": true },
        "m.3pid_changes": { "enabled": false },
        "m.get_login_token": { "enabled": config.sessions.login_tokens },
        "m.forget_forced_upon_leave": { "enabled": false },
    });
    if requester.admin {
        capabilities["m.account_moderation"] = json!({ "suspend": true, "lock": true });
    }

    Ok(Json(json!({ "capabilities": capabilities })))
}

/// `GET /.well-known/matrix/client`
async fn discover_homeserver(
    State(config): State<Arc<Config>>,
    _: Ruma<discover_homeserver::Request>,
) -> Result<Ruma<discover_homeserver::Response>, ApiError> {
    // A guess would lead clients astray.
    let url = config.client_baseurl();
    let url = url.ok_or_else(|| ApiError::not_found("no address for clients is set"))?;
    let homeserver = HomeserverInfo::new(url.to_owned());

    Ok(Ruma(discover_homeserver::Response::new(homeserver)))
}

/// `GET /.well-known/matrix/support`
async fn discover_support(
    State(config): State<Arc<Config>>,
    _: Ruma<discover_support::Request>,
) -> Result<Ruma<discover_support::Response>, ApiError> {
    let support = &config.support;
    if support.contacts.is_empty() && support.page.is_none() {
        return Err(ApiError::not_found("nobody is named for support"));
    }
    let contacts = support.contacts.iter().filter_map(contact).collect();

    let mut response = discover_support::Response::with_contacts(contacts);
    response.support_page.clone_from(&support.page);
    Ok(Ruma(response))
}

fn contact(contact: &hearth_core::config::Contact) -> Option<Contact> {
    let role = ContactRole::from(contact.role.as_str());
    match (&contact.matrix_id, &contact.email_address) {
        (Some(id), email) => {
            let mut contact = Contact::with_matrix_id(role, id.clone());
            contact.email_address.clone_from(email);
            Some(contact)
        }
        (None, Some(email)) => Some(Contact::with_email_address(role, email.clone())),
        (None, None) => None,
    }
}
