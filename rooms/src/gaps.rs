//! What a received event refers to and is not here: fetched from the server that sent it, or from others in the room.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use hearth_core::EventNid;
use ruma::{EventId, OwnedEventId, ServerName};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::{
    Rooms,
    event::RoomEvent,
    incoming::{Incoming, Malformed, Verified},
    peers::MissingEvents,
    policy::Asking,
    receipt::Ancestry,
    receive::ReceiveError,
    room::Room,
};

/// How many ancestors are asked for at once, and how often: no more of one event are taken in than both allow.
const ASKED: u32 = 20;
const ROUNDS: usize = 25;

/// After how many bytes of ancestors no more are asked for.
const BYTES: usize = 8 * 1024 * 1024;

/// How many events servers are told of at which they may stop.
const EARLIEST: usize = 100;

/// How many states are asked for because of one event.
const STATES: usize = 10;

/// How long it may take to fetch what events refer to that a server sent together.
const PATIENCE: Duration = Duration::from_mins(2);

/// When what is fetched because of events that a server sends now has to be here.
pub(crate) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// What may still be asked for because of one event.
pub(crate) struct Budget {
    states: usize,
    until: Instant,
    pub(crate) policy: Asking,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self::until(deadline())
    }

    /// One that shares its time with others.
    pub(crate) fn until(until: Instant) -> Self {
        Self {
            states: STATES,
            until,
            policy: Asking::Useful,
        }
    }

    /// Gives up what is being fetched when the time is over. What is written has no such limit: an event is not lost for
    /// the room's being busy.
    pub(crate) async fn in_time<T>(
        &self,
        fetching: impl Future<Output = Result<T, ReceiveError>>,
    ) -> Result<T, ReceiveError> {
        let fetched = timeout_at(self.until, fetching).await;
        fetched.unwrap_or(Err(ReceiveError::TookTooLong))
    }

    /// Whether there is no time left.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Counts a state that is asked for.
    pub(crate) fn take_state(&mut self) -> Result<(), ReceiveError> {
        self.states = self.states.checked_sub(1).ok_or(ReceiveError::Missing)?;
        Ok(())
    }
}

impl Rooms {
    /// The events right before an event that neither have a place here nor are about to get one.
    pub(crate) async fn lacked_previous(
        &self,
        room: &Room,
        (event, coming): (&Verified, &HashSet<OwnedEventId>),
    ) -> Result<Vec<OwnedEventId>, ReceiveError> {
        let mut seen = HashSet::new();
        let mut previous = event.pdu.prev_events.clone();
        previous.retain(|id| !coming.contains(id) && seen.insert(id.clone()));
        let placed = self.with_place(room, &previous).await?;
        previous.retain(|id| !placed.contains_key(id));
        Ok(previous)
    }

    /// Those of the events that have a place here.
    pub(crate) async fn with_place(
        &self,
        room: &Room,
        ids: &[OwnedEventId],
    ) -> Result<HashMap<OwnedEventId, Arc<RoomEvent>>, ReceiveError> {
        let ids: Vec<&EventId> = ids.iter().map(AsRef::as_ref).collect();
        let mut found = self.by_id(&ids).await?;
        let outliers: Vec<EventNid> = found
            .values()
            .filter(|event| event.snapshot.is_none())
            .map(|event| event.nid)
            .collect();
        if !outliers.is_empty() {
            // Another process may have given them their place.
            for nid in outliers {
                self.events().forget(nid).await;
            }
            found = self.by_id(&ids).await?;
        }
        if found.values().any(|event| event.room != room.nid) {
            return Err(Malformed::WrongRoom.into());
        }
        found.retain(|_, event| event.snapshot.is_some());
        Ok(found)
    }

