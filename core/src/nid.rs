//! Interned numbers: what tables and caches use where the wire uses strings.

use serde::{Deserialize, Serialize};

macro_rules! nid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[derive(sqlx::Type)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<i64> for $name {
            fn from(number: i64) -> Self {
                Self(number)
            }
        }

        impl From<$name> for i64 {
            fn from(nid: $name) -> Self {
                nid.0
            }
        }
    };
}

nid! {
    /// A room id.
    RoomNid
}
nid! {
    /// A user id, local or remote.
    UserNid
}
nid! {
    /// An event.
    EventNid
}
nid! {
    /// A pair of event type and state key.
    StateKeyNid
}
nid! {
    /// A state of a room.
    SnapshotNid
}
nid! {
    /// A server that we send to.
    DestinationNid
}
nid! {
    /// A pusher.
    PusherNid
}
nid! {
    /// A place in the log. Zero is before everything.
    Position
}
