//! Taking over a room that other servers have: what `send_join` answered becomes the room as we know it.
//!
//! Nothing in the answer is believed. Each event must be signed, fit its room and be allowed by its auth events; what is
//! left of the state must allow the join. The state and its auth chains are stored as outliers; then the members from other
//! servers and, under the log's lock, the join itself with the new current state are written in one transaction that holds
//! the room's row.

mod rows;

use std::{
    collections::HashSet, num::NonZero, ops::Range, sync::Arc, thread::available_parallelism,
};

use hearth_core::{EventNid, Pdu};
use hearth_journal::WriteError;
use hearth_store::{room as room_table, room_members};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, events::TimelineEventType,
    room_version_rules::RoomVersionRules,
};
use serde::Deserialize;

use self::rows::Plan;
use crate::{
    Rooms,
    authorise::{ById, check_cited},
    error::SendError,
    event::RoomEvent,
    incoming::{Incoming, Verified},
    residents::JoinAnswer,
    room::{Current, Room},
    snapshot::StateMap,
    version,
};

/// How often it is tried again when somebody else writes the room at the same time.
const ATTEMPTS: usize = 3;

/// A join that another server took in, with what it answered.
#[derive(Clone, Debug)]
pub(crate) struct Adoption {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its version, as the other server says.
    pub version: RoomVersionId,
    /// The join that was sent.
    pub join: Pdu,
    /// The answer.
    pub answer: JoinAnswer,
}

impl Adoption {
    /// How many events the answer has.
    fn len(&self) -> usize {
        self.answer.state.len() + self.answer.auth_chain.len()
    }

    /// Reads some of the events of the answer; says of each whether it is told as part of the state.
    fn read(&self, rules: &RoomVersionRules, part: Range<usize>) -> Vec<(bool, Incoming)> {
        let state = self.answer.state.iter().map(|json| (true, json));
        let chain = self.answer.auth_chain.iter().map(|json| (false, json));
        let part = state.chain(chain).skip(part.start).take(part.len());
        part.filter_map(|(is_state, json)| {
            let event = Incoming::read(json, &self.room_id, rules);
            Some((is_state, event.ok()?))
        })
        .collect()
    }
}

/// Why a room was not adopted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdoptError {
    /// What the other server answered is no good.
    #[error("the answer to a join is no good: {0}")]
    Malformed(String),
    /// This server is in the room already.
    #[error("this server is in the room already")]
    Resident,
    /// Writing the room failed.
    #[error(transparent)]
    Event(#[from] SendError),
}

impl AdoptError {
    fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed(reason.into())
    }
}

impl From<sqlx::Error> for AdoptError {
    fn from(error: sqlx::Error) -> Self {
        Self::Event(SendError::Storage(error))
    }
}

/// An answer of which everything was checked, and what of it is stored.
struct Checked {
    join: Pdu,
    /// What the join cites.
    auth: Vec<EventNid>,
    /// The state before the join.
    state: Vec<Arc<RoomEvent>>,
    map: StateMap,
}

impl Rooms {
    /// Makes the room ours.
    pub(crate) async fn adopt(&self, adoption: Adoption) -> Result<(), AdoptError> {
        let rules = version::supported(&adoption.version)
            .ok_or_else(|| AdoptError::malformed("the room version is not supported"))?;
        if adoption.answer.members_omitted {
            return Err(AdoptError::malformed("it leaves members out"));
        }
        let mut adoption = Arc::new(adoption);
        let (state, events) = self.verified(&mut adoption, &rules).await;
        let declared = declared_version(&events, &state);
        if declared.as_deref() != Some(adoption.version.as_str()) {
            return Err(AdoptError::malformed(
                "its create event is missing or says another version",
            ));
        }
        let join = self.countersigned(&adoption, &rules).await?;
        let room = self.row_for(&adoption.room_id, &adoption.version).await?;
        if self.is_resident(&room).await? {
            return Err(AdoptError::Resident);
        }
        self.store_outliers(&room, &events).await?;
        drop(events);
        let checked = self.check_state(&room, join, &state).await?;
        for _ in 0..ATTEMPTS {
            let plan = Plan::make(self, &room, &checked).await?;
            if self.write_adopted(&room, plan).await? {
                return Ok(());
            }
            if self.is_resident(&room).await? {
                return Err(AdoptError::Resident);
            }
        }
        Err(SendError::Contended.into())
    }

