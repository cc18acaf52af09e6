//! What rooms ask of other servers.

use std::{collections::BTreeMap, fmt::Debug};

use futures_util::future::BoxFuture;
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId,
    ServerName, api::Direction, serde::Base64,
};
use serde_json::value::RawValue;

/// How many events the state of a room may have as another server tells it, with what authorises it.
pub const MOST_STATE: usize = 400_000;

/// What this crate needs of other servers.
///
/// The federation client implements it, and the binary passes it in. Answers come from strangers: the implementation
/// bounds their size and the time that they take. It checks none of the events in them; that is done here.
pub trait Peers: Debug + Send + Sync {
    /// Finds the keys that signed something; those that cannot be had, or that were not valid when they had to be, are
    /// left out.
    fn keys<'a>(&'a self, wanted: &'a [Signer]) -> BoxFuture<'a, SignerKeys>;

    /// Asks for the events between two places of a room's graph (`POST /get_missing_events`).
    fn missing_events<'a>(
        &'a self,
        from: &'a ServerName,
        wanted: &'a MissingEvents,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>>;

    /// Asks for one event (`GET /event`).
    fn event<'a>(
        &'a self,
        from: &'a ServerName,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Result<Box<RawValue>, RemoteError>>;

    /// Asks which state was there before an event (`GET /state_ids`).
    fn state_ids<'a>(
        &'a self,
        from: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Result<StateIds, RemoteError>>;

    /// Asks for the events of the state before an event and for those that authorise them (`GET /state`): all of them
    /// in one list, in no order.
    fn state<'a>(
        &'a self,
        from: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>>;

    /// Asks for all events that authorise an event (`GET /event_auth`).
    fn event_auth<'a>(
        &'a self,
        from: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>>;

    /// Asks for the events up to some events, these included (`GET /backfill`).
    fn backfill<'a>(
        &'a self,
        from: &'a ServerName,
        room_id: &'a RoomId,
        event_ids: &'a [OwnedEventId],
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>>;

    /// Asks for the event of a room that is closest to a time in one direction (`GET /timestamp_to_event`).
    fn closest_event<'a>(
        &'a self,
        from: &'a ServerName,
        room_id: &'a RoomId,
        ts: MilliSecondsSinceUnixEpoch,
        direction: Direction,
    ) -> BoxFuture<'a, Result<ClosestEvent, RemoteError>>;

    /// Asks a policy server for its signature on an event (`POST /_matrix/policy/v1/sign`): that of the key
    /// `ed25519:policy_server`.
    fn policy_signature<'a>(
        &'a self,
        policy_server: &'a ServerName,
        pdu: &'a RawValue,
    ) -> BoxFuture<'a, Result<Base64, PolicyError>>;
}

/// The keys that were found, each for the time for which it was asked.
pub type SignerKeys = BTreeMap<Signer, Base64>;

/// A key that signed something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signer {
    /// Whose.
    pub server: OwnedServerName,
    /// `ed25519:…`
    pub key_id: String,
    /// When it must have been valid; `None` in room versions that do not ask for that.
    pub at: Option<MilliSecondsSinceUnixEpoch>,
}

/// An event that is close to a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosestEvent {
    /// The event.
    pub event_id: OwnedEventId,
    /// When it was made, as its sender says.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
}

/// A part of a room's graph.
#[derive(Clone, Debug)]
pub struct MissingEvents {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The newest events that we have.
    pub earliest: Vec<OwnedEventId>,
    /// The events whose ancestors are wanted.
    pub latest: Vec<OwnedEventId>,
    /// How many.
    pub limit: u32,
    /// The smallest depth that is of interest.
    pub min_depth: i64,
}

/// The ids of a state and of what authorises it.
#[derive(Clone, Debug, Default)]
pub struct StateIds {
    /// The state.
    pub state: Vec<OwnedEventId>,
    /// All events that authorise it, and those that authorise these, and so on.
    pub auth_chain: Vec<OwnedEventId>,
}

/// Why another server gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// We know no way to it.
    #[error("the server is not known")]
    Unknown,
    /// It does not answer, or says nothing useful.
    #[error("the server does not answer")]
    Unreachable,
    /// It refuses.
    #[error("the server refuses to answer")]
    Refused,
}

/// Why a policy server did not sign an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It does not recommend the event. A client is told what it said.
    #[error("{message}")]
    Refused {
        /// The HTTP status of its answer.
        status: u16,
        /// The `errcode` of its answer.
        errcode: String,
        /// The `error` of its answer.
        message: String,
    },
    /// It gave no answer.
    #[error("the policy server does not answer")]
    Unreachable,
}

/// The peers of a server that does not federate: there are none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Peers for Alone {
    fn keys<'a>(&'a self, _: &'a [Signer]) -> BoxFuture<'a, SignerKeys> {
        Box::pin(async { SignerKeys::new() })
    }

    fn missing_events<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a MissingEvents,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>> {
        Box::pin(async { Err(RemoteError::Unknown) })
    }

    fn event<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a EventId,
    ) -> BoxFuture<'a, Result<Box<RawValue>, RemoteError>> {
        Box::pin(async { Err(RemoteError::Unknown) })
    }

    fn state_ids<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a RoomId,
        _: &'a EventId,
    ) -> BoxFuture<'a, Result<StateIds, RemoteError>> {
        Box::pin(async { Err(RemoteError::Unknown) })
    }

    fn state<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a RoomId,
        _: &'a EventId,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>> {
        Box::pin(async { Err(RemoteError::Unknown) })
    }

    fn event_auth<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a RoomId,
        _: &'a EventId,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>> {
        Box::pin(async { Err(RemoteError::Unknown) })
    }

    fn backfill<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a RoomId,
        _: &'a [OwnedEventId],
        _: u32,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>> {
        Box::pin(async { Err(RemoteError::Unknown) })
    }

    fn closest_event<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a RoomId,
        _: MilliSecondsSinceUnixEpoch,
        _: Direction,
    ) -> BoxFuture<'a, Result<ClosestEvent, RemoteError>> {
        Box::pin(async { Err(RemoteError::Unknown) })
    }

    fn policy_signature<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a RawValue,
    ) -> BoxFuture<'a, Result<Base64, PolicyError>> {
        Box::pin(async { Err(PolicyError::Unreachable) })
    }
}
