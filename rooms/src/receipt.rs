//! Giving a received event its place: what it passes and fails, and the write that follows from that.
//!
//! Server-Server API, "Checks performed on receipt of a PDU", steps 4 to 7.

use std::sync::Arc;

use hearth_core::{EventNid, Pdu, StateKeyNid, UserNid};
use hearth_store::{
    missing_previous::{self, Child},
    pending_redaction,
    write::{Gap, Placement, Redacts, Source, Status},
};
use ruma::{OwnedEventId, events::TimelineEventType};

use crate::{
    Rooms,
    authorise::check_cited,
    changes::{Changes, References, event_row},
    commit::{ATTEMPTS, Built, LOSSES, Outcome},
    error::SendError,
    event::RoomEvent,
    incoming::Verified,
    merge::{After, Merged},
    outliers::auth_nids,
    policy::Recommendation,
    room::Room,
    snapshot::Snapshot,
};

/// The events that a received one comes after, and the state before it.
pub(crate) struct Ancestry {
    /// Those that have a place here.
    pub(crate) previous: Vec<Arc<RoomEvent>>,
    /// Those that have none.
    pub(crate) gaps: Vec<OwnedEventId>,
    /// The states after all of them.
    pub(crate) states: Vec<After>,
}

/// A received event with all that is known of it before it is compared with the current state.
pub(crate) struct Candidate {
    pdu: Pdu,
    sender: UserNid,
    state_key: Option<StateKeyNid>,
    auth: Vec<EventNid>,
    ancestry: Ancestry,
    /// Why it is rejected, if it is.
    verdict: Result<(), String>,
    recommendation: Recommendation,
    /// Its number, if it is stored as an outlier.
    outlier: Option<EventNid>,
    /// Whether an event that comes after it is known already.
    child: Child,
    redacts: Option<Redacts>,
    /// The redaction that came before it.
    redaction: Option<EventNid>,
}

impl Rooms {
    /// Judges an event whose ancestors are known, and stores it; `None` when it is stored already.
    pub(crate) async fn place(
        &self,
        room: &Room,
        event: Verified,
        ancestry: Ancestry,
    ) -> Result<Option<Status>, SendError> {
        let candidate = self.judge(room, event, ancestry, Tense::Present).await?;
        for attempt in 1..=ATTEMPTS {
            let (outcome, status) = if attempt < LOSSES {
                self.try_place(room, &candidate).await?
            } else {
                self.place_locked(room, &candidate).await?
            };
            match outcome {
                Outcome::Committed => return Ok(Some(status)),
                Outcome::Duplicate(nid) => {
                    self.events().forget(nid).await;
                    return Ok(None);
                }
                Outcome::Lost => {
                    tracing::debug!(room_id = %room.id, attempt, "the room changed meanwhile, starting over");
                }
            }
        }
        Err(SendError::Contended)
    }

    async fn try_place(
        &self,
        room: &Room,
        candidate: &Candidate,
    ) -> Result<(Outcome, Status), SendError> {
        let mut slot = room.head.lock().await;
        let head = self.take_head(room, &mut slot).await?;
        let mut changes = Changes::new(self, room, head.clone());
        let status = match changes.receive(candidate).await {
            Ok(status) => status,
            Err(error) => {
                self.abandon(&changes.made).await;
                slot.head = Some(head);
                return Err(error);
            }
        };
        let built = Built::of(changes, None).expect("an event was added");
        Ok((self.submit(room, slot, built).await?, status))
    }

    async fn place_locked(
        &self,
        room: &Room,
        candidate: &Candidate,
    ) -> Result<(Outcome, Status), SendError> {
        let mut slot = room.head.lock().await;
        let (tx, head) = self.lock_head(room, &mut slot).await?;
        let mut changes = Changes::new(self, room, head);
        let status = match changes.receive(candidate).await {
            Ok(status) => status,
            Err(error) => {
                self.abandon(&changes.made).await;
                return Err(error);
            }
        };
        let built = Built::of(changes, None).expect("an event was added");
        let outcome = self.commit_locked(room, (tx, slot), built).await?;
        Ok((outcome, status))
    }

    /// Finds out all about an event of the past: nobody is asked whether it should be in the room.
    pub(crate) async fn judge_past(
        &self,
        room: &Room,
        event: Verified,
        ancestry: Ancestry,
    ) -> Result<Candidate, SendError> {
        self.judge(room, event, ancestry, Tense::Past).await
    }

