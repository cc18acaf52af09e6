//! What rooms ask of other servers about events.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use hearth_rooms::peers::{
    ClosestEvent, MOST_STATE, MissingEvents, Peers, PolicyError, RemoteError, Signer, SignerKeys,
    StateIds,
};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, ServerName, UInt,
    api::{
        Direction,
        federation::{
            authorization::get_event_authorization::v1 as get_event_auth,
            backfill::get_backfill::v1 as get_backfill,
            event::{
                get_event::v1 as get_event, get_event_by_timestamp::v1 as get_event_by_timestamp,
                get_missing_events::v1 as get_missing_events, get_room_state::v1 as get_room_state,
                get_room_state_ids::v1 as get_room_state_ids,
            },
            policy::sign_event::v1 as sign_event,
        },
    },
    serde::Base64,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Others, remote};
use crate::{
    bounded::Bounded,
    client::{Bounds, RequestError},
    keys::Wanted,
    stream,
};

/// How many events an answer may have that is a page of some kind.
const MOST_LISTED: usize = 1_000;

/// A page of events.
type Listed = Bounded<Box<RawValue>, MOST_LISTED>;

/// The events of a state.
pub(super) type StateEvents = Bounded<Box<RawValue>, MOST_STATE>;

/// What `get_missing_events` answers.
#[derive(Deserialize)]
struct Missing {
    #[serde(default)]
    events: Listed,
}

/// What `backfill` answers.
#[derive(Deserialize)]
struct Page {
    pdus: Listed,
}

/// What `state_ids` answers.
#[derive(Deserialize)]
struct Ids {
    pdu_ids: Bounded<OwnedEventId, MOST_STATE>,
    auth_chain_ids: Bounded<OwnedEventId, MOST_STATE>,
}

/// What `state` answers.
#[derive(Deserialize)]
struct State {
    pdus: StateEvents,
    auth_chain: StateEvents,
}

/// What `event_auth` answers.
#[derive(Deserialize)]
struct Chain {
    auth_chain: StateEvents,
}

/// The key with which policy servers sign.
const POLICY_KEY: &str = "ed25519:policy_server";

type Events = Result<Vec<Box<RawValue>>, RemoteError>;

