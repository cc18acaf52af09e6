//! Words that all of Hearth shares, without I/O: interned numbers, times, events, tokens, configuration.
//!
//! What lives here knows no database, no network and no service. Anything that waits belongs on a floor above.

pub mod clock;
pub mod config;
pub mod nid;
pub mod pdu;
mod room_version;
pub mod signing;
pub mod token;
pub mod words;

pub use self::{
    clock::Clock,
    nid::{
        DestinationNid, EventNid, Position, PusherNid, RoomNid, SnapshotNid, StateKeyNid, UserNid,
    },
    pdu::Pdu,
    room_version::SUPPORTED_ROOM_VERSIONS,
    signing::Identity,
};