    /// Finds out all about an event that does not depend on the current state.
    async fn judge(
        &self,
        room: &Room,
        event: Verified,
        ancestry: Ancestry,
        tense: Tense,
    ) -> Result<Candidate, SendError> {
        let authorities = event.authorities(&room.rules);
        let authorities: Vec<_> = authorities.iter().map(AsRef::as_ref).collect();
        let cited = self.by_id(&authorities).await?;
        let before = self.merge(room, &ancestry.states).await?;
        let mut verdict = check_cited(&room.rules.authorization, &event.pdu, &cited);
        if verdict.is_ok() {
            verdict = self.allows(room, &event.pdu, &before.map).await?;
        }
        let (recommendation, event) = match (&verdict, tense) {
            (Ok(()), Tense::Present) => self.recommend(room, event).await?,
            (Ok(()), Tense::Past) | (Err(_), _) => (Recommendation::Included, event),
        };
        let pdu = event.pdu;
        if let Err(reason) = &verdict {
            tracing::debug!(event_id = %pdu.event_id, room_id = %room.id, "an event was rejected: {reason}");
        }
        let nids = self.events().nids(&[&pdu.event_id]).await?;
        let mut conn = self.pool().acquire().await?;
        let child =
            missing_previous::find_child(&mut conn, room.nid, pdu.event_id.as_str()).await?;
        drop(conn);
        let kind = pdu.kind.to_string();
        let state_key = match &pdu.state_key {
            Some(key) => Some(self.interner().state_key(&kind, key).await?),
            None => None,
        };
        Ok(Candidate {
            sender: self.interner().user(&pdu.sender).await?,
            state_key,
            auth: auth_nids(pdu.auth_events.iter().filter_map(|id| cited.get(id))),
            redacts: self.redacts(room, &pdu, &before).await?,
            redaction: self.early_redaction(room, &pdu).await?,
            outlier: nids.get(&pdu.event_id).copied(),
            ancestry,
            verdict,
            recommendation,
            child,
            pdu,
        })
    }

    /// What an event redacts, if its sender may.
    async fn redacts(
        &self,
        room: &Room,
        pdu: &Pdu,
        before: &Merged,
    ) -> Result<Option<Redacts>, SendError> {
        let (TimelineEventType::RoomRedaction, Some(target)) = (&pdu.kind, &pdu.redacts) else {
            return Ok(None);
        };
        let Some(target) = self.by_id(&[target]).await?.remove(target) else {
            return Ok(Some(Redacts::Unknown(target.to_string())));
        };
        let state = Snapshot::unstored(before.map.clone());
        let allowed =
            target.room == room.nid && self.may_redact(room, pdu, &target.pdu, &state).await?;
        Ok(allowed.then_some(Redacts::Known(target.nid)))
    }

    /// The redaction that came before its target.
    async fn early_redaction(&self, room: &Room, pdu: &Pdu) -> Result<Option<EventNid>, SendError> {
        let mut conn = self.pool().acquire().await?;
        let waiting = pending_redaction::list(&mut conn, &[pdu.event_id.as_str()]).await?;
        drop(conn);
        let waiting = self
            .events()
            .map(waiting.into_iter().map(|(_, nid)| nid))
            .await?;
        for redaction in waiting.into_values() {
            let Some(before) = redaction.snapshot else {
                continue;
            };
            let state = self.snapshots().get(before).await?;
            if redaction.room == room.nid
                && redaction.is_accepted()
                && self.may_redact(room, &redaction.pdu, pdu, &state).await?
            {
                return Ok(Some(redaction.nid));
            }
        }
        Ok(None)
    }

