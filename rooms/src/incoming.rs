//! Events as other servers send them, before and after their signatures are checked.
//!
//! Server-Server API, "Checks performed on receipt of a PDU", steps 1 to 3.

use std::{collections::BTreeSet, num::NonZero, sync::Arc, thread::available_parallelism};

use hearth_core::{
    Identity, Pdu,
    pdu::{PduError, event_id},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, RoomId, UserId,
    canonical_json::redact_in_place,
    room_version_rules::RoomVersionRules,
    signatures::{self, PublicKeyMap, required_server_signatures_to_verify_event, verify_event},
    state_res::check_pdu_format,
};
use serde_json::value::RawValue;

use crate::{
    Rooms,
    peers::{Signer, SignerKeys},
};

/// How many bytes an event may have that comes in, `unsigned` included.
const MAX_BYTES: usize = 4 * 65_535;

/// How long the type and the state key of an event may be.
const LONGEST: usize = 255;

/// How many signatures of one server are looked at.
const SIGNATURES: usize = 8;

/// From how many events on they are verified on a thread of their own.
const MANY: usize = 4;

/// An event that another server sent; its signatures are not checked.
#[derive(Clone, Debug)]
pub struct Incoming {
    pdu: Pdu,
    object: CanonicalJsonObject,
}

/// An event whose signatures are right; where its hash was wrong, it is redacted.
#[derive(Clone, Debug)]
pub struct Verified {
    pub(crate) pdu: Pdu,
    pub(crate) object: CanonicalJsonObject,
}

/// Why an event is dropped.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It has too many bytes.
    #[error("the event is too large")]
    TooLarge,
    /// It is no canonical JSON.
    #[error("the event is no canonical JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It has not the form that the room version asks for.
    #[error("{0}")]
    Format(String),
    /// A field cannot be read.
    #[error("{0}")]
    Field(#[from] PduError),
    /// It, or an event that it comes after, belongs to another room.
    #[error("the event belongs to another room")]
    WrongRoom,
    /// A signature is missing or wrong.
    #[error("{0}")]
    Signature(String),
    /// The key of a signature cannot be had, so that it is not known whether the signature is right.
    #[error("the key of a signature cannot be had: {0}")]
    NoKey(String),
}

impl Incoming {
    /// Reads an event of a room, whatever came with it in `unsigned`.
    ///
    /// # Errors
    ///
    /// See [`Malformed`].
    pub fn read(
        json: &RawValue,
        room_id: &RoomId,
        rules: &RoomVersionRules,
    ) -> Result<Self, Malformed> {
        if json.get().len() > MAX_BYTES {
            return Err(Malformed::TooLarge);
        }
        let mut object: CanonicalJsonObject = serde_json::from_str(json.get())?;
        object.remove("unsigned");
        check_format(&object, rules).map_err(Malformed::Format)?;
        let event_id = event_id(&object, rules)?;
        let json = RawValue::from_string(serde_json::to_string(&object)?)?;
        let pdu = Pdu::parse(event_id, json, rules)?;
        if pdu.room_id != room_id {
            return Err(Malformed::WrongRoom);
        }
        Ok(Self { pdu, object })
    }

    /// Its id.
    #[must_use]
    pub fn event_id(&self) -> &EventId {
        &self.pdu.event_id
    }

    /// Who says to have sent it.
    #[must_use]
    pub fn sender(&self) -> &UserId {
        &self.pdu.sender
    }

    /// Whether it is a state event.
    pub(crate) fn is_state(&self) -> bool {
        self.pdu.state_key.is_some()
    }

    /// When it was made, as its sender says.
    pub(crate) fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.pdu.origin_server_ts
    }

    /// The keys that must have signed it.
    fn signers(&self, rules: &RoomVersionRules) -> Vec<Signer> {
        let at = rules
            .enforce_key_validity
            .then_some(self.pdu.origin_server_ts);
        let signatures = self
            .object
            .get("signatures")
            .and_then(|map| map.as_object());
        // Without the servers verification fails, and says why.
        let servers = required_server_signatures_to_verify_event(&self.object, &rules.signatures)
            .unwrap_or_default();
        let keys = servers.into_iter().flat_map(|server| {
            let keys = signatures.and_then(|map| map.get(server.as_str())?.as_object());
            let keys = keys.into_iter().flat_map(CanonicalJsonObject::keys);
            let known = keys.filter(|key| key.starts_with("ed25519:"));
            known.take(SIGNATURES).map(move |key| Signer {
                server: server.clone(),
                key_id: key.clone(),
                at,
            })
        });
        keys.collect()
    }

    /// Checks its signatures with those of the keys that were good when it was made.
    fn verify(self, keys: &SignerKeys, rules: &RoomVersionRules) -> Result<Verified, Malformed> {
        let mut good = PublicKeyMap::new();
        let mut lacks_key = false;
        for signer in self.signers(rules) {
            let Some(key) = keys.get(&signer) else {
                lacks_key = true;
                continue;
            };
            let of_server = good.entry(signer.server.to_string()).or_default();
            of_server.insert(signer.key_id, key.clone());
        }
        let Self { pdu, mut object } = self;
        let verified = verify_event(&good, &object, rules).map_err(|error| match lacks_key {
            true => Malformed::NoKey(error.to_string()),
            false => Malformed::Signature(error.to_string()),
        })?;
        match verified {
            signatures::Verified::All => Ok(Verified { pdu, object }),
            signatures::Verified::Signatures => {
                redact_in_place(&mut object, &rules.redaction, None)
                    .map_err(|error| Malformed::Format(error.to_string()))?;
                let json = RawValue::from_string(serde_json::to_string(&object)?)?;
                let pdu = Pdu::parse(pdu.event_id, json, rules)?;
                Ok(Verified { pdu, object })
            }
        }
    }
}

