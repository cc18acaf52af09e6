//! What a client wants to see of everything.
//!
//! Client-Server API, "Filtering".

use hearth_rooms::filter::Filter;
use ruma::{
    UserId,
    api::client::filter::{self, EventFormat, FilterDefinition, LazyLoadOptions, RoomEventFilter},
};

/// How many events of a timeline a client gets that does not say.
const DEFAULT_LIMIT: usize = 10;

/// How many events of a timeline a client gets at the most.
const MAX_LIMIT: usize = 1_000;

/// A filter of `/sync`, ready to match.
#[derive(Clone, Debug, Default)]
pub struct SyncFilter {
    /// Which rooms are wanted at all.
    pub(crate) rooms: Filter,
    pub(crate) leave: Leave,
    pub(crate) timeline: Filter,
    pub(crate) state: Filter,
    pub(crate) ephemeral: Filter,
    pub(crate) room_account_data: Filter,
    pub(crate) presence: Filter,
    pub(crate) account_data: Filter,
    pub(crate) threads: Threads,
    /// How events are written.
    pub(crate) format: Format,
    /// The fields that are left of an event; `None`: all.
    pub(crate) fields: Option<Vec<String>>,
}

/// Whether rooms that the user left long ago are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Leave {
    #[default]
    Recent,
    All,
}

/// Whether unread events are counted by thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Threads {
    #[default]
    Together,
    Apart,
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Client,
    Federation,
}

impl From<FilterDefinition> for SyncFilter {
    fn from(definition: FilterDefinition) -> Self {
        let room = definition.room;
        let mut rooms = RoomEventFilter::empty();
        (rooms.rooms, rooms.not_rooms) = (room.rooms, room.not_rooms);
        Self {
            rooms: Filter::from(&rooms),
            leave: match room.include_leave {
                true => Leave::All,
                false => Leave::Recent,
            },
            threads: match room.timeline.unread_thread_notifications {
                true => Threads::Apart,
                false => Threads::Together,
            },
            timeline: Filter::from(&room.timeline),
            state: Filter::from(&room.state),
            ephemeral: Filter::from(&room.ephemeral),
            room_account_data: Filter::from(&room.account_data),
            presence: global(definition.presence),
            account_data: global(definition.account_data),
            format: match definition.event_format {
                EventFormat::Federation => Format::Federation,
                EventFormat::Client | _ => Format::Client,
            },
            fields: definition.event_fields,
        }
    }
}

fn global(filter: filter::Filter) -> Filter {
    let mut of_rooms = RoomEventFilter::empty();
    of_rooms.types = filter.types;
    of_rooms.not_types = filter.not_types;
    of_rooms.senders = filter.senders;
    of_rooms.not_senders = filter.not_senders;
    of_rooms.limit = filter.limit;
    Filter::from(&of_rooms)
}

impl SyncFilter {
    /// How many events of a timeline are wanted.
    pub(crate) fn timeline_limit(&self) -> usize {
        self.timeline.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT)
    }

    /// Whether members are told only as far as they matter.
    pub(crate) fn is_lazy(&self) -> bool {
        self.state.lazy_load != LazyLoadOptions::Disabled
    }

    /// Whether presence of this user is wanted.
    pub(crate) fn wants_presence(&self, user: &UserId) -> bool {
        self.presence.matches_kind("m.presence", user)
    }
}

/// Keeps the last ones, as many as a filter wants.
pub(crate) fn cut<T>(filter: &Filter, events: &mut Vec<T>) {
    let limit = filter.limit.unwrap_or(usize::MAX);
    let surplus = events.len().saturating_sub(limit);
    events.drain(..surplus);
}
