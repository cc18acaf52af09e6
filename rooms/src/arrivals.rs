//! Events of other servers on their way to their places: what each needs is fetched, then they go into the room together.

use std::{
    collections::{HashMap, HashSet},
    slice::from_ref,
    sync::Arc,
};

use hearth_store::write::Status;
use ruma::{OwnedEventId, ServerName};

use crate::{
    Rooms, SendError,
    changes::Changes,
    commit::{ATTEMPTS, Built, LOSSES, Outcome},
    gaps::Budget,
    incoming::Verified,
    merge::After,
    policy::{Asking, Recommendation, has_signed},
    receipt::{Ancestry, Origin, Proposal},
    receive::ReceiveError,
    room::Room,
    series::{Facts, Series},
};

/// How many events go into one write.
const TOGETHER: usize = 50;

/// How an event came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Its server sent it. Who sends an event and does not tell what it comes after is not believed about the state there.
    Sent,
    /// It was asked for because others come after it. Where the events before it end, the state is asked for.
    Fetched,
}

/// An event that has arrived.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) event: Verified,
    pub(crate) way: Way,
}

/// An event with everything that it refers to.
struct Ready {
    event: Verified,
    recommendation: Recommendation,
    /// The states after the events before it that are not here.
    told: HashMap<OwnedEventId, After>,
}

/// What became of each of some events; nothing where it was known before.
type Outcomes = Vec<Result<Option<Status>, ReceiveError>>;

impl Rooms {
    /// Gives events of a room their places, in their order; what became of each. One that is no good changes nothing for
    /// the others.
    pub(crate) async fn place_all(
        &self,
        room: &Room,
        origin: &ServerName,
        arrivals: Vec<Arrival>,
        budget: &mut Budget,
    ) -> Outcomes {
        let mut outcomes = Vec::with_capacity(arrivals.len());
        let mut arrivals = arrivals.into_iter().peekable();
        while arrivals.peek().is_some() {
            let some: Vec<Arrival> = arrivals.by_ref().take(TOGETHER).collect();
            outcomes.extend(self.place_some(room, origin, some, budget).await);
        }
        outcomes
    }

    async fn place_some(
        &self,
        room: &Room,
        origin: &ServerName,
        arrivals: Vec<Arrival>,
        budget: &mut Budget,
    ) -> Outcomes {
        let mut coming = HashSet::new();
        let mut ready = Vec::with_capacity(arrivals.len());
        let mut refused: Vec<Option<ReceiveError>> = Vec::with_capacity(arrivals.len());
        for arrival in arrivals {
            let id = arrival.event.pdu.event_id.clone();
            match self
                .make_ready(room, origin, arrival, (&coming, budget))
                .await
            {
                Ok(event) => {
                    coming.insert(id);
                    ready.push(event);
                    refused.push(None);
                }
                Err(error) => refused.push(Some(error)),
            }
        }
        let placed = match self.ask_policy(room, &mut ready, budget).await {
            Ok(()) => self.place_ready(room, &ready).await,
            Err(error) => fail_all(ready.len(), error.into()),
        };
        let mut placed = placed.into_iter();
        let outcomes = refused.into_iter().map(|refused| match refused {
            Some(error) => Err(error),
            None => placed.next().unwrap_or(Err(ReceiveError::Missing)),
        });
        outcomes.collect()
    }

    /// Fetches what an event refers to and is neither here nor among those that are `coming`.
    async fn make_ready(
        &self,
        room: &Room,
        origin: &ServerName,
        arrival: Arrival,
        (coming, budget): (&HashSet<OwnedEventId>, &mut Budget),
    ) -> Result<Ready, ReceiveError> {
        let Arrival { event, way } = arrival;
        let lacked = self.lacked_previous(room, (&event, coming)).await?;
        if way == Way::Sent && !lacked.is_empty() {
            return Err(ReceiveError::Missing);
        }
        let mut told = HashMap::new();
        for id in lacked {
            budget.take_state()?;
            let asking = Box::pin(self.told_state(room, origin, &id));
            let state = budget.in_time(asking).await?;
            told.insert(id, state);
        }
        // A state that was asked for brings along what authorises the event.
        let completing = self.complete_authorities(room, origin, (&event, coming));
        budget.in_time(Box::pin(completing)).await?;
        Ok(Ready {
            event,
            recommendation: Recommendation::Included,
            told,
        })
    }