/// Checks the form of an event.
///
/// Before room version 11 servers have always measured types and state keys in code points, and rooms have events that
/// are longer in bytes: whoever drops them cuts itself off from what comes after.
fn check_format(object: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<(), String> {
    let counts_bytes = rules.authorization.use_room_create_sender;
    let is_long = |field: &&str| {
        let text = object.get(*field).and_then(CanonicalJsonValue::as_str);
        text.is_some_and(|text| text.len() > LONGEST && text.chars().count() <= LONGEST)
    };
    let long: Vec<&str> = ["type", "state_key"].into_iter().filter(is_long).collect();
    if counts_bytes || long.is_empty() {
        return check_pdu_format(object, &rules.event_format);
    }
    let mut measured = object.clone();
    for field in long {
        measured.insert(field.to_owned(), "of a good length".into());
    }
    check_pdu_format(&measured, &rules.event_format)
}

impl Verified {
    /// Its id.
    #[must_use]
    pub fn event_id(&self) -> &EventId {
        &self.pdu.event_id
    }

    /// The same event without what its signatures were checked over, for those that are only stored.
    pub(crate) fn without_object(self) -> Self {
        Self {
            pdu: self.pdu,
            object: CanonicalJsonObject::new(),
        }
    }

    /// The event.
    #[must_use]
    pub fn pdu(&self) -> &Pdu {
        &self.pdu
    }

    /// The events that it cites, and the create event where that is cited by the room's id.
    pub(crate) fn authorities(&self, rules: &RoomVersionRules) -> Vec<ruma::OwnedEventId> {
        let mut ids = self.pdu.auth_events.clone();
        if rules.authorization.room_create_event_id_as_room_id {
            let id = format!("${}", self.pdu.room_id.strip_sigil());
            ids.extend(
                EventId::parse(id)
                    .ok()
                    .filter(|id| *id != self.pdu.event_id),
            );
        }
        ids
    }
}

impl Rooms {
    /// Checks the signatures and hashes of events of one room version; the results are in the order of the events.
    ///
    /// All keys that are not known are asked for at once.
    pub async fn verify(
        &self,
        rules: &RoomVersionRules,
        events: Vec<Incoming>,
    ) -> Vec<Result<Verified, Malformed>> {
        let Identity { server_name, key } = self.identity();
        let wanted: BTreeSet<Signer> = events
            .iter()
            .flat_map(|event| event.signers(rules))
            .collect();
        let (own, wanted): (Vec<Signer>, Vec<Signer>) = wanted
            .into_iter()
            .partition(|signer| signer.server == *server_name && signer.key_id == key.id());
        let mut keys = match wanted.as_slice() {
            [] => SignerKeys::new(),
            wanted => self.peers().keys(wanted).await,
        };
        keys.extend(own.into_iter().map(|signer| (signer, key.public())));
        if events.len() < MANY {
            let events = events.into_iter();
            return events.map(|event| event.verify(&keys, rules)).collect();
        }
        self.verify_on_threads(rules, keys, events).await
    }

    /// Verifies many events on all cores.
    async fn verify_on_threads(
        &self,
        rules: &RoomVersionRules,
        keys: SignerKeys,
        events: Vec<Incoming>,
    ) -> Vec<Result<Verified, Malformed>> {
        let cores = available_parallelism().map_or(1, NonZero::get);
        let share = events.len().div_ceil(cores);
        let shared = Arc::new((keys, rules.clone()));
        let mut events = events.into_iter().peekable();
        let mut parts = Vec::with_capacity(cores);
        while events.peek().is_some() {
            let part: Vec<Incoming> = events.by_ref().take(share).collect();
            let (count, shared) = (part.len(), Arc::clone(&shared));
            let work = self.tasks().spawn_blocking(move || -> Vec<_> {
                let part = part.into_iter();
                part.map(|event| event.verify(&shared.0, &shared.1))
                    .collect()
            });
            parts.push((count, work));
        }
        let mut verified = Vec::new();
        for (count, work) in parts {
            match work.await {
                Ok(part) => verified.extend(part),
                Err(error) => verified
                    .extend((0..count).map(|_| Err(Malformed::Signature(error.to_string())))),
            }
        }
        verified
    }
}
