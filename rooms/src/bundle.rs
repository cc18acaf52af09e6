//! Bundled aggregations: what refers to events, summed up for one receiver.
//!
//! Client-Server API, "Aggregations of child events", "Event replacements", "Threading", "Reference relations".

use std::{collections::HashMap, sync::Arc};

use hearth_core::{EventNid, UserNid};
use hearth_store::relation::{self, Group};
use ruma::{UserId, events::TimelineEventType};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    Rooms,
    changes::relation,
    client_event::{ClientEvent, Receiver, RoomIdField},
    event::RoomEvent,
};

/// `m.relations` of each event that has any.
#[derive(Debug, Default)]
pub(crate) struct Bundles(HashMap<EventNid, Box<RawValue>>);

impl Bundles {
    /// What refers to `event`.
    pub(crate) fn take(&mut self, event: &RoomEvent) -> Option<Box<RawValue>> {
        self.0.remove(&event.nid)
    }
}

#[derive(Debug, Default, Serialize)]
struct Aggregations {
    #[serde(rename = "m.replace", skip_serializing_if = "Option::is_none")]
    replace: Option<ClientEvent>,
    #[serde(rename = "m.thread", skip_serializing_if = "Option::is_none")]
    thread: Option<Thread>,
    #[serde(rename = "m.reference", skip_serializing_if = "Option::is_none")]
    reference: Option<References>,
}

#[derive(Debug, Serialize)]
struct Thread {
    latest_event: ClientEvent,
    count: i64,
    current_user_participated: bool,
}

#[derive(Debug, Serialize)]
struct References {
    chunk: Vec<Reference>,
}

#[derive(Debug, Serialize)]
struct Reference {
    event_id: String,
}

/// What refers to a list of events, and the events that this names.
struct Children {
    groups: HashMap<String, Vec<Group>>,
    /// Those of them that the receiver may see.
    events: HashMap<EventNid, Arc<RoomEvent>>,
}

impl Rooms {
    /// Sums up what refers to `events`, which are of one room.
    pub(crate) async fn bundles(
        &self,
        events: &[Arc<RoomEvent>],
        receiver: &Receiver,
    ) -> sqlx::Result<Bundles> {
        let children = self.children(events, receiver).await?;
        if children.groups.is_empty() {
            return Ok(Bundles::default());
        }
        // The last events of threads have edits and references of their own, but never threads.
        let latest: Vec<_> = children
            .groups
            .values()
            .flatten()
            .filter_map(|group| children.latest(group))
            .collect();
        let of_latest = match latest.as_slice() {
            [] => None,
            latest => Some(self.children(latest, receiver).await?),
        };
        let named = children
            .named(events)
            .chain(of_latest.iter().flat_map(|inner| inner.named(&latest)));
        let named: HashMap<EventNid, Arc<RoomEvent>> =
            named.map(|event| (event.nid, event)).collect();
        let served = self
            .unbundled(
                named.into_values().collect(),
                receiver,
                RoomIdField::Written,
            )
            .await?;
        let served: HashMap<EventNid, ClientEvent> = served
            .into_iter()
            .map(|event| (event.event().nid, event))
            .collect();

        let bundles = events.iter().filter_map(|event| {
            let sum = children.sum(event, receiver, &served, of_latest.as_ref())?;
            Some((event.nid, sum))
        });
        Ok(Bundles(bundles.collect()))
    }

