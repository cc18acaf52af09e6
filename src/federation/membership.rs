//! Joining, knocking, leaving, inviting, for users of other servers.

use std::sync::Arc;

use axum::extract::State;
use hearth_federation::Outbound;
use hearth_rooms::{
    Members, PeerError, RoomEvent, Rooms,
    residents::{Handshake, Invitation, Submission, TemplateRequest},
};
use http::Method;
use ruma::{
    EventId, OwnedUserId, RoomVersionId, ServerName,
    api::federation::membership::{
        RawStrippedState, create_invite, create_join_event, create_knock_event, create_leave_event,
        prepare_join_event, prepare_knock_event, prepare_leave_event,
    },
};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::FederationState;
use crate::http::{Action, Api, ApiError, Authentication, Paired, RateLimits, Ruma, Signed};

/// Before `send_join` and `send_leave` had a version 2. The specification has them no more; servers that find no version 2
/// ask here.
const SEND_JOIN_V1: &str = "/_matrix/federation/v1/send_join/{room_id}/{event_id}";
const SEND_LEAVE_V1: &str = "/_matrix/federation/v1/send_leave/{room_id}/{event_id}";

const SIGNED: Authentication = Authentication::ServerSignatures;

/// The endpoints of this module.
pub(super) fn api() -> Api<FederationState> {
    Api::new()
        .endpoint(prepare_join)
        .endpoint(create_join)
        .endpoint(prepare_knock)
        .endpoint(create_knock)
        .endpoint(prepare_leave)
        .endpoint(create_leave)
        .endpoint(create_invite)
        .endpoint(create_invite_v1)
        .route(Method::PUT, SEND_JOIN_V1, SIGNED, create_join_v1)
        .route(Method::PUT, SEND_LEAVE_V1, SIGNED, create_leave_v1)
}

/// `GET /_matrix/federation/v1/make_join/{roomId}/{userId}`
async fn prepare_join(
    State(rooms): State<Rooms>,
    Signed { origin, request }: Signed<prepare_join_event::v1::Request>,
) -> Result<Ruma<prepare_join_event::v1::Response>, ApiError> {
    let wanted = TemplateRequest {
        handshake: Handshake::Join,
        room_id: &request.room_id,
        user_id: &request.user_id,
        versions: &request.ver,
    };

    let template = rooms.make_template(&origin, wanted).await?;

    let mut response = prepare_join_event::v1::Response::new(template.event);
    response.room_version = template.version;
    Ok(Ruma(response))
}

/// `PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}`
async fn create_join(
    State(rooms): State<Rooms>,
    State(outbound): State<Outbound>,
    Signed { origin, request }: Signed<create_join_event::v2::Request>,
) -> Result<Ruma<create_join_event::v2::Response>, ApiError> {
    Ok(Ruma(take_join(&rooms, &outbound, &origin, request).await?))
}

/// `PUT /_matrix/federation/v1/send_join/{roomId}/{eventId}`
async fn create_join_v1(
    State(rooms): State<Rooms>,
    State(outbound): State<Outbound>,
    Signed { origin, request }: Signed<create_join_event::v2::Request>,
) -> Result<Paired<create_join_event::v2::Response>, ApiError> {
    let response = take_join(&rooms, &outbound, &origin, request).await?;

    Ok(Paired(response))
}

async fn take_join(
    rooms: &Rooms,
    outbound: &Outbound,
    origin: &ServerName,
    request: create_join_event::v2::Request,
) -> Result<create_join_event::v2::Response, ApiError> {
    let join = Submission {
        room_id: &request.room_id,
        event_id: &request.event_id,
        event: &request.pdu,
    };
    let members = match request.omit_members {
        true => Members::Few,
        false => Members::All,
    };

    let joined = rooms.accept_join(origin, join, members).await?;
    relay(outbound, rooms, &request.event_id, origin).await?;

    let mut state = create_join_event::v2::RoomState::new();
    state.state = pdus(&joined.state);
    state.auth_chain = pdus(&joined.auth_chain);
    state.event = Some(joined.event.pdu.json.clone());
    state.members_omitted = joined.members_omitted;
    let servers = joined.servers.iter().map(ToString::to_string);
    state.servers_in_room = joined.members_omitted.then(|| servers.collect());
    Ok(create_join_event::v2::Response::new(state))
}

/// `GET /_matrix/federation/v1/make_knock/{roomId}/{userId}`
async fn prepare_knock(
    State(rooms): State<Rooms>,
    Signed { origin, request }: Signed<prepare_knock_event::v1::Request>,
) -> Result<Ruma<prepare_knock_event::v1::Response>, ApiError> {
    let wanted = TemplateRequest {
        handshake: Handshake::Knock,
        room_id: &request.room_id,
        user_id: &request.user_id,
        versions: &request.ver,
    };

    let template = rooms.make_template(&origin, wanted).await?;

    let version = template
        .version
        .ok_or_else(|| ApiError::not_found("the room's version is not known"))?;
    let response = prepare_knock_event::v1::Response::new(version, template.event);
    Ok(Ruma(response))
}