impl Peers for Others {
    fn keys<'a>(&'a self, wanted: &'a [Signer]) -> BoxFuture<'a, SignerKeys> {
        Box::pin(async move {
            let wanted: Vec<(&Signer, Wanted)> = wanted
                .iter()
                .filter_map(|signer| Some((signer, to_wanted(signer)?)))
                .collect();
            let asked: Vec<Wanted> = wanted.iter().map(|(_, wanted)| wanted.clone()).collect();
            let mut found = self.keys.find(&asked).await.unwrap_or_else(|error| {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "keys could not be read"
                );
                BTreeMap::new()
            });
            let keys = wanted.into_iter();
            keys.filter_map(|(signer, wanted)| Some((signer.clone(), found.remove(&wanted)?)))
                .collect()
        })
    }

    fn missing_events<'a>(
        &'a self,
        from: &'a ServerName,
        wanted: &'a MissingEvents,
    ) -> BoxFuture<'a, Events> {
        Box::pin(async move {
            let mut request = get_missing_events::Request::new(
                wanted.room_id.clone(),
                wanted.earliest.clone(),
                wanted.latest.clone(),
            );
            request.limit = wanted.limit.into();
            request.min_depth = UInt::try_from(wanted.min_depth).unwrap_or_default();
            let answer = self.client.read(from, request, Bounds::PAGE).await;
            let Missing { events } = answer.map_err(|error| remote(&error))?;
            let mut events = events.0;
            events.truncate(usize::try_from(wanted.limit).unwrap_or(usize::MAX));
            Ok(events)
        })
    }

    fn event<'a>(
        &'a self,
        from: &'a ServerName,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Result<Box<RawValue>, RemoteError>> {
        Box::pin(async move {
            let request = get_event::Request::new(event_id.to_owned());
            let response = self.client.send(from, request, Bounds::SMALL).await;
            Ok(response.map_err(|error| remote(&error))?.pdu)
        })
    }

    fn state_ids<'a>(
        &'a self,
        from: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Result<StateIds, RemoteError>> {
        Box::pin(async move {
            let request = get_room_state_ids::Request::new(event_id.to_owned(), room_id.to_owned());
            let answer = self.client.read(from, request, Bounds::LARGE).await;
            let ids: Ids = answer.map_err(|error| remote(&error))?;
            Ok(StateIds {
                state: ids.pdu_ids.0,
                auth_chain: ids.auth_chain_ids.0,
            })
        })
    }

    fn state<'a>(
        &'a self,
        from: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Events> {
        Box::pin(async move {
            let request = get_room_state::Request::new(event_id.to_owned(), room_id.to_owned());
            let opened = self.client.open(from, request, Bounds::ROOM.time).await;
            let body = opened.map_err(|error| remote(&error))?.into_body();
            let answer =
                stream::parse(body, Bounds::ROOM, (self.client.intake(), &self.tasks)).await;
            let State { pdus, auth_chain } = answer.map_err(|error| remote(&error))?;
            let mut events = pdus.0;
            events.extend(auth_chain.0);
            Ok(events)
        })
    }

    fn event_auth<'a>(
        &'a self,
        from: &'a ServerName,
        room_id: &'a RoomId,
        event_id: &'a EventId,
    ) -> BoxFuture<'a, Events> {
        Box::pin(async move {
            let request = get_event_auth::Request::new(room_id.to_owned(), event_id.to_owned());
            let answer = self.client.read(from, request, Bounds::LARGE).await;
            let Chain { auth_chain } = answer.map_err(|error| remote(&error))?;
            Ok(auth_chain.0)
        })
    }

    fn backfill<'a>(
        &'a self,
        from: &'a ServerName,
        room_id: &'a RoomId,
        event_ids: &'a [OwnedEventId],
        limit: u32,
    ) -> BoxFuture<'a, Events> {
        Box::pin(async move {
            let events = event_ids.to_vec();
            let request = get_backfill::Request::new(room_id.to_owned(), events, limit.into());
            let answer = self.client.read(from, request, Bounds::PAGE).await;
            let Page { pdus } = answer.map_err(|error| remote(&error))?;
            let mut events = pdus.0;
            events.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            Ok(events)
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
            let request = get_event_by_timestamp::Request::new(room_id.to_owned(), ts, direction);
            let response = self.client.send(from, request, Bounds::SMALL).await;
            let response = response.map_err(|error| remote(&error))?;
            Ok(ClosestEvent {
                event_id: response.event_id,
                origin_server_ts: response.origin_server_ts,
            })
        })
    }

    fn policy_signature<'a>(
        &'a self,
        policy_server: &'a ServerName,
        pdu: &'a RawValue,
    ) -> BoxFuture<'a, Result<Base64, PolicyError>> {
        Box::pin(async move {
            let request = sign_event::Request::new(pdu.to_owned());
            let response = self.client.send(policy_server, request, Bounds::SMALL);
            let response = response.await.map_err(policy)?;
            let signatures = response.signatures.get(policy_server);
            let signature = signatures.and_then(|keys| {
                keys.iter()
                    .find(|(key, _)| key.as_str() == POLICY_KEY)
                    .and_then(|(_, signature)| Base64::parse(signature).ok())
            });
            signature.ok_or(PolicyError::Unreachable)
        })
    }
}

fn to_wanted(signer: &Signer) -> Option<Wanted> {
    Some(Wanted {
        server: signer.server.clone(),
        key_id: signer.key_id.as_str().try_into().ok()?,
        at: signer
            .at
            .map(|MilliSecondsSinceUnixEpoch(at)| i64::from(at)),
    })
}

fn policy(error: RequestError) -> PolicyError {
    match error {
        RequestError::Refused {
            status,
            kind,
            message,
        } if status.is_client_error() => PolicyError::Refused {
            status: status.as_u16(),
            errcode: kind.map_or_else(
                || "M_FORBIDDEN".to_owned(),
                |kind| kind.errcode().to_string(),
            ),
            message,
        },
        RequestError::Refused { .. }
        | RequestError::Ourselves
        | RequestError::BadRequest(_)
        | RequestError::Unreachable(_)
        | RequestError::TooLong
        | RequestError::TooLarge
        | RequestError::Malformed(_) => PolicyError::Unreachable,
    }
}
