//! Giving a received event its place: what it passes and fails, and the write that follows from that.
//!
//! Server-Server API, "Checks performed on receipt of a PDU", steps 4 to 7.

use hearth_core::{EventNid, Pdu, StateKeyNid, UserNid};
use hearth_store::{
    missing_previous::Child,
    write::{Redacts, Source, Status, TransactionRow},
};
use ruma::{OwnedEventId, events::TimelineEventType};

use crate::{
    Rooms,
    authorise::check_cited,
    changes::Changes,
    commit::{ATTEMPTS, Built, LOSSES, Outcome},
    error::SendError,
    incoming::Verified,
    merge::{After, Merged},
    outliers::auth_nids,
    policy::Recommendation,
    room::Room,
    series::{Facts, Series},
    snapshot::Snapshot,
};

/// The events that a received one comes after, and the state before it.
#[derive(Clone)]
pub(crate) struct Ancestry {
    /// Those that have a place here.
    pub(crate) previous: Vec<EventNid>,
    /// Those that have none.
    pub(crate) gaps: Vec<OwnedEventId>,
    /// The states after all of them.
    pub(crate) states: Vec<After>,
}

/// Whose event is placed.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// Another server's.
    Peer,
    /// Another server's, and new to nobody but us.
    Past,
    /// Ours, made here and signed by the room's policy server. It has to pass all checks.
    Own {
        transaction: Option<TransactionRow>,
        /// The state event that it must replace.
        replaces: Option<EventNid>,
    },
}

/// What became of an event that was to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is stored.
    New(Status),
    /// It was stored before, or its transaction made this event.
    Known(EventNid),
}

/// A received event with all that is known of it before it is compared with the current state.
pub(crate) struct Candidate {
    pub(crate) pdu: Pdu,
    pub(crate) sender: UserNid,
    pub(crate) state_key: Option<StateKeyNid>,
    pub(crate) auth: Vec<EventNid>,
    pub(crate) ancestry: Ancestry,
    pub(crate) origin: Origin,
    /// Why it is rejected, if it is.
    pub(crate) verdict: Result<(), String>,
    pub(crate) recommendation: Recommendation,
    /// Its number, if it is stored as an outlier.
    pub(crate) outlier: Option<EventNid>,
    /// Whether an event that comes after it is known already.
    pub(crate) child: Child,
    pub(crate) redacts: Option<Redacts>,
    /// The redaction that came before it.
    pub(crate) redaction: Option<EventNid>,
    /// The stored redactions that came before it, whether they apply or not.
    pub(crate) redactions_seen: Vec<EventNid>,
}

/// An event that is to be judged.
#[derive(Clone)]
pub(crate) struct Proposal {
    pub(crate) event: Verified,
    pub(crate) ancestry: Ancestry,
    pub(crate) origin: Origin,
    pub(crate) recommendation: Recommendation,
}

