//! Invites by e-mail address.

use axum::extract::State;
use hearth_rooms::{PartialInvite, Rooms};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue,
    api::federation::thirdparty::{
        bind_callback::{self, v1::ThirdPartyInvite},
        exchange_invite,
    },
    events::TimelineEventType,
};

use super::FederationState;
use crate::http::{Action, Api, ApiError, ClientAddress, RateLimits, Ruma, Signed};

/// The endpoints of this module.
pub(super) fn api() -> Api<FederationState> {
    Api::new().endpoint(exchange_invite).endpoint(bind_callback)
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

/// `PUT /_matrix/federation/v1/3pid/onbind`
async fn bind_callback(
    State(rooms): State<Rooms>,
    State(limits): State<RateLimits>,
    address: ClientAddress,
    Ruma(request): Ruma<bind_callback::v1::Request>,
) -> Result<Ruma<bind_callback::v1::Response>, ApiError> {
    limits.check_address(Action::Request, address)?;
    let invites = request.invites.into_iter().map(partial);
    let invites: Vec<PartialInvite> = invites.collect::<Result<_, _>>()?;

    rooms.take_bound(&request.mxid, invites).await?;

    Ok(Ruma(bind_callback::v1::Response::new()))
}

/// The member event that an identity server's notice stands for. What the address is called in the room is not in the
/// notice, and the address is not for all to see: so the user's id is the name.
fn partial(invite: ThirdPartyInvite) -> Result<PartialInvite, ApiError> {
    let signed: CanonicalJsonValue = serde_json::from_str(invite.signed.json().get())?;
    let third_party = CanonicalJsonObject::from([
        ("display_name".to_owned(), invite.mxid.as_str().into()),
        ("signed".to_owned(), signed),
    ]);
    let content = CanonicalJsonObject::from([
        ("membership".to_owned(), "invite".into()),
        (
            "third_party_invite".to_owned(),
            CanonicalJsonValue::Object(third_party),
        ),
    ]);
    Ok(PartialInvite {
        kind: TimelineEventType::RoomMember,
        room_id: invite.room_id,
        sender: invite.sender,
        state_key: invite.mxid,
        content,
    })
}