    /// Whether a redaction applies to its target: by the power of its sender, or because both come from one server.
    async fn may_redact(
        &self,
        room: &Room,
        redaction: &Pdu,
        target: &Pdu,
        state: &Snapshot,
    ) -> Result<bool, SendError> {
        if redaction.sender.server_name() == target.sender.server_name() {
            return Ok(true);
        }
        match self.power(room, state).await {
            Ok(powers) => Ok(powers.may_redact(&redaction.sender)),
            // A state without a create event gives nobody power.
            Err(SendError::UnknownRoom) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether an event is new to everybody, or only to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tense {
    Present,
    Past,
}

impl Changes<'_> {
    /// Puts an event of the past at a place before the timeline; the head stays as it is.
    pub(crate) async fn look_back(
        &mut self,
        candidate: &Candidate,
        order: i64,
    ) -> Result<(), SendError> {
        let status = match &candidate.verdict {
            Ok(()) => Status::Accepted,
            Err(_) => Status::Rejected,
        };
        let before = self.state_before(candidate).await?;
        let place = Placement::Backfilled(order);
        self.add_received(candidate, &before, (status, place))
            .await?;
        Ok(())
    }

    /// Compares a received event with the current state and puts it where it belongs.
    async fn receive(&mut self, candidate: &Candidate) -> Result<Status, SendError> {
        let before = self.state_before(candidate).await?;
        let status = self.status(candidate, &before).await?;
        let event = self
            .add_received(candidate, &before, (status, Placement::Live))
            .await?;
        if status == Status::Accepted {
            let previous = candidate.ancestry.previous.iter().map(|event| event.nid);
            let previous: Vec<EventNid> = previous.collect();
            match candidate.child {
                Child::None => self.advance(&event, before, &previous).await?,
                Child::Known => {
                    self.replace(&previous);
                    self.refresh_state().await?;
                }
            }
        }
        Ok(status)
    }

    /// The state before an event. Merged anew each time: the snapshot that held it may be gone.
    async fn state_before(&mut self, candidate: &Candidate) -> Result<Arc<Snapshot>, SendError> {
        let states = &candidate.ancestry.states;
        let before = self.rooms.merge(self.room, states).await?;
        self.store(before).await
    }

    /// Adds the row of a received event; only an accepted one gets the place.
    async fn add_received(
        &mut self,
        candidate: &Candidate,
        before: &Snapshot,
        (status, placement): (Status, Placement),
    ) -> Result<Arc<RoomEvent>, SendError> {
        let nid = match candidate.outlier {
            Some(nid) => nid,
            None => self.rooms.blocks().event().await?,
        };
        let refs = References {
            state_key: candidate.state_key,
            auth: candidate.auth.clone(),
            redacts: candidate
                .redacts
                .clone()
                .filter(|_| status == Status::Accepted),
        };
        let place = (self.room, nid);
        let mut row = event_row(place, &candidate.pdu, candidate.sender, before, refs);
        row.status = status;
        row.source = match candidate.outlier {
            Some(_) => Source::Outlier,
            None => Source::Received,
        };
        row.placement = match status {
            Status::Accepted => placement,
            Status::SoftFailed | Status::Rejected => Placement::Outlier,
        };
        let event = Arc::new(RoomEvent::new(&row, candidate.pdu.clone()));
        self.add(row, &event).await;
        let gap = |id: &OwnedEventId| Gap {
            previous: id.to_string(),
            event: nid,
        };
        if status != Status::Rejected {
            let gaps = candidate.ancestry.gaps.iter().map(gap);
            self.write.gaps.extend(gaps);
        }
        let redaction = candidate.redaction.map(|redaction| (nid, redaction));
        self.write.redacted.extend(redaction);
        Ok(event)
    }

    /// What the checks against the current state say.
    ///
    /// An event that comes after a gap tells of a branch that the current state knows nothing of: it counts as if it
    /// were merged already. Else whoever came into the room on that branch could not be heard.
    async fn status(
        &self,
        candidate: &Candidate,
        before: &Arc<Snapshot>,
    ) -> Result<Status, SendError> {
        if candidate.verdict.is_err() {
            return Ok(Status::Rejected);
        }
        if candidate.recommendation == Recommendation::NotIncluded {
            return Ok(Status::SoftFailed);
        }
        let mut current = self.head.snapshot.map.clone();
        if !candidate.ancestry.gaps.is_empty() {
            let extremities = self.head.extremities.iter();
            let mut states: Vec<After> = extremities.map(|e| e.after.clone()).collect();
            states.push(After::Event {
                before: Arc::clone(before),
                own: None,
            });
            current = self.rooms.merge(self.room, &states).await?.map;
        }
        if before.holds(&current) {
            return Ok(Status::Accepted);
        }
        let pdu = &candidate.pdu;
        let allowed = self.rooms.allows(self.room, pdu, &current).await?;
        Ok(match allowed {
            Ok(()) => Status::Accepted,
            Err(reason) => {
                tracing::debug!(event_id = %pdu.event_id, room_id = %self.room.id, "an event was soft-failed: {reason}");
                Status::SoftFailed
            }
        })
    }
}
