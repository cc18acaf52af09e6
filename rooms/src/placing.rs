//! Where a received event goes: into the timeline and onto the head, aside, or before the timeline.

use std::sync::Arc;

use hearth_store::{
    missing_previous::Child,
    write::{Gap, Placement, Status},
};
use ruma::OwnedEventId;

use crate::{
    changes::{Changes, References, event_row},
    error::SendError,
    event::RoomEvent,
    merge::After,
    policy::Recommendation,
    receipt::{Candidate, Origin},
    series::Series,
    snapshot::Snapshot,
};

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

    /// Whether an event of ours may go where it was to go.
    fn insist(&self, candidate: &Candidate, status: Status) -> Result<(), SendError> {
        let Origin::Own { replaces, .. } = &candidate.origin else {
            return Ok(());
        };
        if status != Status::Accepted {
            let reason = candidate.verdict.clone().err();
            let reason = reason.unwrap_or_else(|| "the room changed meanwhile".to_owned());
            return Err(SendError::Forbidden(reason));
        }
        let held = candidate
            .state_key
            .and_then(|key| self.head.snapshot.get(key));
        match replaces.is_none() || held == *replaces {
            true => Ok(()),
            false => Err(SendError::Superseded),
        }
    }

    /// Receives an event that goes into a write of its own.
    pub(crate) async fn receive_alone(
        &mut self,
        candidate: &Candidate,
    ) -> Result<Status, SendError> {
        let mut series = Series::on(&self.head);
        let status = self.receive(candidate, &mut series).await?;
        self.refresh_state().await?;
        Ok(status)
    }

    /// Compares a received event with the current state and puts it where it belongs. The current state is to be made
    /// after the last one.
    pub(crate) async fn receive(
        &mut self,
        candidate: &Candidate,
        series: &mut Series,
    ) -> Result<Status, SendError> {
        let before = self.state_before(candidate).await?;
        let status = self.status(candidate, &before, series).await?;
        self.insist(candidate, status)?;
        let event = self
            .add_received(candidate, &before, (status, Placement::Live))
            .await?;
        series.add(Arc::clone(&event), Arc::clone(&before));
        if status == Status::Accepted {
            let previous = &candidate.ancestry.previous;
            match candidate.child {
                Child::None => self.put_on_head(&event, before, previous),
                Child::Known => self.replace(previous),
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
        row.source = candidate.source();
        row.placement = match status {
            Status::Accepted => placement,
            Status::SoftFailed | Status::Rejected => Placement::Outlier,
        };
        let mut event = RoomEvent::new(&row, candidate.pdu.clone());
        if candidate.redaction.is_some() {
            // Its redaction was here before: nobody sees it whole.
            event = event.stripped(&self.room.rules)?;
        }
        let event = Arc::new(match candidate.ancestry.gaps.is_empty() {
            true => event,
            false => event.after_gap(),
        });
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
        self.write
            .redactions_seen
            .extend_from_slice(&candidate.redactions_seen);
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
        series: &mut Series,
    ) -> Result<Status, SendError> {
        if candidate.verdict.is_err() {
            return Ok(Status::Rejected);
        }
        if candidate.recommendation == Recommendation::NotIncluded {
            return Ok(Status::SoftFailed);
        }
        if !candidate.ancestry.gaps.is_empty() {
            let extremities = self.head.extremities.iter();
            let mut states: Vec<After> = extremities.map(|e| e.after.clone()).collect();
            states.push(After::Event {
                before: Arc::clone(before),
                own: None,
            });
            series.current = self.rooms.merge(self.room, &states).await?.map;
        }
        let current = &series.current;
        if before.holds(current) {
            return Ok(Status::Accepted);
        }
        let pdu = &candidate.pdu;
        let allowed = self.rooms.allows(self.room, pdu, current).await?;
        Ok(match allowed {
            Ok(()) => Status::Accepted,
            Err(reason) => {
                tracing::debug!(event_id = %pdu.event_id, room_id = %self.room.id, "an event was soft-failed: {reason}");
                Status::SoftFailed
            }
        })
    }
}