    /// Asks for the events between what is here and an event; gives them in an order in which each comes after those
    /// before it.
    ///
    /// Others in the room are asked when `origin` does not tell what the event comes right after.
    pub(crate) async fn fetch_ancestors(
        &self,
        room: &Room,
        origin: &ServerName,
        event: &Verified,
    ) -> Result<Vec<Verified>, ReceiveError> {
        let found = HashMap::new();
        let mut found = self.ask_for_ancestors(room, origin, (event, found)).await?;
        if self.lacks_parents(room, event, &found).await? {
            for server in self.others_to_ask(room, origin).await? {
                found = self
                    .ask_for_ancestors(room, &server, (event, found))
                    .await?;
                if !self.lacks_parents(room, event, &found).await? {
                    break;
                }
            }
        }
        Ok(oldest_first(found))
    }

    /// Whether an event comes right after one that is neither here nor was told.
    async fn lacks_parents(
        &self,
        room: &Room,
        event: &Verified,
        told: &HashMap<OwnedEventId, Verified>,
    ) -> Result<bool, ReceiveError> {
        let told: HashSet<OwnedEventId> = told.keys().cloned().collect();
        let lacked = self.lacked_previous(room, (event, &told)).await?;
        Ok(!lacked.is_empty())
    }

    /// Asks one server for the events between what is here and an event, and adds them to those that were found.
    ///
    /// A server that does not know our newest events does not stop at them. What it tells of the time before an event
    /// that has its place here is left out: it is no news. A server that tells of less than it was asked for has no more
    /// to tell.
    async fn ask_for_ancestors(
        &self,
        room: &Room,
        server: &ServerName,
        (event, mut found): (&Verified, HashMap<OwnedEventId, Verified>),
    ) -> Result<HashMap<OwnedEventId, Verified>, ReceiveError> {
        let mut latest = vec![event.pdu.event_id.clone()];
        let mut earliest = self.newest(room).await?;
        for _ in 0..ROUNDS {
            let wanted = MissingEvents {
                room_id: room.id.clone(),
                earliest: earliest.clone(),
                latest,
                limit: ASKED,
                min_depth: 0,
            };
            let Ok(told) = self.peers().missing_events(server, &wanted).await else {
                break;
            };
            let events = self.read_and_verify(room, &told, ASKED as usize).await;
            let events = self.without_place(room, events).await?;
            let before = found.len();
            found = reachable(&event.pdu.prev_events, found.into_values().chain(events));
            let bytes: usize = found.values().map(|e| e.pdu.json.get().len()).sum();
            if found.len() == before || told.len() < ASKED as usize || bytes > BYTES {
                break;
            }
            latest = self.after_gaps(room, event, &found).await?;
            if latest.is_empty() {
                break;
            }
            let told = latest.iter().filter_map(|id| found.get(id)).chain([event]);
            let known = told.flat_map(|event| &event.pdu.prev_events);
            let known = known.filter(|id| found.contains_key(*id)).cloned();
            earliest = self.newest(room).await?;
            earliest.extend(known.take(EARLIEST - earliest.len()));
        }
        Ok(found)
    }

    /// Those of the events that have no place here.
    async fn without_place(
        &self,
        room: &Room,
        mut events: Vec<Verified>,
    ) -> Result<Vec<Verified>, ReceiveError> {
        let ids: Vec<OwnedEventId> = events.iter().map(|e| e.event_id().to_owned()).collect();
        let placed = self.with_place(room, &ids).await?;
        events.retain(|event| !placed.contains_key(event.event_id()));
        Ok(events)
    }

    /// Those of an event and its ancestors that come after one that is neither among them nor has a place here.
    async fn after_gaps(
        &self,
        room: &Room,
        event: &Verified,
        ancestors: &HashMap<OwnedEventId, Verified>,
    ) -> Result<Vec<OwnedEventId>, ReceiveError> {
        let told = || ancestors.values().chain([event]);
        let previous = told().flat_map(|event| &event.pdu.prev_events);
        let lacked: HashSet<&OwnedEventId> =
            previous.filter(|id| !ancestors.contains_key(*id)).collect();
        let asked: Vec<OwnedEventId> = lacked.iter().map(|id| (*id).clone()).collect();
        let placed = self.with_place(room, &asked).await?;
        let is_gap = |id: &OwnedEventId| lacked.contains(id) && !placed.contains_key(id);
        let after = told().filter(|event| event.pdu.prev_events.iter().any(is_gap));
        let after = after.map(|event| event.pdu.event_id.clone());
        Ok(after.take(ASKED as usize).collect())
    }

