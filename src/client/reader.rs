//! What the handlers that read rooms share: who reads, what he may read, and how events become JSON.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts, Query};
use hearth_core::token::PageToken;
use hearth_push::Settings;
use hearth_rooms::{ClientEvent, Filter, Receiver, Room, RoomEvent, Rooms, View};
use hearth_users::Sessions;
use http::request::Parts;
use ruma::{EventId, RoomId, UInt, serde::Raw};
use serde::Deserialize;

use super::{Requester, room_error::not_in_room};
use crate::http::{ApiError, RateLimits};

/// The most events in one answer.
const MAX_LIMIT: usize = 500;

/// The user behind the access token as one to whom events are shown.
#[derive(Clone, Debug)]
pub(super) struct Reader(pub(super) Receiver);

impl<S: Send + Sync> FromRequestParts<S> for Reader
where
    Sessions: FromRef<S>,
    Settings: FromRef<S>,
    RateLimits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let WaitingReader { reader, .. } = WaitingReader::from_request_parts(parts, state).await?;
        Ok(Self(reader))
    }
}

/// A reader with the session, for requests that wait.
#[derive(Clone, Debug)]
pub(super) struct WaitingReader {
    pub(super) requester: Requester,
    pub(super) reader: Receiver,
}

impl<S: Send + Sync> FromRequestParts<S> for WaitingReader
where
    Sessions: FromRef<S>,
    Settings: FromRef<S>,
    RateLimits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let requester = Requester::from_request_parts(parts, state).await?;
        let settings = Settings::from_ref(state)
            .latest(requester.user, requester.user_id())
            .await?;
        let reader = Receiver {
            user_id: requester.user_id().to_owned(),
            user: requester.user,
            device_id: requester.device_id().map(ToString::to_string),
            ignored: Arc::clone(&settings.ignored),
        };
        Ok(Self { requester, reader })
    }
}

/// The query parameter `filter`, read with all that it may say.
#[derive(Clone, Debug)]
pub(super) struct FilterParameter(pub(super) Filter);

#[derive(Deserialize)]
struct FilterQuery {
    filter: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for FilterParameter {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(query) = Query::<FilterQuery>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::invalid_param(error.body_text()))?;
        match query.filter.as_deref() {
            None | Some("") => Ok(Self(Filter::default())),
            Some(json) => Ok(Self(Filter::parse(json)?)),
        }
    }
}

/// A room as the reader may read it.
///
/// # Errors
///
/// `M_FORBIDDEN`, also when nobody knows the room.
pub(super) async fn view(
    rooms: &Rooms,
    reader: &Receiver,
    room_id: &RoomId,
) -> Result<(Arc<Room>, View), ApiError> {
    let room = rooms.find(room_id).await?.ok_or_else(not_in_room)?;
    let view = rooms.view(&room, reader).await?.ok_or_else(not_in_room)?;
    Ok((room, view))
}

/// An event of a room that the reader may see.
///
/// # Errors
///
/// `M_NOT_FOUND`, also when he may not see it.
pub(super) async fn event(
    rooms: &Rooms,
    reader: &Receiver,
    room_id: &RoomId,
    event_id: &EventId,
) -> Result<(Arc<Room>, Arc<RoomEvent>), ApiError> {
    let not_found = || ApiError::not_found("the event was not found");
    let room = rooms.find(room_id).await?.ok_or_else(not_found)?;
    let event = rooms.visible_event(&room, reader, event_id).await?;
    Ok((room, event.ok_or_else(not_found)?))
}

/// An event as `ruma` takes it.
pub(super) fn raw<T>(event: &ClientEvent) -> Raw<T> {
    Raw::from_json(event.to_raw())
}

/// Events as `ruma` takes them.
pub(super) fn raws<T>(events: &[ClientEvent]) -> Vec<Raw<T>> {
    events.iter().map(raw).collect()
}

/// Reads a token.
///
/// # Errors
///
/// `M_INVALID_PARAM` when it is none of ours.
pub(super) fn token(token: Option<&str>) -> Result<Option<PageToken>, ApiError> {
    token
        .filter(|token| !token.is_empty())
        .map(|token| {
            token
                .parse()
                .map_err(|_| ApiError::invalid_param("this is no token of this server"))
        })
        .transpose()
}

/// How many events are answered at most when a client wants `limit`, and its filter too.
pub(super) fn limit(limit: UInt, filter: Option<usize>) -> usize {
    let limit = usize::try_from(limit).unwrap_or(MAX_LIMIT).min(MAX_LIMIT);
    filter.map_or(limit, |filter| filter.min(limit))
}
