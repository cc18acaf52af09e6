//! Looking into a room as it was done before `/sync`: its state with the newest messages, and what comes after them.

use std::time::Duration;

use axum::extract::State;
use hearth_core::{RoomNid, token::PageToken};
use hearth_journal::{Announcement, Journal, Kind};
use hearth_rooms::{
    Filter, Live, Page, PageRequest, Receiver, Relations, Room, RoomIdField, Rooms,
};
use hearth_users::account_data::AccountData;
use ruma::{
    api::{
        Direction,
        client::{
            peeking::{
                get_current_state::{self, v3::PaginationChunk},
                listen_to_new_events,
            },
            room::Visibility,
        },
    },
    serde::Raw,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::{sync::broadcast::error::RecvError, time::Instant};

use super::{
    ClientState,
    patience::Patience,
    reader::{Reader, WaitingReader, raws, token, view},
};
use crate::http::{Api, ApiError, Ruma};

/// How many of the newest messages are shown.
const NEWEST: usize = 20;

/// How many new events are answered at once.
const NEW: usize = 100;

/// How long a client waits that does not say, and at most.
const WAIT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(2));

/// The endpoints of this module.
pub(super) fn api() -> Api<ClientState> {
    Api::new()
        .endpoint(get_current_state)
        .endpoint(listen_to_new_events)
}

#[derive(Serialize)]
struct AccountDataEvent<'a> {
    content: &'a RawValue,
    #[serde(rename = "type")]
    kind: &'a str,
}

/// `GET /_matrix/client/*/rooms/{roomId}/initialSync`
async fn get_current_state(
    State(rooms): State<Rooms>,
    State(journal): State<Journal>,
    State(account_data): State<AccountData>,
    Reader(reader): Reader,
    Ruma(request): Ruma<get_current_state::v3::Request>,
) -> Result<Ruma<get_current_state::v3::Response>, ApiError> {
    let (room, view) = view(&rooms, &reader, &request.room_id).await?;
    let end = PageToken::Stream {
        order: view.ceiling.unwrap_or(journal.head().0),
    };
    let filter = Filter::default();
    let newest = PageRequest {
        direction: Direction::Backward,
        from: Some(end),
        to: None,
        ceiling: view.ceiling,
        limit: NEWEST,
        filter: &filter,
    };
    let mut page = rooms.page(&room, &reader, &newest).await?;
    page.events.reverse();
    let chunk = rooms
        .serve(page.events, &reader, RoomIdField::Written, Relations::Left)
        .await?;
    let mut messages = PaginationChunk::new(raws(&chunk), end.to_string());
    messages.start = page.end.map(|start| start.to_string());

    let mut response = get_current_state::v3::Response::new(request.room_id);
    for (kind, content) in account_data.list_of_room(reader.user, room.nid).await? {
        let event = AccountDataEvent {
            content: &content,
            kind: &kind,
        };
        response
            .account_data
            .push(Raw::from_json(to_raw_value(&event)?));
    }
    response.membership = Some(view.membership);
    response.messages = Some(messages);
    response.state = raws(&rooms.plain(rooms.state_events(&view.state).await?));
    response.visibility = Some(if rooms.is_published(&room).await? {
        Visibility::Public
    } else {
        Visibility::Private
    });
    Ok(Ruma(response))
}

/// `GET /_matrix/client/*/events`
async fn listen_to_new_events(
    State(rooms): State<Rooms>,
    State(journal): State<Journal>,
    State(live): State<Live>,
    State(patience): State<Patience>,
    WaitingReader { requester, reader }: WaitingReader,
    Ruma(request): Ruma<listen_to_new_events::v3::Request>,
) -> Result<Ruma<listen_to_new_events::v3::Response>, ApiError> {
    let (room, _) = view(&rooms, &reader, &request.room_id).await?;
    let start = token(request.from.as_deref())?;
    let start = start.unwrap_or(PageToken::Stream {
        order: journal.head().0,
    });
    let wait = request.timeout.unwrap_or(WAIT.0).min(WAIT.1);
    let until = Instant::now() + wait;
    let mut announcements = live.subscribe();
    let (page, end) = loop {
        let head = journal.head().0;
        let page = Box::pin(new_events(&rooms, &room, &reader, start, head)).await?;
        let end = page.end.unwrap_or(PageToken::Stream { order: head });
        if !page.events.is_empty() {
            break (page, end);
        }
        let concerns = async {
            loop {
                match announcements.recv().await {
                    Ok(announcement) if !is_about(&announcement, room.nid) => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = concerns => {}
            () = tokio::time::sleep_until(until) => break (page, end),
            () = patience.end(&requester) => break (page, end),
        }
    };
    patience.check(&requester).await?;
    let chunk = rooms
        .serve(page.events, &reader, RoomIdField::Written, Relations::Left)
        .await?;

    let mut response = listen_to_new_events::v3::Response::new();
    response.chunk = raws(&chunk);
    response.start = Some(start.to_string());
    response.end = Some(end.to_string());
    Ok(Ruma(response))
}

/// The events of a room between a token and the head of the log.
async fn new_events(
    rooms: &Rooms,
    room: &Room,
    reader: &Receiver,
    from: PageToken,
    head: i64,
) -> Result<Page, ApiError> {
    let ceiling = rooms
        .view(room, reader)
        .await?
        .and_then(|view| view.ceiling);
    let request = PageRequest {
        direction: Direction::Forward,
        from: Some(from),
        to: Some(PageToken::Stream { order: head }),
        ceiling,
        limit: NEW,
        filter: &Filter::default(),
    };
    Ok(rooms.page(room, reader, &request).await?)
}

fn is_about(announcement: &Announcement, room: RoomNid) -> bool {
    announcement
        .entries
        .iter()
        .any(|entry| entry.kind == Kind::Event && entry.room == Some(room))
}