    /// The newest events that we have, for servers to stop at.
    async fn newest(&self, room: &Room) -> Result<Vec<OwnedEventId>, ReceiveError> {
        let mut slot = room.head.lock().await;
        let head = self.take_head(room, &mut slot).await?;
        let ids = head.extremities.iter().map(|e| e.event_id.clone());
        let ids = ids.take(ASKED as usize).collect();
        slot.head = Some(head);
        Ok(ids)
    }

    /// The events before an event, and the states after them; where they are not here, `origin` is asked for the state.
    pub(crate) async fn ancestry(
        &self,
        room: &Room,
        origin: &ServerName,
        event: &Verified,
        budget: &mut Budget,
    ) -> Result<Ancestry, ReceiveError> {
        let mut ancestry = self.ancestry_here(room, &event.pdu.prev_events).await?;
        for id in self.lacked_previous(room, (event, &HashSet::new())).await? {
            budget.take_state()?;
            let state = self.told_state(room, origin, &id).await?;
            ancestry.states.push(state);
            ancestry.gaps.push(id);
        }
        Ok(ancestry)
    }

    /// Reads events of a room and checks their signatures; what is no good, or too much, is left out.
    pub(crate) async fn read_and_verify(
        &self,
        room: &Room,
        events: &[Box<RawValue>],
        limit: usize,
    ) -> Vec<Verified> {
        let mut read = Vec::with_capacity(events.len().min(limit));
        for json in events.iter().take(limit) {
            // The state of a large room takes a while, and others wait for this thread.
            tokio::task::consume_budget().await;
            read.extend(Incoming::read(json, &room.id, &room.rules));
        }
        let verified = self.verify(&room.rules, read).await;
        verified.into_iter().filter_map(Result::ok).collect()
    }
}

/// Those of `events` that are among `last` or come before them, without a gap between: what else a server tells was not
/// asked for.
pub(crate) fn reachable(
    last: &[OwnedEventId],
    events: impl IntoIterator<Item = Verified>,
) -> HashMap<OwnedEventId, Verified> {
    let mut told: HashMap<OwnedEventId, Verified> = events
        .into_iter()
        .map(|event| (event.pdu.event_id.clone(), event))
        .collect();
    let mut found = HashMap::with_capacity(told.len());
    let mut ahead: Vec<OwnedEventId> = last.to_vec();
    while let Some(id) = ahead.pop() {
        // Each is taken out once, so that a ring ends.
        if let Some(event) = told.remove(&id) {
            ahead.extend(event.pdu.prev_events.iter().cloned());
            found.insert(id, event);
        }
    }
    found
}

/// Sorts events so that each comes after those before it.
pub(crate) fn oldest_first(mut events: HashMap<OwnedEventId, Verified>) -> Vec<Verified> {
    let mut ordered = Vec::with_capacity(events.len());
    let mut ids: Vec<OwnedEventId> = events.keys().cloned().collect();
    ids.sort_by_key(|id| events.get(id).map(|event| event.pdu.depth));
    for id in ids {
        // What a walk from one event finds is put before it; a walk never comes back to where it was.
        let mut open = vec![id];
        while let Some(id) = open.last().cloned() {
            let next = events.get(&id).and_then(|event| {
                let before = event.pdu.prev_events.iter();
                before
                    .filter(|id| !open.contains(id))
                    .find(|id| events.contains_key(*id))
                    .cloned()
            });
            match next {
                Some(next) => open.push(next),
                None => {
                    open.pop();
                    ordered.extend(events.remove(&id));
                }
            }
        }
    }
    ordered
}