    /// Whether this server is in the room: a user of ours is joined to it.
    pub async fn is_resident(&self, room: &Room) -> sqlx::Result<bool> {
        let mut conn = self.pool().acquire().await?;
        let joined = room_members::find_joined(&mut conn, room.nid).await?;
        Ok(joined.ours > 0)
    }

    /// The events of an answer that are signed as they must be, and the ids of those that are the state.
    async fn verified(
        &self,
        adoption: &mut Arc<Adoption>,
        rules: &RoomVersionRules,
    ) -> (Vec<OwnedEventId>, Vec<Verified>) {
        let told = adoption.len();
        let (mut state, mut seen) = (HashSet::new(), HashSet::new());
        let mut events = Vec::new();
        for (is_state, event) in self.read_on_threads(adoption, rules).await {
            let id = event.event_id();
            if is_state && !state.contains(id) {
                state.insert(id.to_owned());
            }
            if seen.insert(id.to_owned()) {
                events.push(event);
            }
        }
        if let Some(adoption) = Arc::get_mut(adoption) {
            adoption.answer.state = Vec::new();
            adoption.answer.auth_chain = Vec::new();
        }
        let events = self.verify(rules, events).await;
        let events = events.into_iter().filter_map(Result::ok);
        // In a large room what was signed takes up more than all the rest, and is not needed any more.
        let events: Vec<Verified> = events.map(Verified::without_object).collect();
        tracing::debug!(room_id = %adoption.room_id, told, good = events.len(), "read the answer to a join");
        let ids = events.iter().map(|event| event.event_id().to_owned());
        (ids.filter(|id| state.contains(id)).collect(), events)
    }

    /// Reads the events of an answer, on all cores, in their order.
    async fn read_on_threads(
        &self,
        adoption: &Arc<Adoption>,
        rules: &RoomVersionRules,
    ) -> Vec<(bool, Incoming)> {
        let cores = available_parallelism().map_or(1, NonZero::get);
        let share = adoption.len().div_ceil(cores).max(1);
        let parts = (0..adoption.len()).step_by(share).map(|begin| {
            let (adoption, rules) = (Arc::clone(adoption), rules.clone());
            let part = begin..(begin + share).min(adoption.len());
            self.tasks()
                .spawn_blocking(move || adoption.read(&rules, part))
        });
        let parts: Vec<_> = parts.collect();
        let mut read = Vec::new();
        for part in parts {
            read.extend(part.await.unwrap_or_default());
        }
        read
    }

    /// The join as the other server signed it, if its signature is needed.
    async fn countersigned(
        &self,
        adoption: &Adoption,
        rules: &RoomVersionRules,
    ) -> Result<Pdu, AdoptError> {
        let malformed = |_| AdoptError::malformed("the join is not signed by who allowed it");
        let own = &adoption.join.json;
        let signed = adoption.answer.event.as_ref().unwrap_or(own);
        let read = Incoming::read(signed, &adoption.room_id, rules).map_err(malformed)?;
        if read.event_id() != adoption.join.event_id {
            return Err(AdoptError::malformed("the join came back as another event"));
        }
        let verified = self.verify(rules, vec![read]).await.pop();
        let verified = verified.ok_or(SendError::Overloaded)?;
        Ok(verified.map_err(malformed)?.pdu)
    }

