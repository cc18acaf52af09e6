//! How the servers reach each other: by calling what a handler would call.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use futures_util::future::BoxFuture;
use hearth_rooms::{
    Members, PartialInvite, PeerError, RoomEvent, Rooms, SendError,
    peers::{
        ClosestEvent, MissingEvents, Peers, PolicyError, RemoteError, Signer, SignerKeys, StateIds,
    },
    residents::{
        Answer, Invitation, JoinAnswer, ResidentError, Residents, Submission, Template,
        TemplateRequest,
    },
};
use hearth_store::timeline::Towards;
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, RoomId, ServerName,
    api::{
        Direction,
        error::{ErrorKind, IncompatibleRoomVersionErrorData},
    },
    serde::Base64,
};
use serde_json::value::RawValue;

/// The servers that there are, and those that do not answer.
#[derive(Debug, Default)]
pub(crate) struct Network {
    servers: Mutex<HashMap<OwnedServerName, Rooms>>,
    down: Mutex<HashSet<OwnedServerName>>,
}

impl Network {
    pub(crate) fn add(&self, name: &ServerName, rooms: &Rooms) {
        let mut servers = self.servers.lock().unwrap();
        servers.insert(name.to_owned(), rooms.clone());
    }

    fn reach(&self, name: &ServerName) -> Option<Rooms> {
        if self.down.lock().unwrap().contains(name) {
            return None;
        }
        self.servers.lock().unwrap().get(name).cloned()
    }
}

/// What spoils the answers to joins.
type Spoil = fn(&mut JoinAnswer);

/// A server's way to the others.
#[derive(Debug)]
pub(crate) struct Wire {
    network: Arc<Network>,
    own: OwnedServerName,
    spoil: Mutex<Option<Spoil>>,
}

impl Wire {
    pub(crate) fn new(network: Arc<Network>, own: OwnedServerName) -> Self {
        Self {
            network,
            own,
            spoil: Mutex::new(None),
        }
    }

    /// Takes the server off the network, which else would keep it forever.
    pub(crate) fn leave(&self) {
        self.network.servers.lock().unwrap().remove(&self.own);
    }

    /// Has a server answer nobody.
    pub(crate) fn cut(&self, server: &ServerName) {
        self.network.down.lock().unwrap().insert(server.to_owned());
    }

    /// Has a server answer again.
    pub(crate) fn mend(&self, server: &ServerName) {
        self.network.down.lock().unwrap().remove(server);
    }

    /// Spoils the answers to joins of this server's users.
    pub(crate) fn spoil(&self, spoil: Spoil) {
        *self.spoil.lock().unwrap() = Some(spoil);
    }

    fn resident(&self, server: &ServerName) -> Result<Rooms, ResidentError> {
        self.network.reach(server).ok_or(ResidentError::Unreachable)
    }

    fn peer(&self, server: &ServerName) -> Result<Rooms, RemoteError> {
        self.network.reach(server).ok_or(RemoteError::Unreachable)
    }
}

fn refused(error: &PeerError) -> ResidentError {
    let (status, kind) = match error {
        PeerError::NotFound => (404, ErrorKind::NotFound),
        PeerError::Forbidden(_) => (403, ErrorKind::Forbidden),
        PeerError::Invalid(_) => (400, ErrorKind::InvalidParam),
        PeerError::Missing(_) => (400, ErrorKind::MissingParam),
        PeerError::IncompatibleVersion(version) => {
            let data = IncompatibleRoomVersionErrorData::new(version.clone());
            (400, ErrorKind::IncompatibleRoomVersion(data))
        }
        PeerError::UnableToAuthoriseJoin => (400, ErrorKind::UnableToAuthorizeJoin),
        PeerError::UnableToGrantJoin => (400, ErrorKind::UnableToGrantJoin),
        PeerError::Event(SendError::Storage(_)) => return ResidentError::Unreachable,
        PeerError::Event(_) => (400, ErrorKind::Unknown),
    };
    ResidentError::Refused {
        status,
        kind: Box::new(kind),
        message: error.to_string(),
    }
}

fn json(events: &[Arc<RoomEvent>]) -> Vec<Box<RawValue>> {
    events.iter().map(|event| event.pdu.json.clone()).collect()
}