    /// Asks the room's policy server about the events that lack its signature and pass all other checks.
    ///
    /// Which do is found out by placing them all without writing it.
    async fn ask_policy(
        &self,
        room: &Room,
        ready: &mut [Ready],
        budget: &mut Budget,
    ) -> Result<(), SendError> {
        let Some(policy) = self.current_policy(room).await? else {
            return Ok(());
        };
        if ready
            .iter()
            .all(|ready| has_signed(&policy, &ready.event, room))
        {
            return Ok(());
        }
        // When one of them spoils it for the others, it is said of each when they are written.
        let rehearsed = self.rehearse(room, ready).await.ok();
        for (index, ready) in ready.iter_mut().enumerate() {
            let status = rehearsed.as_ref().map(|statuses| statuses[index]);
            let passes = status.is_none_or(|status| status == Some(Status::Accepted));
            if has_signed(&policy, &ready.event, room) {
                continue;
            }
            if budget.is_over() {
                budget.policy = Asking::Futile;
            }
            ready.recommendation = match passes {
                true => {
                    let asking = &mut budget.policy;
                    self.recommend((room, &policy), &mut ready.event, asking)
                        .await
                }
                // Should it pass after all, it did so without having been asked about.
                false => Recommendation::NotIncluded,
            };
        }
        Ok(())
    }

    /// What would become of events; nothing is written.
    async fn rehearse(
        &self,
        room: &Room,
        ready: &[Ready],
    ) -> Result<Vec<Option<Status>>, ReceiveError> {
        let events: Vec<&Verified> = ready.iter().map(|ready| &ready.event).collect();
        let facts = self.facts(room, &events).await?;
        let mut slot = room.head.lock().await;
        let head = self.take_head(room, &mut slot).await?;
        let mut changes = Changes::new(self, room, head.clone());
        let statuses = self.build_series(&mut changes, ready, &facts).await;
        self.abandon(&changes.made).await;
        slot.head = Some(head);
        statuses
    }

    /// Places events in one write; where that fails because of one of them, one by one.
    async fn place_ready(&self, room: &Room, ready: &[Ready]) -> Outcomes {
        let error = match self.write_series(room, ready).await {
            Ok(statuses) => return statuses.into_iter().map(Ok).collect(),
            Err(error) => error,
        };
        let is_of_one = !matches!(
            error,
            ReceiveError::Failed(
                SendError::Storage(_) | SendError::Overloaded | SendError::Contended
            )
        );
        if ready.len() == 1 {
            return vec![Err(error)];
        }
        if !is_of_one {
            // What fails in the database comes again as a whole.
            return fail_all(ready.len(), error);
        }
        let mut outcomes = Vec::with_capacity(ready.len());
        for event in ready {
            let written = self.write_series(room, from_ref(event)).await;
            outcomes.push(written.map(|statuses| statuses.into_iter().next().flatten()));
        }
        outcomes
    }

    async fn write_series(
        &self,
        room: &Room,
        ready: &[Ready],
    ) -> Result<Vec<Option<Status>>, ReceiveError> {
        if ready.is_empty() {
            return Ok(Vec::new());
        }
        let events: Vec<&Verified> = ready.iter().map(|ready| &ready.event).collect();
        for attempt in 1..=ATTEMPTS {
            let facts = self.facts(room, &events).await?;
            let (outcome, statuses) = if attempt < LOSSES {
                self.try_series(room, ready, &facts).await?
            } else {
                self.series_locked(room, ready, &facts).await?
            };
            match outcome {
                Outcome::Committed => return Ok(statuses),
                // Another process was faster with one of them.
                Outcome::Duplicate(nid) => self.events().forget(nid).await,
                Outcome::Lost => {
                    tracing::debug!(room_id = %room.id, attempt, "the room changed meanwhile, starting over");
                }
            }
        }
        Err(SendError::Contended.into())
    }

    async fn try_series(
        &self,
        room: &Room,
        ready: &[Ready],
        facts: &Facts,
    ) -> Result<(Outcome, Vec<Option<Status>>), ReceiveError> {
        let mut slot = room.head.lock().await;
        let head = self.take_head(room, &mut slot).await?;
        let mut changes = Changes::new(self, room, head.clone());
        let statuses = match self.build_series(&mut changes, ready, facts).await {
            Ok(statuses) => statuses,
            Err(error) => {
                self.abandon(&changes.made).await;
                slot.head = Some(head);
                return Err(error);
            }
        };
        let Some(built) = Built::of(changes, None) else {
            slot.head = Some(head);
            return Ok((Outcome::Committed, statuses));
        };
        Ok((self.submit(room, slot, built).await?, statuses))
    }

