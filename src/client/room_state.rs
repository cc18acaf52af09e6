//! The state of a room, and its members.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use hearth_core::token::PageToken;
use hearth_rooms::{Receiver, Room, RoomEvent, Rooms, Snapshot, View, membership_of};
use ruma::{
    OwnedUserId,
    api::client::{
        membership::{get_member_events, joined_members},
        state::{
            get_state_event_for_key::{self, v3::StateEventFormat},
            get_state_events,
        },
    },
    events::{TimelineEventType, room::member::MembershipState},
};
use serde::{Deserialize, Serialize};

use super::{
    ClientState,
    reader::{Reader, raws, token, view},
    room_error::not_in_room,
};
use crate::http::{Api, ApiError, Ruma};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(get_state_events)
        .endpoint(get_state_event_for_key)
        .endpoint(get_member_events)
        .endpoint(joined_members)
}

/// `GET /_matrix/client/*/rooms/{roomId}/state`
async fn get_state_events(
    State(rooms): State<Rooms>,
    Reader(reader): Reader,
    Ruma(request): Ruma<get_state_events::v3::Request>,
) -> Result<Ruma<get_state_events::v3::Response>, ApiError> {
    let (_, view) = view(&rooms, &reader, &request.room_id).await?;

    let events = rooms.state_events(&view.state).await?;

    let events = raws(&rooms.plain(events));
    Ok(Ruma(get_state_events::v3::Response::new(events)))
}

/// `GET /_matrix/client/*/rooms/{roomId}/state/{eventType}/{stateKey}`
async fn get_state_event_for_key(
    State(rooms): State<Rooms>,
    Reader(reader): Reader,
    Ruma(request): Ruma<get_state_event_for_key::v3::Request>,
) -> Result<Ruma<get_state_event_for_key::v3::Response>, ApiError> {
    let (_, view) = view(&rooms, &reader, &request.room_id).await?;

    let event = rooms
        .state_event(&view.state, &request.event_type, &request.state_key)
        .await?
        .ok_or_else(|| ApiError::not_found("the room has no such state"))?;

    let answer = match request.format {
        StateEventFormat::Event => match rooms.plain(vec![event]).first() {
            Some(event) => event.to_raw(),
            None => return Err(ApiError::not_found("the room has no such state")),
        },
        StateEventFormat::Content | _ => event.pdu.content.clone(),
    };
    Ok(Ruma(get_state_event_for_key::v3::Response::new(answer)))
}

/// `GET /_matrix/client/*/rooms/{roomId}/members`
async fn get_member_events(
    State(rooms): State<Rooms>,
    Reader(reader): Reader,
    Ruma(request): Ruma<get_member_events::v3::Request>,
) -> Result<Ruma<get_member_events::v3::Response>, ApiError> {
    let (room, view) = view(&rooms, &reader, &request.room_id).await?;
    let state = match token(request.at.as_deref())? {
        Some(at) => state_at(&rooms, &room, &view, &reader, at).await?,
        None => view.state,
    };

    let mut members = members(&rooms, &state).await?;

    let (is, is_not) = (request.membership, request.not_membership);
    members.retain(|event| {
        let membership = membership_of(event);
        (is.is_none() && is_not.is_none())
            || is.as_ref().is_some_and(|is| *is == membership)
            || is_not.as_ref().is_some_and(|is_not| *is_not != membership)
    });
    let members = raws(&rooms.plain(members));
    Ok(Ruma(get_member_events::v3::Response::new(members)))
}

/// Who is in a room. What a member has not set is `null`, which `ruma` would leave out.
#[derive(Serialize)]
struct JoinedMembers {
    joined: BTreeMap<OwnedUserId, Profile>,
}

/// How a member is shown.
#[derive(Default, Deserialize, Serialize)]
struct Profile {
    #[serde(rename(serialize = "display_name"))]
    displayname: Option<String>,
    avatar_url: Option<String>,
}

/// `GET /_matrix/client/*/rooms/{roomId}/joined_members`
async fn joined_members(
    State(rooms): State<Rooms>,
    Reader(reader): Reader,
    Ruma(request): Ruma<joined_members::v3::Request>,
) -> Result<Json<JoinedMembers>, ApiError> {
    let (_, view) = view(&rooms, &reader, &request.room_id).await?;
    if view.membership != MembershipState::Join {
        return Err(not_in_room());
    }

    let members = members(&rooms, &view.state).await?;

    let joined = members
        .iter()
        .filter(|event| membership_of(event) == MembershipState::Join)
        .filter_map(|event| {
            let user = event.pdu.state_key.as_deref()?.try_into().ok()?;
            Some((user, event.pdu.content_as().unwrap_or_default()))
        });
    Ok(Json(JoinedMembers {
        joined: joined.collect(),
    }))
}

/// The state at a token, but not after the reader left, nor before he came when he may not see what was there then.
async fn state_at(
    rooms: &Rooms,
    room: &Room,
    view: &View,
    reader: &Receiver,
    at: PageToken,
) -> Result<Arc<Snapshot>, ApiError> {
    let order = match at {
        PageToken::Stream { order }
        | PageToken::Topological { order, .. }
        | PageToken::Before { order, .. }
        | PageToken::After { order, .. } => order,
    };
    if view.ceiling.is_some_and(|ceiling| ceiling <= order) {
        return Ok(Arc::clone(&view.state));
    }
    if let Some(state) = rooms.state_at(room, reader, order).await? {
        return Ok(state);
    }
    match rooms.start_of_stay(&view.state, &reader.user_id).await? {
        Some(arrival) if arrival.stream_order() > Some(order) => {
            Ok(rooms.state_after(&arrival).await?)
        }
        Some(_) | None => Err(not_in_room()),
    }
}

/// The member events of a state.
async fn members(rooms: &Rooms, state: &Snapshot) -> Result<Vec<Arc<RoomEvent>>, ApiError> {
    let mut events = rooms.state_events(state).await?;
    events.retain(|event| event.pdu.kind == TimelineEventType::RoomMember);
    Ok(events)
}
