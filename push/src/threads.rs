//! Which thread an event belongs to (specification, "Threading", "Threaded read receipts").

use std::sync::Arc;

use hearth_core::EventNid;
use hearth_rooms::{RoomEvent, Rooms};
use ruma::{EventId, OwnedEventId};
use serde::Deserialize;

/// How many relations are followed to find a thread.
const HOPS: usize = 3;

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relates_to: Option<RelatesTo>,
}

#[derive(Deserialize)]
struct RelatesTo {
    rel_type: Option<String>,
    event_id: Option<OwnedEventId>,
}

/// What an event refers to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Relation {
    rel_type: String,
    parent: OwnedEventId,
}

/// Brings into memory what [`root_of`] of these events looks at.
///
/// # Errors
///
/// When the database fails.
pub async fn prepare(rooms: &Rooms, events: &[Arc<RoomEvent>]) -> sqlx::Result<()> {
    let mut next: Vec<Arc<RoomEvent>> = events.to_vec();
    // The last relation of a chain is not followed.
    for _ in 1..HOPS {
        let open = next.iter().filter_map(|event| relation(event));
        let open = open.filter(|relation| relation.rel_type != "m.thread");
        let parents: Vec<OwnedEventId> = open.map(|relation| relation.parent).collect();
        if parents.is_empty() {
            break;
        }
        let parents: Vec<&EventId> = parents.iter().map(AsRef::as_ref).collect();
        let nids = rooms.events().nids(&parents).await?;
        let nids: Vec<EventNid> = nids.into_values().collect();
        let found = rooms.events().map(nids).await?;
        next = found.into_values().collect();
    }
    Ok(())
}

/// The root of the thread that an event is in; `None` for the main timeline.
///
/// # Errors
///
/// When the database fails.
pub async fn root_of(rooms: &Rooms, event: &RoomEvent) -> sqlx::Result<Option<OwnedEventId>> {
    let chain = chain(rooms, event).await?;
    let thread = chain
        .into_iter()
        .find(|relation| relation.rel_type == "m.thread");
    Ok(thread.map(|relation| relation.parent))
}

/// Whether a receipt for the thread with this root may point to an event: the root itself, an event of the thread, or
/// one that refers to the root in another way.
///
/// # Errors
///
/// When the database fails.
pub async fn relates_to(rooms: &Rooms, event: &RoomEvent, root: &EventId) -> sqlx::Result<bool> {
    if event.pdu.event_id == root {
        return Ok(true);
    }
    let chain = chain(rooms, event).await?;
    Ok(chain.iter().any(|relation| relation.parent == root))
}

/// The relations from an event upwards, up to the one that makes it part of a thread.
async fn chain(rooms: &Rooms, event: &RoomEvent) -> sqlx::Result<Vec<Relation>> {
    let mut chain = Vec::new();
    let mut next = relation(event);
    while let Some(relation) = next {
        let ends = relation.rel_type == "m.thread" || chain.len() + 1 == HOPS;
        let parent = relation.parent.clone();
        chain.push(relation);
        if ends {
            break;
        }
        next = match find(rooms, &parent).await? {
            Some(parent) if parent.room == event.room => self::relation(&parent),
            _ => None,
        };
    }
    Ok(chain)
}

async fn find(rooms: &Rooms, id: &EventId) -> sqlx::Result<Option<Arc<RoomEvent>>> {
    let nids = rooms.events().nids(&[id]).await?;
    match nids.get(id) {
        Some(nid) => Ok(Some(rooms.events().get(*nid).await?)),
        None => Ok(None),
    }
}

fn relation(event: &RoomEvent) -> Option<Relation> {
    let json = event.pdu.content.get();
    if !json.contains("m.relates_to") {
        return None;
    }
    let content: Content = serde_json::from_str(json).ok()?;
    let relates_to = content.relates_to?;
    Some(Relation {
        rel_type: relates_to.rel_type?,
        parent: relates_to.event_id?,
    })
}
