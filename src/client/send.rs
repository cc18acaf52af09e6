//! Events as clients send them: messages, state, redactions.

use axum::extract::State;
use hearth_rooms::{Directory, Draft, Rooms, Transaction};
use hearth_users::Presence;
use ruma::{
    CanonicalJsonObject, OwnedRoomId,
    api::{
        client::{message::send_message_event, redact::redact_event, state::send_state_event},
        error::ErrorKind,
    },
    events::TimelineEventType,
    serde::Raw,
};

use super::{ClientState, Requester, room_error::not_in_room};
use crate::http::{Api, ApiError, RateLimits, Ruma, limit::Action};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(send_message_event)
        .endpoint(send_state_event)
        .endpoint(redact_event)
}

/// `PUT /_matrix/client/*/rooms/{roomId}/send/{eventType}/{txnId}`
async fn send_message_event(
    State(rooms): State<Rooms>,
    State(limits): State<RateLimits>,
    State(presence): State<Presence>,
    requester: Requester,
    Ruma(request): Ruma<send_message_event::v3::Request>,
) -> Result<Ruma<send_message_event::v3::Response>, ApiError> {
    requester.refuse_suspended()?;
    limits.check_user(Action::Message, requester.user_id())?;
    let kind = TimelineEventType::from(request.event_type.to_string());
    let content = object(&request.body)?;
    let draft = if kind == TimelineEventType::RoomRedaction {
        redaction(content)?
    } else {
        Draft::message(kind, content)
    };
    let action = format!("send/{}", request.event_type);
    let transaction = transaction(&requester, action, request.txn_id.to_string());
    let room = rooms
        .find(&request.room_id)
        .await?
        .ok_or_else(not_in_room)?;

    let sent = rooms
        .send_once(&room, requester.user_id(), draft, transaction)
        .await?;
    presence.note_active(requester.user);

    Ok(Ruma(send_message_event::v3::Response::new(sent.event_id)))
}

/// `PUT /_matrix/client/*/rooms/{roomId}/state/{eventType}/{stateKey}`
async fn send_state_event(
    State(rooms): State<Rooms>,
    State(directory): State<Directory>,
    State(limits): State<RateLimits>,
    requester: Requester,
    Ruma(request): Ruma<send_state_event::v3::Request>,
) -> Result<Ruma<send_state_event::v3::Response>, ApiError> {
    requester.refuse_suspended()?;
    limits.check_user(Action::Message, requester.user_id())?;
    let kind = TimelineEventType::from(request.event_type.to_string());
    let draft = Draft::state(kind, request.state_key, object(&request.body)?);
    let room = rooms
        .find(&request.room_id)
        .await?
        .ok_or_else(not_in_room)?;

    directory.check_aliases(&room, &draft).await?;
    let sent = rooms.send_state(&room, requester.user_id(), draft).await?;

    Ok(Ruma(send_state_event::v3::Response::new(sent.event_id)))
}

/// `PUT /_matrix/client/*/rooms/{roomId}/redact/{eventId}/{txnId}`
async fn redact_event(
    State(rooms): State<Rooms>,
    State(limits): State<RateLimits>,
    requester: Requester,
    Ruma(request): Ruma<redact_event::v3::Request>,
) -> Result<Ruma<redact_event::v3::Response>, ApiError> {
    limits.check_user(Action::Message, requester.user_id())?;
    let mut content = CanonicalJsonObject::new();
    if let Some(reason) = request.reason {
        content.insert("reason".to_owned(), reason.into());
    }
    let mut draft = Draft::message(TimelineEventType::RoomRedaction, content);
    draft.redacts = Some(request.event_id);
    let transaction = transaction(&requester, "redact".to_owned(), request.txn_id.to_string());
    let room = rooms
        .find(&request.room_id)
        .await?
        .ok_or_else(not_in_room)?;
    if requester.refuse_suspended().is_err() {
        refuse_foreign_target(&rooms, &requester, &draft, &request.room_id).await?;
    }

    let sent = rooms
        .send_once(&room, requester.user_id(), draft, transaction)
        .await?;

    Ok(Ruma(redact_event::v3::Response::new(sent.event_id)))
}

/// Suspended users may redact their own events only.
async fn refuse_foreign_target(
    rooms: &Rooms,
    requester: &Requester,
    draft: &Draft,
    room_id: &OwnedRoomId,
) -> Result<(), ApiError> {
    let Some(target) = &draft.redacts else {
        return requester.refuse_suspended();
    };
    let nids = rooms.events().nids(&[target.as_ref()]).await?;
    let Some(nid) = nids.get(target) else {
        return requester.refuse_suspended();
    };
    let target = rooms.events().get(*nid).await?;
    if target.pdu.sender == requester.user_id() && target.pdu.room_id == *room_id {
        return Ok(());
    }
    requester.refuse_suspended()
}

/// A redaction that comes as an ordinary event, as room version 11 lets clients send it.
fn redaction(mut content: CanonicalJsonObject) -> Result<Draft, ApiError> {
    let target = content.remove("redacts");
    let target = target.and_then(|id| ruma::EventId::parse(id.as_str()?).ok());
    let target = target.ok_or_else(|| {
        ApiError::bad_request(ErrorKind::BadJson, "`redacts` must be the id of an event")
    })?;
    let mut draft = Draft::message(TimelineEventType::RoomRedaction, content);
    draft.redacts = Some(target);
    Ok(draft)
}

/// The content as canonical JSON.
pub(super) fn object<T>(content: &Raw<T>) -> Result<CanonicalJsonObject, ApiError> {
    serde_json::from_str(content.json().get()).map_err(|error| {
        ApiError::bad_request(
            ErrorKind::BadJson,
            format!("the content is not canonical JSON: {error}"),
        )
    })
}

fn transaction(requester: &Requester, action: String, txn_id: String) -> Transaction {
    Transaction {
        user: requester.user,
        device_id: requester
            .device_id()
            .map(ToString::to_string)
            .unwrap_or_default(),
        action,
        txn_id,
    }
}
