//! The history of a room, page by page.

use axum::{
    extract::{Request, State},
    middleware::map_request,
};
use hearth_core::token::PageToken;
use hearth_journal::Journal;
use hearth_rooms::{PageRequest, Rooms, View};
use ruma::api::{Direction, client::message::get_message_events};

use super::{
    ClientState,
    reader::{FilterParameter, Reader, limit, raws, token, view},
};
use crate::http::{Api, ApiError, Ruma, query};

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(get_message_events)
        .layer(map_request(forwards_unless_said))
}

/// Adds the direction that peers assume when a client names none; `ruma` wants one.
async fn forwards_unless_said(mut request: Request) -> Request {
    let query = request.uri().query().unwrap_or_default();
    if query.split('&').any(|pair| pair.starts_with("dir=")) {
        return request;
    }
    let with_direction = format!("{query}&dir=f");
    query::replace(&mut request, &with_direction);
    request
}

/// `GET /_matrix/client/*/rooms/{roomId}/messages`
async fn get_message_events(
    State(rooms): State<Rooms>,
    State(journal): State<Journal>,
    Reader(reader): Reader,
    FilterParameter(filter): FilterParameter,
    Ruma(request): Ruma<get_message_events::v3::Request>,
) -> Result<Ruma<get_message_events::v3::Response>, ApiError> {
    let (room, view) = view(&rooms, &reader, &request.room_id).await?;
    let from = match token(request.from.as_deref())? {
        Some(from) => from,
        None => first(&view, request.dir, journal.head().0),
    };
    let page = PageRequest {
        direction: request.dir,
        from: Some(from),
        to: token(request.to.as_deref())?,
        ceiling: view.ceiling,
        limit: limit(request.limit, filter.limit).max(1),
        filter: &filter,
    };

    let history = rooms.history(&room, &reader, &page).await?;

    let mut response = get_message_events::v3::Response::default();
    response.start = request.from.unwrap_or_else(|| from.to_string());
    response.end = history.end.map(|end| end.to_string());
    response.chunk = raws(&history.events);
    response.state = raws(&history.members);
    Ok(Ruma(response))
}

/// Where history begins that is read without a token.
fn first(view: &View, direction: Direction, head: i64) -> PageToken {
    match direction {
        Direction::Backward => PageToken::Stream {
            order: view.ceiling.unwrap_or(head),
        },
        Direction::Forward => PageToken::Topological {
            depth: 0,
            order: i64::MIN,
        },
    }
}
