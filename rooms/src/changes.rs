//! What a write changes in a room: its rows, and the head after it.

use std::sync::Arc;

use hearth_core::{EventNid, Pdu, StateKeyNid, UserNid, words};
use hearth_store::write::{EventRow, MembershipRow, Placement, Redacts, RoomWrite, Source, Status};
use ruma::{
    UserId,
    events::{StateEventType, TimelineEventType},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Rooms,
    error::SendError,
    event::RoomEvent,
    merge::{After, Key, Merged},
    room::{Extremity, Head, Room},
    snapshot::{Snapshot, StateMap, changes},
    stripped,
};

/// Puts events on a room's head, one on the other, and collects the rows for one write.
pub(crate) struct Changes<'a> {
    pub(crate) rooms: &'a Rooms,
    pub(crate) room: &'a Room,
    /// The head with everything so far.
    pub(crate) head: Head,
    /// The rows of everything so far.
    pub(crate) write: RoomWrite,
    /// The events so far.
    pub(crate) made: Vec<Arc<RoomEvent>>,
    /// The merged states that this write uses.
    pub(crate) merged: Vec<(Vec<Key>, Arc<Snapshot>)>,
}

/// What an event refers to, as numbers.
pub(crate) struct References {
    pub(crate) state_key: Option<StateKeyNid>,
    pub(crate) auth: Vec<EventNid>,
    pub(crate) redacts: Option<Redacts>,
}

impl<'a> Changes<'a> {
    pub(crate) fn new(rooms: &'a Rooms, room: &'a Room, head: Head) -> Self {
        let write = RoomWrite {
            room: room.nid,
            expected_revision: head.revision,
            events: Vec::new(),
            snapshots: Vec::new(),
            new_state: None,
            extremities_gone: Vec::new(),
            extremities_new: Vec::new(),
            memberships: Vec::new(),
            transaction: None,
            redacted: Vec::new(),
            redactions_seen: Vec::new(),
            gaps: Vec::new(),
        };
        Self {
            rooms,
            room,
            head,
            write,
            made: Vec::new(),
            merged: Vec::new(),
        }
    }

    /// Adds an event's row. A new event is in memory from now on, under a number that nobody else knows. An outlier
    /// is not before its commit: under its number readers find what is stored.
    pub(crate) async fn add(&mut self, row: EventRow, event: &Arc<RoomEvent>) {
        let is_new = row.source != Source::Outlier;
        self.write.events.push(row);
        self.made.push(Arc::clone(event));
        if is_new {
            self.rooms.events().remember(Arc::clone(event)).await;
        }
    }

    /// Puts an accepted event on the head, in place of the extremities that it comes after; `before` is the state
    /// before it.
    pub(crate) async fn advance(
        &mut self,
        event: &Arc<RoomEvent>,
        before: Arc<Snapshot>,
        previous: &[EventNid],
    ) -> Result<(), SendError> {
        self.put_on_head(event, before, previous);
        self.refresh_state().await
    }

    /// The same, but the current state stays as it was: it is to be refreshed after the last event.
    pub(crate) fn put_on_head(
        &mut self,
        event: &Arc<RoomEvent>,
        before: Arc<Snapshot>,
        previous: &[EventNid],
    ) {
        self.replace(previous);
        self.write.extremities_new.push(event.nid);
        self.head.extremities.push(Extremity {
            nid: event.nid,
            event_id: event.pdu.event_id.clone(),
            depth: event.pdu.depth,
            after: After::of(event, before),
        });
    }

    /// Takes extremities off the head that have a successor now. The room's row is told of all of them: another process
    /// may have put some there that the head in memory lacks.
    pub(crate) fn replace(&mut self, previous: &[EventNid]) {
        let made = |nid: &EventNid| self.made.iter().any(|event| event.nid == *nid);
        let stored = previous.iter().filter(|nid| !made(nid));
        self.write.extremities_gone.extend(stored);
        let replaced = |nid: &EventNid| previous.contains(nid);
        self.head.extremities.retain(|e| !replaced(&e.nid));
        self.write.extremities_new.retain(|nid| !replaced(nid));
    }

    /// Makes what the extremities' states come to the current state.
    pub(crate) async fn refresh_state(&mut self) -> Result<(), SendError> {
        if self.head.extremities.is_empty() {
            return Ok(());
        }
        let states: Vec<After> = self
            .head
            .extremities
            .iter()
            .map(|extremity| extremity.after.clone())
            .collect();
        let merged = self.rooms.merge(self.room, &states).await?;
        if merged.snapshot.as_ref().map(|known| known.nid) == Some(self.head.snapshot.nid) {
            return Ok(());
        }
        let now = Snapshot::unstored(merged.map.clone());
        let changed: Vec<_> = self.head.snapshot.changes_to(&now).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let snapshot = self.store(merged).await?;
        if self.write.new_state.is_none() {
            self.head.revision += 1;
        }
        self.write.new_state = Some(snapshot.nid);
        self.head.snapshot = snapshot;
        let members = self.memberships(&changed).await?;
        self.write.memberships.extend(members);
        Ok(())
    }

    /// The snapshot that holds a state: the one that does already, or a new one.
    pub(crate) async fn store(&mut self, merged: Merged) -> Result<Arc<Snapshot>, SendError> {
        let current = &self.head.snapshot;
        let found = match merged.snapshot {
            Some(snapshot) => snapshot,
            None if current.holds(&merged.map) => Arc::clone(current),
            None => {
                let nid = self.rooms.blocks().snapshot().await?;
                let base = match &merged.near {
                    Some(near) if !is_nearer(current, near, &merged.map) => near,
                    Some(_) | None => current,
                };
                let (snapshot, row) = base.successor(nid, self.room.nid, merged.map);
                self.write.snapshots.push(row);
                Arc::new(snapshot)
            }
        };
        if let Some(key) = merged.key {
            self.merged.push((key, Arc::clone(&found)));
        }
        Ok(found)
    }

