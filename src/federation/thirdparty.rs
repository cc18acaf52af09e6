//! Invites by e-mail address.

use axum::extract::State;
use hearth_rooms::{PartialInvite, Rooms};
use ruma::api::federation::thirdparty::exchange_invite;

use super::FederationState;
use crate::http::{Api, ApiError, Ruma, Signed};

/// The endpoints of this module.
pub(super) fn api() -> Api<FederationState> {
    Api::new().endpoint(exchange_invite)
}

/// `PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}`
async fn exchange_invite(
    State(rooms): State<Rooms>,
    Signed { origin, request }: Signed<exchange_invite::v1::Request>,
) -> Result<Ruma<exchange_invite::v1::Response>, ApiError> {
    let invite = PartialInvite {
        kind: request.kind.to_string().into(),
        room_id: request.room_id,
        sender: request.sender,
        state_key: request.state_key,
        content: serde_json::from_str(request.content.json().get())?,
    };

    rooms.exchange_invite(&origin, invite).await?;

    Ok(Ruma(exchange_invite::v1::Response::new()))
}