impl Residents for Wire {
    fn template<'a>(
        &'a self,
        server: &'a ServerName,
        request: TemplateRequest<'a>,
    ) -> Answer<'a, Template> {
        Box::pin(async move {
            let rooms = self.resident(server)?;
            rooms
                .make_template(&self.own, request)
                .await
                .map_err(|error| refused(&error))
        })
    }

    fn send_join<'a>(
        &'a self,
        server: &'a ServerName,
        join: Submission<'a>,
    ) -> Answer<'a, JoinAnswer> {
        Box::pin(async move {
            let rooms = self.resident(server)?;
            let joined = rooms.accept_join(&self.own, join, Members::All).await;
            let joined = joined.map_err(|error| refused(&error))?;
            let mut answer = JoinAnswer {
                state: json(&joined.state),
                auth_chain: json(&joined.auth_chain),
                event: Some(joined.event.pdu.json.clone()),
                members_omitted: joined.members_omitted,
                servers_in_room: joined.servers,
            };
            if let Some(spoil) = *self.spoil.lock().unwrap() {
                spoil(&mut answer);
            }
            Ok(answer)
        })
    }

    fn send_knock<'a>(
        &'a self,
        server: &'a ServerName,
        knock: Submission<'a>,
    ) -> Answer<'a, Vec<Box<RawValue>>> {
        Box::pin(async move {
            let rooms = self.resident(server)?;
            let told = rooms.accept_knock(&self.own, knock).await;
            Ok(json(&told.map_err(|error| refused(&error))?))
        })
    }

    fn send_leave<'a>(&'a self, server: &'a ServerName, leave: Submission<'a>) -> Answer<'a, ()> {
        Box::pin(async move {
            let rooms = self.resident(server)?;
            rooms
                .accept_leave(&self.own, leave)
                .await
                .map_err(|error| refused(&error))
        })
    }

    fn exchange_invite<'a>(
        &'a self,
        server: &'a ServerName,
        invite: &'a PartialInvite,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let rooms = self.resident(server)?;
            let made = rooms.exchange_invite(&self.own, invite.clone()).await;
            made.map_err(|error| refused(&error))
        })
    }

    fn invite<'a>(
        &'a self,
        server: &'a ServerName,
        invitation: Invitation<'a>,
    ) -> Answer<'a, Box<RawValue>> {
        Box::pin(async move {
            let rooms = self.resident(server)?;
            rooms
                .accept_invite(&self.own, invitation)
                .await
                .map_err(|error| refused(&error))
        })
    }
}

impl Peers for Wire {
    fn keys<'a>(&'a self, wanted: &'a [Signer]) -> BoxFuture<'a, SignerKeys> {
        Box::pin(async move {
            let servers = self.network.servers.lock().unwrap();
            let mut keys = SignerKeys::new();
            for signer in wanted {
                if let Some(rooms) = servers.get(&signer.server) {
                    keys.insert(signer.clone(), rooms.identity().key.public());
                }
            }
            keys
        })
    }

    fn missing_events<'a>(
        &'a self,
        from: &'a ServerName,
        wanted: &'a MissingEvents,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>> {
        Box::pin(async move {
            let found = self.peer(from)?.missing_events_for(&self.own, wanted).await;
            Ok(json(&found.map_err(|_| RemoteError::Refused)?))
        })
    }

    fn event<'a>(
        &'a self,
        from: &'a ServerName,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Result<Box<RawValue>, RemoteError>> {
        Box::pin(async move {
            let found = self.peer(from)?.event_for(&self.own, event_id).await;
            Ok(found.map_err(|_| RemoteError::Refused)?.pdu.json.clone())
        })
    }

    fn state_ids<'a>(
        &'a self,
        from: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Result<StateIds, RemoteError>> {
        Box::pin(async move {
            let rooms = self.peer(from)?;
            let found = rooms.state_ids_before(&self.own, room_id, event_id).await;
            let found = found.map_err(|_| RemoteError::Refused)?;
            Ok(StateIds {
                state: found.state,
                auth_chain: found.auth_chain,
            })
        })
    }

    fn state<'a>(
        &'a self,
        from: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>> {
        Box::pin(async move {
            let rooms = self.peer(from)?;
            let found = rooms.state_before(&self.own, room_id, event_id).await;
            let found = found.map_err(|_| RemoteError::Refused)?;
            Ok([json(&found.state), json(&found.auth_chain)].concat())
        })
    }

    fn event_auth<'a>(
        &'a self,
        from: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>> {
        Box::pin(async move {
            let rooms = self.peer(from)?;
            let found = rooms.auth_chain_for(&self.own, room_id, event_id).await;
            Ok(json(&found.map_err(|_| RemoteError::Refused)?))
        })
    }

    fn backfill<'a>(
        &'a self,
        from: &'a ServerName,
        room_id: &'a RoomId,
        event_ids: &'a [OwnedEventId],
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Box<RawValue>>, RemoteError>> {
        Box::pin(async move {
            let rooms = self.peer(from)?;
            let limit = usize::try_from(limit).unwrap();
            let found = rooms
                .history_for(&self.own, room_id, event_ids, limit)
                .await;
            Ok(json(&found.map_err(|_| RemoteError::Refused)?))
        })
    }

    fn closest_event<'a>(
        &'a self,
        from: &'a ServerName,
        room_id: &'a RoomId,
        ts: MilliSecondsSinceUnixEpoch,
        direction: Direction,
    ) -> BoxFuture<'a, Result<ClosestEvent, RemoteError>> {
        Box::pin(async move {
            let towards = match direction {
                Direction::Forward => Towards::Later,
                Direction::Backward => Towards::Earlier,
            };
            let rooms = self.peer(from)?;
            let found = rooms.closest_for(&self.own, room_id, ts.get().into(), towards);
            let found = found.await.map_err(|_| RemoteError::Refused)?;
            Ok(ClosestEvent {
                event_id: found.pdu.event_id.clone(),
                origin_server_ts: found.pdu.origin_server_ts,
            })
        })
    }

    fn policy_signature<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a RawValue,
    ) -> BoxFuture<'a, Result<Base64, PolicyError>> {
        Box::pin(async { Err(PolicyError::Unreachable) })
    }
}
