//! What readers are told of a commit.

use std::sync::Arc;

use hearth_core::{EventNid, Position, RoomNid, UserNid};
use hearth_store::log;

/// The log went from `previous` to `head`.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// Where the log was.
    pub previous: Position,
    /// Where it is now.
    pub head: Position,
    /// What is between, in order: one entry a position, except where the log jumped or has entries of a newer version.
    pub entries: Arc<[Entry]>,
    /// Who wrote.
    pub origin: Origin,
}

impl Announcement {
    /// The part after `head`, when the beginning is known already.
    pub(crate) fn after(self: Arc<Self>, head: Position) -> Arc<Self> {
        if self.previous >= head {
            return self;
        }
        let rest = self.entries.iter().filter(|entry| entry.position > head);
        Arc::new(Self {
            previous: head,
            head: self.head,
            entries: rest.copied().collect(),
            origin: self.origin,
        })
    }
}

/// Who wrote what an announcement tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This process.
    Local,
    /// Another process.
    Remote,
}

/// One entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub position: Position,
    /// What it tells of.
    pub kind: Kind,
    /// The room, if it has one.
    pub room: Option<RoomNid>,
    /// The user that it concerns: whose receipt, account data, device, membership.
    pub user: Option<UserNid>,
    /// The event, for events.
    pub event: Option<EventNid>,
}

impl Entry {
    /// What a row of the log says; `None` for a row of a newer version.
    #[must_use]
    pub fn of(row: &log::Row) -> Option<Self> {
        Some(Self {
            position: row.position,
            kind: Kind::from_number(row.kind)?,
            room: row.room,
            user: row.user,
            event: row.event,
        })
    }
}

/// What an entry of the log tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum Kind {
    /// A live event, with the state and the membership that it changes.
    Event = 1,
    /// A receipt.
    Receipt = 2,
    /// Account data of a user, in a room or not.
    AccountData = 3,
    /// A message to a device.
    ToDevice = 4,
    /// A user's devices changed.
    DeviceList = 5,
    /// A membership that comes without an event of ours.
    Membership = 6,
    /// A current state that comes without an event (a resolution).
    State = 7,
    /// A user set or deleted a pusher.
    Pusher = 8,
}

impl Kind {
    /// The kind with this number; `None` for one of a newer version.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        [
            Self::Event,
            Self::Receipt,
            Self::AccountData,
            Self::ToDevice,
            Self::DeviceList,
            Self::Membership,
            Self::State,
            Self::Pusher,
        ]
        .into_iter()
        .find(|kind| *kind as i16 == number)
    }
}
