//! What is new for a user, before it is written in the form of one face.

use std::collections::BTreeMap;

use hearth_core::{EventNid, token::StreamToken};
use hearth_rooms::ClientEvent;
use ruma::OwnedRoomId;
use serde::Serialize;
use serde_json::value::RawValue;

pub use crate::{
    streams::{AccountData, DeviceLists},
    summary::Summary,
};

/// Everything that is new for a device.
#[derive(Debug)]
pub struct Response {
    /// What the device has, once it has this.
    pub next: StreamToken,
    /// Rooms that the user is in.
    pub join: Vec<JoinedRoom>,
    /// Rooms that he is invited to.
    pub invite: Vec<OutsideRoom>,
    /// Rooms that he knocked at.
    pub knock: Vec<OutsideRoom>,
    /// Rooms that he left.
    pub leave: Vec<LeftRoom>,
    /// Presence of others.
    pub presence: Vec<Box<RawValue>>,
    /// Account data that belongs to no room.
    pub account_data: Vec<AccountData>,
    /// Messages to the device.
    pub to_device: Vec<Box<RawValue>>,
    /// Whose devices changed.
    pub device_lists: DeviceLists,
    /// What is left of the device's keys.
    pub keys: KeyCounts,
}

impl Response {
    /// Whether there is nothing in it that a client would have to be woken for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.join.is_empty()
            && self.invite.is_empty()
            && self.knock.is_empty()
            && self.leave.is_empty()
            && self.presence.is_empty()
            && self.account_data.is_empty()
            && self.to_device.is_empty()
            && self.device_lists.changed.is_empty()
            && self.device_lists.left.is_empty()
    }
}

/// Events of a room's timeline and the state that goes with them.
#[derive(Debug)]
pub struct TimelineAndState {
    /// The newest events.
    pub timeline: Vec<ClientEvent>,
    /// Whether there are more between what the client has and these.
    pub limited: bool,
    /// Where to go on backwards.
    pub prev_batch: String,
    /// The state.
    pub state: Vec<ClientEvent>,
}

/// A room that the user is in.
#[derive(Debug)]
pub struct JoinedRoom {
    /// Which.
    pub room_id: OwnedRoomId,
    /// Its events.
    pub events: TimelineAndState,
    /// Counts and heroes, if they may have changed.
    pub summary: Option<Summary>,
    /// Receipts and typing.
    pub ephemeral: Vec<Box<RawValue>>,
    /// The user's data on the room.
    pub account_data: Vec<AccountData>,
    /// What he has not read.
    pub unread: Unread,
}

/// A room that the user left.
#[derive(Debug)]
pub struct LeftRoom {
    /// Which.
    pub room_id: OwnedRoomId,
    /// Its events, up to the leave.
    pub events: TimelineAndState,
    /// The user's data on the room.
    pub account_data: Vec<AccountData>,
}

/// A room that the user is not in yet.
#[derive(Debug)]
pub struct OutsideRoom {
    /// Which.
    pub room_id: OwnedRoomId,
    /// The user's member event, if it is stored here.
    pub event: Option<EventNid>,
    /// Its stripped state: a JSON array.
    pub state: Box<RawValue>,
}

/// How many events a user has not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Those that he is notified of.
    pub notification_count: u64,
    /// Those among them that matter more.
    pub highlight_count: u64,
}

/// What a user has not read of a room.
#[derive(Clone, Debug, Default)]
pub struct Unread {
    /// Outside of threads, or everywhere when the client does not tell threads apart.
    pub room: Counts,
    /// By thread, for clients that tell them apart.
    pub threads: BTreeMap<String, Counts>,
}

/// How many one-time keys a device has left here, and which of its fallback keys are unused.
#[derive(Clone, Debug)]
pub struct KeyCounts {
    /// By algorithm.
    pub one_time: BTreeMap<String, u64>,
    /// Algorithms.
    pub unused_fallback: Vec<String>,
}

impl KeyCounts {
    /// Of a device that has uploaded no keys.
    #[must_use]
    pub fn none() -> Self {
        Self {
            one_time: BTreeMap::from([("signed_curve25519".to_owned(), 0)]),
            unused_fallback: Vec::new(),
        }
    }
}