/// `PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId}`
async fn create_knock(
    State(rooms): State<Rooms>,
    State(outbound): State<Outbound>,
    Signed { origin, request }: Signed<create_knock_event::v1::Request>,
) -> Result<Ruma<create_knock_event::v1::Response>, ApiError> {
    let knock = Submission {
        room_id: &request.room_id,
        event_id: &request.event_id,
        event: &request.pdu,
    };

    let told = rooms.accept_knock(&origin, knock).await?;
    relay(&outbound, &rooms, &request.event_id, &origin).await?;

    let told = pdus(&told).into_iter().map(RawStrippedState::Pdu);
    let response = create_knock_event::v1::Response::new(told.collect());
    Ok(Ruma(response))
}

/// `GET /_matrix/federation/v1/make_leave/{roomId}/{userId}`
async fn prepare_leave(
    State(rooms): State<Rooms>,
    Signed { origin, request }: Signed<prepare_leave_event::v1::Request>,
) -> Result<Ruma<prepare_leave_event::v1::Response>, ApiError> {
    let wanted = TemplateRequest {
        handshake: Handshake::Leave,
        room_id: &request.room_id,
        user_id: &request.user_id,
        versions: &[],
    };

    let template = rooms.make_template(&origin, wanted).await?;

    let response = prepare_leave_event::v1::Response::new(template.version, template.event);
    Ok(Ruma(response))
}

/// `PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}`
async fn create_leave(
    State(rooms): State<Rooms>,
    State(outbound): State<Outbound>,
    Signed { origin, request }: Signed<create_leave_event::v2::Request>,
) -> Result<Ruma<create_leave_event::v2::Response>, ApiError> {
    take_leave(&rooms, &outbound, &origin, request).await?;

    Ok(Ruma(create_leave_event::v2::Response::new()))
}

/// `PUT /_matrix/federation/v1/send_leave/{roomId}/{eventId}`
async fn create_leave_v1(
    State(rooms): State<Rooms>,
    State(outbound): State<Outbound>,
    Signed { origin, request }: Signed<create_leave_event::v2::Request>,
) -> Result<Paired<create_leave_event::v2::Response>, ApiError> {
    take_leave(&rooms, &outbound, &origin, request).await?;

    Ok(Paired(create_leave_event::v2::Response::new()))
}

async fn take_leave(
    rooms: &Rooms,
    outbound: &Outbound,
    origin: &ServerName,
    request: create_leave_event::v2::Request,
) -> Result<(), ApiError> {
    let leave = Submission {
        room_id: &request.room_id,
        event_id: &request.event_id,
        event: &request.pdu,
    };

    rooms.accept_leave(origin, leave).await?;
    relay(outbound, rooms, &request.event_id, origin).await
}

/// `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`
async fn create_invite(
    State(rooms): State<Rooms>,
    State(limits): State<RateLimits>,
    Signed { origin, request }: Signed<create_invite::v2::Request>,
) -> Result<Ruma<create_invite::v2::Response>, ApiError> {
    if let Some(invited) = invited(&request.event) {
        limits.check_user(Action::Invite, &invited)?;
    }
    let told = request.invite_room_state.iter().map(raw);
    let told: Vec<Box<RawValue>> = told.collect::<Result<_, _>>()?;
    let invitation = Invitation {
        room_id: &request.room_id,
        version: &request.room_version,
        event_id: &request.event_id,
        event: &request.event,
        room_state: &told,
    };

    let event = rooms.accept_invite(&origin, invitation).await?;

    Ok(Ruma(create_invite::v2::Response::new(event)))
}

/// `PUT /_matrix/federation/v1/invite/{roomId}/{eventId}`
///
/// It is for rooms of the versions 1 and 2, which are not supported.
async fn create_invite_v1(
    Signed { .. }: Signed<create_invite::v1::Request>,
) -> Result<Ruma<create_invite::v2::Response>, ApiError> {
    Err(PeerError::IncompatibleVersion(RoomVersionId::V1).into())
}

/// Tells the other servers in the room.
async fn relay(
    outbound: &Outbound,
    rooms: &Rooms,
    event_id: &EventId,
    origin: &ServerName,
) -> Result<(), ApiError> {
    let nids = rooms.events().nids(&[event_id]).await?;
    let Some(nid) = nids.get(event_id) else {
        return Ok(());
    };
    let event = rooms.events().get(*nid).await?;
    if let Some(room) = rooms.find_by_nid(event.room).await? {
        outbound.relay(&room, &event, origin).await?;
    }
    Ok(())
}

/// Who is invited by an event of which nothing was checked.
fn invited(event: &RawValue) -> Option<OwnedUserId> {
    #[derive(Deserialize)]
    struct Event {
        state_key: OwnedUserId,
    }
    let event: Event = serde_json::from_str(event.get()).ok()?;
    Some(event.state_key)
}

fn raw(state: &RawStrippedState) -> Result<Box<RawValue>, serde_json::Error> {
    to_raw_value(state)
}

/// Events as servers exchange them.
pub(super) fn pdus(events: &[Arc<RoomEvent>]) -> Vec<Box<RawValue>> {
    events.iter().map(|event| event.pdu.json.clone()).collect()
}