impl Rooms {
    /// Judges an event of ours whose ancestors are known, and stores it. Its policy server was asked.
    pub(crate) async fn place(
        &self,
        room: &Room,
        event: Verified,
        ancestry: Ancestry,
        origin: Origin,
    ) -> Result<Placed, SendError> {
        let proposal = Proposal {
            event,
            ancestry,
            origin,
            recommendation: Recommendation::Included,
        };
        for attempt in 1..=ATTEMPTS {
            let facts = self.facts(room, &[&proposal.event]).await?;
            let alone = Series::default();
            let judging = self.judge(room, proposal.clone(), &facts, &alone);
            let candidate = judging.await?;
            let (outcome, status) = if attempt < LOSSES {
                self.try_place(room, &candidate).await?
            } else {
                self.place_locked(room, &candidate).await?
            };
            match outcome {
                Outcome::Committed => return Ok(Placed::New(status)),
                Outcome::Duplicate(nid) => {
                    self.events().forget(nid).await;
                    return Ok(Placed::Known(nid));
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
        let status = match changes.receive_alone(candidate).await {
            Ok(status) => status,
            Err(error) => {
                self.abandon(&changes.made).await;
                slot.head = Some(head);
                return Err(error);
            }
        };
        let built = Built::of(changes, candidate.transaction()).expect("an event was added");
        Ok((self.submit(room, slot, built).await?, status))
    }

    async fn place_locked(
        &self,
        room: &Room,
        candidate: &Candidate,
    ) -> Result<(Outcome, Status), SendError> {
        let mut slot = room.head.lock().await;
        let (lock, head) = self.lock_head(room, &mut slot).await?;
        let mut changes = Changes::new(self, room, head);
        let status = match changes.receive_alone(candidate).await {
            Ok(status) => status,
            Err(error) => {
                self.abandon(&changes.made).await;
                return Err(error);
            }
        };
        let built = Built::of(changes, candidate.transaction()).expect("an event was added");
        let outcome = self.commit_locked(room, (lock, slot), built).await?;
        Ok((outcome, status))
    }

    /// Finds out all about an event that does not depend on the current state.
    pub(crate) async fn judge(
        &self,
        room: &Room,
        proposal: Proposal,
        facts: &Facts,
        series: &Series,
    ) -> Result<Candidate, SendError> {
        let Proposal {
            event,
            ancestry,
            origin,
            recommendation,
        } = proposal;
        let cited = self.among(series, &event.authorities(&room.rules)).await?;
        let before = self.merge(room, &ancestry.states).await?;
        let pdu = event.pdu;
        let mut verdict = check_cited(&room.rules.authorization, &pdu, &cited);
        if verdict.is_ok() {
            verdict = self.allows(room, &pdu, &before.map).await?;
        }
        if let Err(reason) = &verdict {
            tracing::debug!(event_id = %pdu.event_id, room_id = %room.id, "an event was rejected: {reason}");
        }
        let sender = facts.numbers.senders.get(&pdu.sender).copied();
        Ok(Candidate {
            sender: sender.ok_or(sqlx::Error::RowNotFound)?,
            state_key: facts
                .numbers
                .state_key(pdu.kind.to_string(), pdu.state_key.clone()),
            auth: auth_nids(pdu.auth_events.iter().filter_map(|id| cited.get(id))),
            redacts: self.redacts(room, &pdu, (&before, series)).await?,
            redaction: self.early_redaction(room, &pdu, (facts, series)).await?,
            redactions_seen: facts.redactions(&pdu.event_id),
            outlier: facts.outlier(&pdu.event_id),
            child: facts.child(&pdu.event_id),
            ancestry,
            origin,
            verdict,
            recommendation,
            pdu,
        })
    }

    /// What an event redacts, if its sender may.
    async fn redacts(
        &self,
        room: &Room,
        pdu: &Pdu,
        (before, series): (&Merged, &Series),
    ) -> Result<Option<Redacts>, SendError> {
        let (TimelineEventType::RoomRedaction, Some(target)) = (&pdu.kind, &pdu.redacts) else {
            return Ok(None);
        };
        let found = self.among(series, std::slice::from_ref(target)).await?;
        let Some(target) = found.get(target) else {
            return Ok(Some(Redacts::Unknown(target.to_string())));
        };
        let state = Snapshot::unstored(before.map.clone());
        let allowed =
            target.room == room.nid && self.may_redact(room, pdu, &target.pdu, &state).await?;
        Ok(allowed.then_some(Redacts::Known(target.nid)))
    }

    /// The redaction that came before its target.
    async fn early_redaction(
        &self,
        room: &Room,
        pdu: &Pdu,
        (facts, series): (&Facts, &Series),
    ) -> Result<Option<EventNid>, SendError> {
        let waiting = facts.redactions(&pdu.event_id);
        let waiting = self.events().map(waiting).await?.into_values();
        let waiting: Vec<_> = waiting.filter(|event| event.is_accepted()).collect();
        let befores = waiting.iter().filter_map(|event| event.snapshot);
        let befores = self.snapshots().map(befores.collect::<Vec<_>>()).await?;
        let stored = waiting.iter().filter_map(|redaction| {
            let before = befores.get(&redaction.snapshot?)?;
            Some((redaction, before))
        });
        let made = series.redactions(&pdu.event_id);
        let all: Vec<_> = stored
            .chain(made.map(|(event, before)| (event, before)))
            .collect();
        for (redaction, before) in all {
            if redaction.room == room.nid
                && self.may_redact(room, &redaction.pdu, pdu, before).await?
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

impl Candidate {
    fn transaction(&self) -> Option<TransactionRow> {
        match &self.origin {
            Origin::Peer | Origin::Past => None,
            Origin::Own { transaction, .. } => transaction.clone(),
        }
    }

    pub(crate) fn source(&self) -> Source {
        match (&self.origin, self.outlier) {
            (Origin::Own { .. }, _) => Source::Made,
            (Origin::Peer | Origin::Past, Some(_)) => Source::Outlier,
            (Origin::Peer | Origin::Past, None) => Source::Received,
        }
    }
}
