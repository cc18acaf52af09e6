//! What an announcement means for the records of active users and moving rooms.

use hearth_core::{RoomNid, SnapshotNid, UserNid};

use crate::active::Member;

/// What an announcement's entry does to the records.
#[derive(Debug)]
pub(crate) enum Change {
    /// An event in a room; whether it may have changed the state is known once it is compared with the last one.
    Event {
        room: RoomNid,
        /// The state before a message; `None` when the event changes the state or is not in memory.
        message_on: Option<SnapshotNid>,
        member: Option<(UserNid, Member)>,
    },
    /// The state of a room, and these memberships.
    State {
        room: RoomNid,
        members: Vec<(UserNid, Member)>,
    },
    Receipt(RoomNid),
    AccountData(UserNid),
    ToDevice(UserNid),
    /// Devices of a user changed; those who share these rooms hear of it, and the user.
    DeviceList(UserNid, Vec<RoomNid>),
    Membership(RoomNid, UserNid, Member),
    /// A user's membership could not be read: it is read anew at the next sync.
    Unknown(RoomNid, UserNid),
}