    async fn children(
        &self,
        events: &[Arc<RoomEvent>],
        receiver: &Receiver,
    ) -> sqlx::Result<Children> {
        let parents: Vec<&str> = events
            .iter()
            .filter(|event| event.state_key.is_none())
            .map(|event| event.pdu.event_id.as_str())
            .collect();
        let mut children = Children {
            groups: HashMap::new(),
            events: HashMap::new(),
        };
        let Some(room) = events.first().map(|event| event.room) else {
            return Ok(children);
        };
        if parents.is_empty() {
            return Ok(children);
        }
        let ignored: Vec<&UserId> = receiver.ignored.iter().map(AsRef::as_ref).collect();
        let ignored: Vec<UserNid> = self.numbers(&ignored).await?;
        let mut conn = self.pool().acquire().await?;
        let groups =
            relation::list_groups(&mut conn, room, &parents, receiver.user, &ignored).await?;
        drop(conn);
        let named = groups
            .iter()
            .flat_map(|group| group.edits.iter().chain(&group.latest));
        let found = self.events().map(named.copied()).await?;
        if let (false, Some(room)) = (found.is_empty(), self.find_by_nid(room).await?) {
            let found = found.into_values().collect();
            let seen = self.visible(&room, &receiver.user_id, found).await?;
            children.events = seen.into_iter().map(|event| (event.nid, event)).collect();
        }
        for group in groups {
            children
                .groups
                .entry(group.parent.clone())
                .or_default()
                .push(group);
        }
        Ok(children)
    }
}

impl Children {
    /// The events that the aggregations of `parents` show whole.
    fn named<'a>(
        &'a self,
        parents: &'a [Arc<RoomEvent>],
    ) -> impl Iterator<Item = Arc<RoomEvent>> + 'a {
        parents.iter().flat_map(move |parent| {
            let groups = self.groups.get(parent.pdu.event_id.as_str());
            groups.into_iter().flatten().flat_map(move |group| {
                [self.edit(parent, group), self.latest(group)]
                    .into_iter()
                    .flatten()
            })
        })
    }

    /// The latest valid edit.
    fn edit(&self, parent: &RoomEvent, group: &Group) -> Option<Arc<RoomEvent>> {
        if parent.redaction.is_some() || is_edit(parent) {
            return None;
        }
        let mut edits = group.edits.iter().filter_map(|nid| self.events.get(nid));
        edits.find(|edit| replaces_content(edit)).cloned()
    }

    /// The last event of a thread.
    fn latest(&self, group: &Group) -> Option<Arc<RoomEvent>> {
        group
            .latest
            .iter()
            .find_map(|nid| self.events.get(nid))
            .cloned()
    }

    fn sum(
        &self,
        parent: &RoomEvent,
        receiver: &Receiver,
        served: &HashMap<EventNid, ClientEvent>,
        of_latest: Option<&Self>,
    ) -> Option<Box<RawValue>> {
        let mut sum = Aggregations::default();
        for group in self.groups.get(parent.pdu.event_id.as_str())? {
            if let Some(edit) = self.edit(parent, group) {
                sum.replace = served.get(&edit.nid).cloned();
            }
            if let Some(latest) = self.latest(group) {
                let mut latest_event = served.get(&latest.nid)?.clone();
                latest_event.unsigned.relations =
                    of_latest.and_then(|inner| inner.sum(&latest, receiver, served, None));
                sum.thread = Some(Thread {
                    latest_event,
                    count: group.count,
                    current_user_participated: group.participated || parent.sender == receiver.user,
                });
            }
            if !group.references.is_empty() {
                let ids = group.references.iter().cloned();
                let chunk = ids.map(|event_id| Reference { event_id }).collect();
                sum.reference = Some(References { chunk });
            }
        }
        let empty = sum.replace.is_none() && sum.thread.is_none() && sum.reference.is_none();
        (!empty).then(|| to_raw_value(&sum).expect("aggregations of raw JSON serialize"))
    }
}

/// Whether an event is itself an edit, which cannot be edited.
fn is_edit(event: &RoomEvent) -> bool {
    relation(&event.pdu.content).is_some_and(|(_, rel_type)| rel_type == "m.replace")
}

/// Whether an edit says what to put in place of the content; that of an encrypted one cannot be seen.
fn replaces_content(edit: &RoomEvent) -> bool {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.new_content")]
        new_content: Option<IgnoredAny>,
    }
    edit.pdu.kind == TimelineEventType::RoomEncrypted
        || edit
            .pdu
            .content_as::<Content>()
            .is_ok_and(|content| content.new_content.is_some())
}
