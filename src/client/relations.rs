//! What refers to an event.

use axum::{
    extract::{Request, State},
    middleware::map_request,
};
use hearth_rooms::{ClientEvent, LEVELS, Receiver, RelatedRequest, Relations, RoomIdField, Rooms};
use ruma::{
    EventId, RoomId, UInt,
    api::{
        Direction,
        client::relations::{
            get_relating_events, get_relating_events_with_rel_type,
            get_relating_events_with_rel_type_and_event_type,
        },
    },
};

use super::{
    ClientState,
    reader::{Reader, event, limit, raws, token},
};
use crate::http::{Api, ApiError, Ruma, query};

/// How many events are answered when the client does not say.
const DEFAULT_LIMIT: u32 = 20;

/// `recurse` before it was specified.
const UNSTABLE_RECURSE: &str = "org.matrix.msc3981.recurse=";

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(get_relating_events)
        .endpoint(get_relating_events_with_rel_type)
        .endpoint(get_relating_events_with_rel_type_and_event_type)
        .layer(map_request(with_stable_name))
}

/// Calls `recurse` by the name that it has in the specification.
async fn with_stable_name(mut request: Request) -> Request {
    let query = request.uri().query().unwrap_or_default();
    if query.contains(UNSTABLE_RECURSE) {
        let pairs = query
            .split('&')
            .map(|pair| match pair.strip_prefix(UNSTABLE_RECURSE) {
                Some(value) => format!("recurse={value}"),
                None => pair.to_owned(),
            });
        let stable = pairs.collect::<Vec<_>>().join("&");
        query::replace(&mut request, &stable);
    }
    request
}

/// What the three endpoints have in common.
struct Asked<'a> {
    room_id: &'a RoomId,
    event_id: &'a EventId,
    rel_type: Option<&'a str>,
    kind: Option<&'a str>,
    direction: Direction,
    from: Option<&'a str>,
    to: Option<&'a str>,
    limit: Option<UInt>,
    recurse: bool,
}

/// What their answers have in common.
struct Found {
    chunk: Vec<ClientEvent>,
    next_batch: Option<String>,
    prev_batch: Option<String>,
    recursion_depth: Option<UInt>,
}

/// `GET /_matrix/client/*/rooms/{roomId}/relations/{eventId}`
async fn get_relating_events(
    State(rooms): State<Rooms>,
    Reader(reader): Reader,
    Ruma(request): Ruma<get_relating_events::v1::Request>,
) -> Result<Ruma<get_relating_events::v1::Response>, ApiError> {
    let asked = Asked {
        room_id: &request.room_id,
        event_id: &request.event_id,
        rel_type: None,
        kind: None,
        direction: request.dir,
        from: request.from.as_deref(),
        to: request.to.as_deref(),
        limit: request.limit,
        recurse: request.recurse,
    };
    let found = find(&rooms, &reader, asked).await?;

    let mut response = get_relating_events::v1::Response::new(raws(&found.chunk));
    response.next_batch = found.next_batch;
    response.prev_batch = found.prev_batch;
    response.recursion_depth = found.recursion_depth;
    Ok(Ruma(response))
}

/// `GET /_matrix/client/*/rooms/{roomId}/relations/{eventId}/{relType}`
async fn get_relating_events_with_rel_type(
    State(rooms): State<Rooms>,
    Reader(reader): Reader,
    Ruma(request): Ruma<get_relating_events_with_rel_type::v1::Request>,
) -> Result<Ruma<get_relating_events_with_rel_type::v1::Response>, ApiError> {
    let asked = Asked {
        room_id: &request.room_id,
        event_id: &request.event_id,
        rel_type: Some(request.rel_type.as_str()),
        kind: None,
        direction: request.dir,
        from: request.from.as_deref(),
        to: request.to.as_deref(),
        limit: request.limit,
        recurse: request.recurse,
    };
    let found = find(&rooms, &reader, asked).await?;

    let mut response = get_relating_events_with_rel_type::v1::Response::new(raws(&found.chunk));
    response.next_batch = found.next_batch;
    response.prev_batch = found.prev_batch;
    response.recursion_depth = found.recursion_depth;
    Ok(Ruma(response))
}

/// `GET /_matrix/client/*/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}`
async fn get_relating_events_with_rel_type_and_event_type(
    State(rooms): State<Rooms>,
    Reader(reader): Reader,
    Ruma(request): Ruma<get_relating_events_with_rel_type_and_event_type::v1::Request>,
) -> Result<Ruma<get_relating_events_with_rel_type_and_event_type::v1::Response>, ApiError> {
    let kind = request.event_type.to_string();
    let asked = Asked {
        room_id: &request.room_id,
        event_id: &request.event_id,
        rel_type: Some(request.rel_type.as_str()),
        kind: Some(&kind),
        direction: request.dir,
        from: request.from.as_deref(),
        to: request.to.as_deref(),
        limit: request.limit,
        recurse: request.recurse,
    };
    let found = find(&rooms, &reader, asked).await?;

    let chunk = raws(&found.chunk);
    let mut response = get_relating_events_with_rel_type_and_event_type::v1::Response::new(chunk);
    response.next_batch = found.next_batch;
    response.prev_batch = found.prev_batch;
    response.recursion_depth = found.recursion_depth;
    Ok(Ruma(response))
}

async fn find(rooms: &Rooms, reader: &Receiver, asked: Asked<'_>) -> Result<Found, ApiError> {
    let (room, parent) = event(rooms, reader, asked.room_id, asked.event_id).await?;
    let request = RelatedRequest {
        parent: &parent,
        rel_type: asked.rel_type,
        kind: asked.kind,
        levels: if asked.recurse { LEVELS } else { 1 },
        direction: asked.direction,
        from: token(asked.from)?,
        to: token(asked.to)?,
        limit: limit(asked.limit.unwrap_or(DEFAULT_LIMIT.into()), None).max(1),
    };
    let page = rooms.related(&room, reader, &request).await?;
    let chunk = rooms
        .serve(
            page.events,
            reader,
            RoomIdField::Written,
            Relations::Bundled,
        )
        .await?;
    Ok(Found {
        chunk,
        next_batch: page.end.map(|end| end.to_string()),
        prev_batch: asked.from.map(ToOwned::to_owned),
        recursion_depth: asked.recurse.then_some(LEVELS.into()),
    })
}