    async fn series_locked(
        &self,
        room: &Room,
        ready: &[Ready],
        facts: &Facts,
    ) -> Result<(Outcome, Vec<Option<Status>>), ReceiveError> {
        let mut slot = room.head.lock().await;
        let (lock, head) = self.lock_head(room, &mut slot).await?;
        let mut changes = Changes::new(self, room, head);
        let statuses = match self.build_series(&mut changes, ready, facts).await {
            Ok(statuses) => statuses,
            Err(error) => {
                self.abandon(&changes.made).await;
                return Err(error);
            }
        };
        let Some(built) = Built::of(changes, None) else {
            return Ok((Outcome::Committed, statuses));
        };
        let outcome = self.commit_locked(room, (lock, slot), built).await?;
        Ok((outcome, statuses))
    }

    /// Puts events on the head, one after the other, and makes the current state once.
    async fn build_series(
        &self,
        changes: &mut Changes<'_>,
        ready: &[Ready],
        facts: &Facts,
    ) -> Result<Vec<Option<Status>>, ReceiveError> {
        let room = changes.room;
        let mut series = Series::on(&changes.head);
        let mut statuses = Vec::with_capacity(ready.len());
        for event in ready {
            let id = event.event.event_id();
            if facts.has_place(id) || series.get(id).is_some() {
                statuses.push(None);
                continue;
            }
            let proposal = Proposal {
                ancestry: self.ancestry_of(room, event, &series).await?,
                event: event.event.clone(),
                origin: Origin::Peer,
                recommendation: event.recommendation,
            };
            let candidate = self.judge(room, proposal, facts, &series).await?;
            let status = changes.receive(&candidate, &mut series).await?;
            statuses.push(Some(status));
        }
        changes.refresh_state().await?;
        Ok(statuses)
    }

    /// The events before an event, and the states after them.
    async fn ancestry_of(
        &self,
        room: &Room,
        ready: &Ready,
        series: &Series,
    ) -> Result<Ancestry, ReceiveError> {
        let mut stored = ready.event.pdu.prev_events.clone();
        stored.retain(|id| series.get(id).is_none() && !ready.told.contains_key(id));
        let mut ancestry = self.ancestry_here(room, &stored).await?;
        let seen: HashSet<&OwnedEventId> = ready.event.pdu.prev_events.iter().collect();
        for id in seen.iter().copied() {
            if let (Some(event), Some(after)) = (series.get(id), series.after(id)) {
                ancestry.previous.push(event.nid);
                ancestry.states.push(after);
            } else if let Some(told) = ready.told.get(id) {
                ancestry.gaps.push(id.clone());
                ancestry.states.push(told.clone());
            }
        }
        // What was about to come may have turned out to be no good.
        match ancestry.states.len() == seen.len() {
            true => Ok(ancestry),
            false => Err(ReceiveError::Missing),
        }
    }

    /// Those of `previous` that have a place here, and the states after them.
    pub(crate) async fn ancestry_here(
        &self,
        room: &Room,
        previous: &[OwnedEventId],
    ) -> Result<Ancestry, ReceiveError> {
        let placed = self.with_place(room, previous).await?;
        let befores = placed.values().filter_map(|event| event.snapshot);
        let befores = self.snapshots().map(befores.collect::<Vec<_>>()).await?;
        let mut states = Vec::with_capacity(placed.len());
        for event in placed.values() {
            let before = event.snapshot.and_then(|nid| befores.get(&nid));
            let before = before.ok_or(sqlx::Error::RowNotFound)?;
            states.push(After::of(event, Arc::clone(before)));
        }
        Ok(Ancestry {
            previous: placed.values().map(|event| event.nid).collect(),
            gaps: Vec::new(),
            states,
        })
    }
}

/// The same error for each of so many events.
fn fail_all(count: usize, error: ReceiveError) -> Outcomes {
    let mut outcomes = Vec::with_capacity(count);
    for _ in 1..count {
        outcomes.push(Err(match &error {
            ReceiveError::Failed(error) => ReceiveError::Failed(error.repeated()),
            ReceiveError::Malformed(_)
            | ReceiveError::NotInRoom
            | ReceiveError::Missing
            | ReceiveError::TookTooLong => ReceiveError::Missing,
        }));
    }
    outcomes.push(Err(error));
    outcomes
}
