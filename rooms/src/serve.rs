//! Events made ready for one receiver: what `unsigned` says to him.
//!
//! Everything is read for the whole list at once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, SnapshotNid, StateKeyNid};
use hearth_store::sent_event;
use ruma::events::StateEventType;

use crate::{
    Rooms,
    bundle::Bundles,
    client_event::{ClientEvent, Receiver, RoomIdField, Unsigned},
    event::RoomEvent,
    snapshot::Snapshot,
    state::membership_of,
};

/// Whether `m.relations` is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relations {
    /// The aggregations of child events are bundled with each event.
    Bundled,
    /// They are not.
    Left,
}

/// What the lists of events are looked up in, read once for all of them.
struct Around {
    snapshots: HashMap<SnapshotNid, Arc<Snapshot>>,
    events: HashMap<EventNid, Arc<RoomEvent>>,
    member: Option<StateKeyNid>,
}

impl Rooms {
    /// Makes events ready for `receiver`, in the order given.
    pub async fn serve(
        &self,
        events: Vec<Arc<RoomEvent>>,
        receiver: &Receiver,
        room_id: RoomIdField,
        relations: Relations,
    ) -> sqlx::Result<Vec<ClientEvent>> {
        let mut bundles = match relations {
            Relations::Bundled => self.bundles(&events, receiver).await?,
            Relations::Left => Bundles::default(),
        };
        let served = self.unbundled(events, receiver, room_id).await?;
        let served = served.into_iter().map(|mut event| {
            event.unsigned.relations = bundles.take(event.event());
            event
        });
        Ok(served.collect())
    }

    /// Makes one event ready for `receiver`.
    pub async fn serve_one(
        &self,
        event: Arc<RoomEvent>,
        receiver: &Receiver,
        relations: Relations,
    ) -> sqlx::Result<ClientEvent> {
        let mut served = self
            .serve(vec![event], receiver, RoomIdField::Written, relations)
            .await?;
        served.pop().ok_or(sqlx::Error::RowNotFound)
    }

    /// Makes events ready with nothing in `unsigned` but their age: for states, which can be large.
    #[must_use]
    pub fn plain(&self, events: Vec<Arc<RoomEvent>>) -> Vec<ClientEvent> {
        let now = self.clock().millis();
        let served = events.into_iter().map(|event| {
            let age = age(&event, now);
            let mut served = ClientEvent::new(event, RoomIdField::Written);
            served.unsigned.age = Some(age);
            served
        });
        served.collect()
    }

    /// The member events, in a state, of those who sent `events`.
    pub async fn senders(
        &self,
        state: &Snapshot,
        events: &[Arc<RoomEvent>],
    ) -> sqlx::Result<Vec<Arc<RoomEvent>>> {
        let senders: HashSet<&str> = events
            .iter()
            .map(|event| event.pdu.sender.as_str())
            .collect();
        let keys = senders
            .into_iter()
            .map(|sender| (StateEventType::RoomMember, sender.to_owned()));
        let members = self.state_subset(state, keys.collect()).await?;
        Ok(members.into_values().collect())
    }

    /// Makes events ready except for what refers to them.
    pub(crate) async fn unbundled(
        &self,
        events: Vec<Arc<RoomEvent>>,
        receiver: &Receiver,
        room_id: RoomIdField,
    ) -> sqlx::Result<Vec<ClientEvent>> {
        let around = self.around(&events, receiver).await?;
        let mut transactions = self.transaction_ids(&events, receiver).await?;
        let was_in = |event: &RoomEvent| around.membership(event).as_deref() == Some("join");
        let events = self.without_erased(events, was_in).await?;
        let now = self.clock().millis();
        let served = events.into_iter().map(|event| {
            let unsigned = Unsigned {
                age: Some(age(&event, now)),
                transaction_id: transactions.remove(&event.nid),
                replaces: around.replaced(&event),
                membership: around.membership(&event),
                relations: None,
            };
            let mut served = ClientEvent::new(event, room_id);
            served.unsigned = unsigned;
            served
        });
        Ok(served.collect())
    }

    async fn around(&self, events: &[Arc<RoomEvent>], receiver: &Receiver) -> sqlx::Result<Around> {
        let member = self
            .interner()
            .find_state_key(
                &StateEventType::RoomMember.to_string(),
                receiver.user_id.as_str(),
            )
            .await?;
        let nids: HashSet<SnapshotNid> = events.iter().filter_map(|event| event.snapshot).collect();
        let snapshots = self.snapshots().map(nids).await?;
        let mut around = Around {
            snapshots,
            events: HashMap::new(),
            member,
        };
        let wanted: HashSet<EventNid> = events
            .iter()
            .flat_map(|event| {
                [
                    event.state_key.and_then(|key| around.held(event, key)),
                    around.member.and_then(|key| around.held(event, key)),
                ]
            })
            .flatten()
            .collect();
        around.events = self.events().map(wanted).await?;
        Ok(around)
    }

    async fn transaction_ids(
        &self,
        events: &[Arc<RoomEvent>],
        receiver: &Receiver,
    ) -> sqlx::Result<HashMap<EventNid, String>> {
        let own: Vec<EventNid> = events
            .iter()
            .filter(|event| event.sender == receiver.user)
            .map(|event| event.nid)
            .collect();
        let Some(device) = &receiver.device_id else {
            return Ok(HashMap::new());
        };
        if own.is_empty() {
            return Ok(HashMap::new());
        }
        let mut conn = self.pool().acquire().await?;
        let rows = sent_event::list_of_events(&mut conn, receiver.user, device, &own).await?;
        Ok(rows.into_iter().collect())
    }
}

impl Around {
    /// What holds `key` in the state before an event.
    fn held(&self, event: &RoomEvent, key: StateKeyNid) -> Option<EventNid> {
        self.snapshots.get(&event.snapshot?)?.get(key)
    }

    /// The state event that an event replaced.
    fn replaced(&self, event: &RoomEvent) -> Option<Arc<RoomEvent>> {
        let nid = self.held(event, event.state_key?)?;
        self.events.get(&nid).cloned()
    }

    /// The receiver's membership at an event, with the changes that the event makes (MSC4115).
    fn membership(&self, event: &RoomEvent) -> Option<String> {
        event.snapshot?;
        if event.state_key.is_some() && event.state_key == self.member {
            return Some(membership_of(event).to_string());
        }
        let held = self.member.and_then(|key| self.held(event, key));
        let held = held.and_then(|nid| self.events.get(&nid));
        Some(held.map_or_else(
            || "leave".to_owned(),
            |held| membership_of(held).to_string(),
        ))
    }
}

/// Milliseconds since an event was made, at `now`.
fn age(event: &RoomEvent, now: i64) -> i64 {
    now - i64::from(event.pdu.origin_server_ts.get())
}
