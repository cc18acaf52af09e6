//! The history of a room as clients read it: page by page, and around an event.

use std::sync::Arc;

use hearth_core::token::PageToken;
use ruma::api::{Direction, client::filter::LazyLoadOptions};

use crate::{
    ClientEvent, Filter, Page, PageRequest, Receiver, Relations, Room, RoomEvent, RoomIdField,
    Rooms, timeline,
};

/// A page of history, ready for a client.
#[derive(Clone, Debug)]
pub struct History {
    /// The events in the direction of the request.
    pub events: Vec<ClientEvent>,
    /// Those who sent them, if members are loaded lazily.
    pub members: Vec<ClientEvent>,
    /// Where to go on; `None` at the end.
    pub end: Option<PageToken>,
}

/// What happened around an event, ready for a client.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The event.
    pub event: ClientEvent,
    /// What came before, the latest first.
    pub before: Vec<ClientEvent>,
    /// What came after.
    pub after: Vec<ClientEvent>,
    /// The state after the last of them.
    pub state: Vec<ClientEvent>,
    /// Where to go on backwards.
    pub start: PageToken,
    /// Where to go on forwards.
    pub end: PageToken,
}

impl Rooms {
    /// A page of history for somebody who may read the room.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn history(
        &self,
        room: &Room,
        reader: &Receiver,
        request: &PageRequest<'_>,
    ) -> sqlx::Result<History> {
        let page = self.page(room, reader, request).await?;
        let newest = match request.direction {
            Direction::Backward => page.events.first(),
            Direction::Forward => page.events.last(),
        };
        let members = match (request.filter.lazy_load, newest) {
            (LazyLoadOptions::Enabled { .. }, Some(newest)) => {
                let state = self.state_after(newest).await?;
                self.senders(&state, &page.events).await?
            }
            _ => Vec::new(),
        };
        let (written, bundled) = (RoomIdField::Written, Relations::Bundled);
        let events = self.serve(page.events, reader, written, bundled).await?;
        Ok(History {
            events,
            members: self.plain(members),
            end: page.end,
        })
    }

    /// Up to `limit` events around one that the reader may see.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn surroundings(
        &self,
        room: &Room,
        reader: &Receiver,
        event: Arc<RoomEvent>,
        (filter, limit): (&Filter, usize),
    ) -> sqlx::Result<Surroundings> {
        let view = self.view(room, reader).await?;
        let page = |direction, from, limit| PageRequest {
            direction,
            from: Some(from),
            to: None,
            ceiling: view.as_ref().and_then(|view| view.ceiling),
            limit,
            filter,
        };
        let (start, end) = (timeline::before(&event), timeline::after(&event));
        let before = page(Direction::Backward, start, limit / 2);
        let before = self.page(room, reader, &before).await?;
        let after = page(Direction::Forward, end, limit - limit / 2);
        let after = self.page(room, reader, &after).await?;

        let start = end_of(&before, timeline::before).unwrap_or(start);
        let end = end_of(&after, timeline::after).unwrap_or(end);
        let last = Arc::clone(after.events.last().unwrap_or(&event));
        let earlier = before.events.len();
        let mut shown = before.events;
        shown.push(event);
        shown.extend(after.events);
        let state = self.state_for(&last, &shown, filter).await?;
        let (written, bundled) = (RoomIdField::Written, Relations::Bundled);
        let mut served = self.serve(shown, reader, written, bundled).await?;
        let after = served.split_off(earlier + 1);
        let event = served.pop().ok_or(sqlx::Error::RowNotFound)?;
        Ok(Surroundings {
            event,
            before: served,
            after,
            state: self.plain(state),
            start,
            end,
        })
    }

    /// The state after `last`, with those members only who matter when they are loaded lazily.
    async fn state_for(
        &self,
        last: &RoomEvent,
        shown: &[Arc<RoomEvent>],
        filter: &Filter,
    ) -> sqlx::Result<Vec<Arc<RoomEvent>>> {
        let state = self.state_after(last).await?;
        if filter.lazy_load == LazyLoadOptions::Disabled {
            return self.state_events(&state).await;
        }
        let mut events = self.state_without_members(&state).await?;
        events.extend(self.senders(&state, shown).await?);
        Ok(events)
    }
}

/// Where to go on after a page; at the end of the history, behind its last event.
fn end_of(page: &Page, behind: fn(&RoomEvent) -> PageToken) -> Option<PageToken> {
    page.end
        .or_else(|| page.events.last().map(|event| behind(event)))
}
