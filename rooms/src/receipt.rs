//! Giving a received event its place: what it passes and fails, and the write that follows from that.
//!
//! Server-Server API, "Checks performed on receipt of a PDU", steps 4 to 7.

use hearth_core::{EventNid, Pdu, StateKeyNid, UserNid};
use hearth_store::{
    missing_previous::{self, Child},
    pending_redaction,
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
    snapshot::Snapshot,
};

/// The events that a received one comes after, and the state before it.
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
}

impl Rooms {
    /// Judges an event whose ancestors are known, and stores it.
    pub(crate) async fn place(
        &self,
        room: &Room,
        event: Verified,
        ancestry: Ancestry,
        origin: Origin,
    ) -> Result<Placed, SendError> {
        let candidate = self.judge(room, event, ancestry, origin).await?;
        for attempt in 1..=ATTEMPTS {
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
        let status = match changes.receive(candidate).await {
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
        let status = match changes.receive(candidate).await {
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

    /// Finds out all about an event of the past: nobody is asked whether it should be in the room.
    pub(crate) async fn judge_past(
        &self,
        room: &Room,
        event: Verified,
        ancestry: Ancestry,
    ) -> Result<Candidate, SendError> {
        self.judge(room, event, ancestry, Origin::Past).await
    }

    /// Finds out all about an event that does not depend on the current state.
    async fn judge(
        &self,
        room: &Room,
        event: Verified,
        ancestry: Ancestry,
        origin: Origin,
    ) -> Result<Candidate, SendError> {
        let authorities = event.authorities(&room.rules);
        let authorities: Vec<_> = authorities.iter().map(AsRef::as_ref).collect();
        let cited = self.by_id(&authorities).await?;
        let before = self.merge(room, &ancestry.states).await?;
        let mut verdict = check_cited(&room.rules.authorization, &event.pdu, &cited);
        if verdict.is_ok() {
            verdict = self.allows(room, &event.pdu, &before.map).await?;
        }
        let (recommendation, event) = match (&verdict, &origin) {
            (Ok(()), Origin::Peer) => self.recommend(room, event).await?,
            // Whose event is ours has asked.
            (Ok(()), Origin::Past | Origin::Own { .. }) | (Err(_), _) => {
                (Recommendation::Included, event)
            }
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
            origin,
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