    /// What of a told state may be part of one, if it allows the join.
    async fn check_state(
        &self,
        room: &Room,
        join: Pdu,
        state: &[OwnedEventId],
    ) -> Result<Checked, AdoptError> {
        let ids: Vec<&EventId> = state.iter().map(AsRef::as_ref).collect();
        let mut held: Vec<Arc<RoomEvent>> = self.by_id(&ids).await?.into_values().collect();
        held.retain(|event| event.room == room.nid && !ruma::state_res::Event::rejected(&**event));
        // Of two events for one key the first counts, wherever it is told.
        held.sort_by_key(|event| event.nid);
        let mut map = StateMap::new();
        held.retain(|event| {
            let free = event.state_key.filter(|key| !map.contains_key(key));
            free.is_some_and(|key| map.insert(key, event.nid).is_none())
        });
        let cited = self.authorities_of(room, &join).await?;
        let rules = &room.rules.authorization;
        check_cited(rules, &join, &cited).map_err(AdoptError::Malformed)?;
        self.allows(room, &join, &map)
            .await?
            .map_err(AdoptError::Malformed)?;
        let auth = join.auth_events.iter().filter_map(|id| cited.get(id));
        Ok(Checked {
            auth: auth.map(|event| event.nid).collect(),
            state: held,
            map,
            join,
        })
    }

    async fn authorities_of(&self, room: &Room, event: &Pdu) -> sqlx::Result<ById> {
        let mut ids: Vec<&EventId> = event.auth_events.iter().map(AsRef::as_ref).collect();
        let create = format!("${}", room.id.strip_sigil());
        ids.extend(<&EventId>::try_from(create.as_str()));
        self.by_id(&ids).await
    }

    /// The room's row, made if there is none; a version that only an invite told is put right.
    pub(crate) async fn row_for(
        &self,
        room_id: &RoomId,
        version: &RoomVersionId,
    ) -> Result<Arc<Room>, SendError> {
        let mut conn = self.pool().acquire().await?;
        room_table::insert(&mut conn, room_id.as_str(), version.as_str()).await?;
        drop(conn);
        let room = self.find(room_id).await?.ok_or(SendError::UnknownRoom)?;
        if room.version == *version {
            return Ok(room);
        }
        let mut conn = self.pool().acquire().await?;
        let updated = room_table::update_version(&mut conn, room.nid, version.as_str()).await?;
        drop(conn);
        if !updated {
            return Err(SendError::BadEvent("the room has another version".into()));
        }
        self.forget_room(&room).await;
        let room = self.find(room_id).await?.ok_or(SendError::UnknownRoom)?;
        if room.version == *version {
            return Ok(room);
        }
        Err(SendError::BadEvent("the room has another version".into()))
    }

    /// Writes the plan; `false` when the room changed meanwhile.
    async fn write_adopted(&self, room: &Room, plan: Plan) -> Result<bool, SendError> {
        plan.insert_words(self.pool()).await?;
        let mut slot = room.head.lock().await;
        let mut tx = self.pool().begin().await?;
        let row = room_table::lock(&mut tx, room.nid).await?;
        let row = row.ok_or(SendError::UnknownRoom)?;
        if row.revision != plan.revision || row.extremities != plan.write.extremities_gone {
            return Ok(false);
        }
        plan.insert_beforehand(&mut tx).await?;
        let join = Arc::clone(&plan.join);
        let current = Current {
            revision: plan.revision + 1,
            snapshot: Arc::clone(&plan.after),
        };
        self.events().remember(Arc::clone(&join)).await;
        room.expect(join.nid, current.clone());
        let outcome = self.journal().commit(tx, plan.into_write()).await;
        room.expected(join.nid);
        slot.generation += 1;
        slot.head = None;
        let written = match outcome {
            Ok(written) => written,
            Err(error) => {
                self.events().forget(join.nid).await;
                return match error {
                    WriteError::Lost | WriteError::Duplicate(_) => Ok(false),
                    WriteError::Overloaded | WriteError::Storage(_) => Err(error.into()),
                };
            }
        };
        join.place(written.first.0);
        let snapshot = Arc::clone(&current.snapshot);
        self.snapshots().remember(snapshot).await;
        room.set_current(current);
        Ok(true)
    }
}

/// The room version that the create event of a state says.
fn declared_version(events: &[Verified], state: &[OwnedEventId]) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        room_version: Option<String>,
    }
    let state: HashSet<&OwnedEventId> = state.iter().collect();
    let mut created = events.iter().map(Verified::pdu);
    let create = created.find(|pdu| {
        pdu.is_state(&TimelineEventType::RoomCreate) && state.contains(&pdu.event_id)
    })?;
    let content: Content = create.content_as().ok()?;
    Some(content.room_version.unwrap_or_else(|| "1".to_owned()))
}