    /// The rows of the memberships among what changed in the state.
    async fn memberships(
        &self,
        changed: &[(StateKeyNid, Option<EventNid>)],
    ) -> Result<Vec<MembershipRow>, SendError> {
        if let [(_, Some(nid))] = changed
            && let Some(event) = self.made.last().filter(|event| event.nid == *nid)
        {
            let is_member = event.pdu.kind == TimelineEventType::RoomMember;
            return match is_member {
                true => Ok(vec![self.membership(event).await?]),
                false => Ok(Vec::new()),
            };
        }
        let keys: Vec<StateKeyNid> = changed.iter().map(|(key, _)| *key).collect();
        let names = self.rooms.interner().state_key_names(&keys).await?;
        let member = StateEventType::RoomMember.to_string();
        let is_member = |key: &StateKeyNid| names.get(key).is_some_and(|name| name.0 == member);
        let held = changed
            .iter()
            .filter_map(|(key, event)| event.filter(|_| is_member(key)));
        let events = self.rooms.events().map(held).await?;
        let mut rows = Vec::new();
        for (key, event) in changed.iter().filter(|(key, _)| is_member(key)) {
            match event.and_then(|nid| events.get(&nid)) {
                Some(event) => rows.push(self.membership(event).await?),
                None => rows.extend(
                    self.no_membership(names.get(key).map(AsRef::as_ref))
                        .await?,
                ),
            }
        }
        Ok(rows)
    }

    async fn membership(&self, event: &RoomEvent) -> Result<MembershipRow, SendError> {
        let user =
            UserId::parse(event.pdu.state_key.as_deref().unwrap_or_default()).map_err(|_| {
                SendError::BadEvent("the state key of a member event is a user id".into())
            })?;
        let content: MemberContent = event.pdu.content_as()?;
        let stripped = match content.membership.as_str() {
            "invite" | "knock" => {
                Some(stripped::for_member(self.rooms, &self.head.snapshot, event).await?)
            }
            _ => None,
        };
        let is_elsewhere = user.server_name() != self.rooms.identity().server_name;
        let words = match content.membership.as_str() {
            "join" if is_elsewhere => words::of_user(&user, content.displayname.as_deref()),
            _ => Vec::new(),
        };
        Ok(MembershipRow {
            user: self.rooms.interner().user(&user).await?,
            room: self.room.nid,
            membership: content.membership,
            event: Some(event.nid),
            sender: event.sender,
            stripped,
            forgotten: false,
            display_name: content.displayname,
            avatar_url: content.avatar_url,
            words,
        })
    }

    /// The row of a user whose member event is gone from the state.
    async fn no_membership(
        &self,
        name: Option<&(String, String)>,
    ) -> Result<Option<MembershipRow>, SendError> {
        let Some(user) = name.and_then(|(_, key)| UserId::parse(key).ok()) else {
            return Ok(None);
        };
        let user = self.rooms.interner().user(&user).await?;
        Ok(Some(MembershipRow {
            user,
            room: self.room.nid,
            membership: "leave".to_owned(),
            event: None,
            sender: user,
            stripped: None,
            forgotten: false,
            display_name: None,
            avatar_url: None,
            words: Vec::new(),
        }))
    }
}

/// Whether `one` differs from a state in fewer entries than `other`; both share most of theirs with it.
fn is_nearer(one: &Snapshot, other: &Snapshot, state: &StateMap) -> bool {
    let mut other = changes(&other.map, state);
    let mut one = changes(&one.map, state);
    loop {
        match (one.next(), other.next()) {
            (None, _) => return true,
            (Some(_), None) => return false,
            (Some(_), Some(_)) => {}
        }
    }
}

/// The row of an event that was made here and is accepted; what is otherwise with received ones is changed after.
pub(crate) fn event_row(
    (room, nid): (&Room, EventNid),
    pdu: &Pdu,
    sender: UserNid,
    before: &Snapshot,
    refs: References,
) -> EventRow {
    EventRow {
        nid,
        room: room.nid,
        event_id: pdu.event_id.to_string(),
        sender,
        kind: pdu.kind.to_string(),
        state_key: refs.state_key,
        depth: pdu.depth,
        origin_server_ts: i64::try_from(u64::from(pdu.origin_server_ts.get())).unwrap_or(i64::MAX),
        source: Source::Made,
        placement: Placement::Live,
        snapshot: Some(before.nid),
        auth: refs.auth,
        status: Status::Accepted,
        json: pdu.json.get().to_owned(),
        relation: relation(&pdu.content),
        redacts: refs.redacts,
    }
}

/// What a membership row takes of a member event.
#[derive(Deserialize)]
pub(crate) struct MemberContent {
    pub(crate) membership: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) displayname: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) avatar_url: Option<String>,
}

/// Reads a string; anything else is none, and so is a string with a null character, which no column holds.
fn lenient<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let value = serde_json::Value::deserialize(value)?;
    let text = value.as_str().filter(|text| !text.contains('\0'));
    Ok(text.map(ToOwned::to_owned))
}

#[derive(Deserialize)]
struct RelatesTo {
    rel_type: String,
    event_id: String,
}

/// The relation that an event's content declares.
pub(crate) fn relation(content: &RawValue) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.relates_to")]
        relates_to: RelatesTo,
    }
    let Content { relates_to } = serde_json::from_str(content.get()).ok()?;
    if relates_to.event_id.contains('\0') || relates_to.rel_type.contains('\0') {
        return None;
    }
    Some((relates_to.event_id, relates_to.rel_type))
}
