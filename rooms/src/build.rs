//! Building events: what a room's next event refers to, who may send it, and the rows that it becomes.

use std::{collections::HashMap, sync::Arc};

use hearth_core::{EventNid, Pdu, StateKeyNid, UserNid};
use hearth_store::write::{EventRow, MembershipRow, Placement, Redacts, RoomWrite, Status};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedEventId, UserId,
    events::{StateEventType, TimelineEventType},
    signatures::hash_and_sign_event,
    state_res::{
        auth_types_for_event, check_pdu_format, check_state_dependent_auth_rules,
        check_state_independent_auth_rules,
    },
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Rooms,
    error::SendError,
    event::RoomEvent,
    room::{Extremity, Head, Room},
    stripped,
};

/// How many extremities a new event merges.
const MERGED: usize = 10;

/// An event as its sender thinks of it.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The event type.
    pub kind: TimelineEventType,
    /// Present on state events.
    pub state_key: Option<String>,
    /// The content.
    pub content: CanonicalJsonObject,
    /// What a redaction redacts.
    pub redacts: Option<OwnedEventId>,
    /// When it was made, if not now (application services).
    pub timestamp: Option<MilliSecondsSinceUnixEpoch>,
    /// The state event that it must replace: another one in its place means that somebody was faster.
    pub replaces: Option<EventNid>,
}

impl Draft {
    /// A state event.
    #[must_use]
    pub fn state(
        kind: impl Into<TimelineEventType>,
        state_key: impl Into<String>,
        content: CanonicalJsonObject,
    ) -> Self {
        Self {
            kind: kind.into(),
            state_key: Some(state_key.into()),
            content,
            redacts: None,
            timestamp: None,
            replaces: None,
        }
    }

    /// A message event.
    #[must_use]
    pub fn message(kind: impl Into<TimelineEventType>, content: CanonicalJsonObject) -> Self {
        Self {
            kind: kind.into(),
            state_key: None,
            content,
            redacts: None,
            timestamp: None,
            replaces: None,
        }
    }
}

/// Builds events on a room's head, one on the other, and collects the rows for one write.
pub(crate) struct Builder<'a> {
    rooms: &'a Rooms,
    room: &'a Room,
    /// The head with everything built so far.
    pub head: Head,
    /// The rows of everything built so far.
    pub write: RoomWrite,
    /// The events built so far.
    pub made: Vec<Arc<RoomEvent>>,
}

/// What [`Builder::append`] did.
pub(crate) enum Appended {
    /// The event is new.
    New(Arc<RoomEvent>),
    /// The state was like this already; nothing was built.
    Unchanged(Arc<RoomEvent>),
}

/// The state events that an event's authorisation looks at.
pub(crate) type AuthState = HashMap<(StateEventType, String), Arc<RoomEvent>>;

impl<'a> Builder<'a> {
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
        };
        Self {
            rooms,
            room,
            head,
            write,
            made: Vec::new(),
        }
    }

    /// Builds, authorises and signs an event on top of what there is.
    pub(crate) async fn append(
        &mut self,
        sender: &UserId,
        draft: Draft,
    ) -> Result<Appended, SendError> {
        let sender_nid = self.rooms.interner().user(sender).await?;
        let state_key = match &draft.state_key {
            Some(key) => {
                let kind = draft.kind.to_string();
                Some(self.rooms.interner().state_key(&kind, key).await?)
            }
            None => None,
        };
        if draft.replaces.is_some()
            && state_key.and_then(|key| self.head.snapshot.get(key)) != draft.replaces
        {
            return Err(SendError::Superseded);
        }
        if let Some(event) = self.unchanged(sender, state_key, &draft).await? {
            return Ok(Appended::Unchanged(event));
        }
        let redacts = self.redaction_target(sender, &draft).await?;
        let content = RawValue::from_string(serde_json::to_string(&draft.content)?)?;
        let auth = self.auth_state(sender, &draft, &content).await?;
        let (pdu, auth_nids) = self.build(sender, draft, &auth)?;
        self.authorise(&pdu, &auth)?;
        let nid = self.rooms.blocks().event().await?;
        let refs = References {
            state_key,
            auth: auth_nids,
            redacts,
        };
        let row = self.row(nid, &pdu, sender_nid, refs);
        let event = Arc::new(RoomEvent::new(&row, pdu));
        self.apply(row, &event).await?;
        Ok(Appended::New(event))
    }

    /// The state event that says the same already, if there is one.
    async fn unchanged(
        &self,
        sender: &UserId,
        state_key: Option<StateKeyNid>,
        draft: &Draft,
    ) -> Result<Option<Arc<RoomEvent>>, SendError> {
        let Some(nid) = state_key.and_then(|key| self.head.snapshot.get(key)) else {
            return Ok(None);
        };
        let event = self.rooms.events().get(nid).await?;
        let same = event.pdu.sender == sender
            && event
                .pdu
                .content_as::<CanonicalJsonObject>()
                .is_ok_and(|content| content == draft.content);
        Ok(same.then_some(event))
    }

    /// The state that authorises the event: what it must cite, and the create event.
    async fn auth_state(
        &self,
        sender: &UserId,
        draft: &Draft,
        content: &RawValue,
    ) -> Result<AuthState, SendError> {
        let rules = &self.room.rules.authorization;
        let mut types = auth_types_for_event(
            &draft.kind,
            sender,
            draft.state_key.as_deref(),
            content,
            rules,
        )
        .map_err(SendError::BadEvent)?;
        if draft.kind != TimelineEventType::RoomCreate
            && !types
                .iter()
                .any(|(kind, _)| *kind == StateEventType::RoomCreate)
        {
            types.push((StateEventType::RoomCreate, String::new()));
        }
        Ok(self.rooms.state_subset(&self.head.snapshot, types).await?)
    }

    /// Refers, hashes and signs.
    pub(crate) fn build(
        &self,
        sender: &UserId,
        draft: Draft,
        auth: &AuthState,
    ) -> Result<(Pdu, Vec<EventNid>), SendError> {
        let rules = &self.room.rules;
        let allowed = auth.values().filter(|event| {
            rules.event_format.allow_room_create_in_auth_events
                || event.pdu.kind != TimelineEventType::RoomCreate
        });
        let (cited, numbers): (Vec<CanonicalJsonValue>, Vec<EventNid>) = allowed
            .map(|event| (id_value(&event.pdu.event_id), event.nid))
            .unzip();
        let mut newest = self.head.extremities.clone();
        newest.sort_by_key(|extremity| -extremity.depth);
        let prev_ids = newest.iter().take(MERGED).map(|e| id_value(&e.event_id));
        let depth = newest
            .first()
            .map_or(0, |e| e.depth)
            .saturating_add(1)
            .min(MAX_DEPTH);

        let mut object = CanonicalJsonObject::new();
        let mut put = |key: &str, value: CanonicalJsonValue| object.insert(key.to_owned(), value);
        put("auth_events", CanonicalJsonValue::Array(cited));
        put("prev_events", CanonicalJsonValue::Array(prev_ids.collect()));
        put("depth", integer(depth));
        let now = draft.timestamp.unwrap_or_else(|| self.rooms.clock().now());
        put(
            "origin_server_ts",
            CanonicalJsonValue::Integer(now.get().into()),
        );
        put("sender", sender.as_str().into());
        put("type", draft.kind.to_string().into());
        if draft.kind != TimelineEventType::RoomCreate
            || rules.event_format.require_room_create_room_id
        {
            put("room_id", self.room.id.as_str().into());
        }
        if let Some(key) = draft.state_key {
            put("state_key", key.into());
        }
        let mut content = draft.content;
        if let Some(target) = draft.redacts {
            if rules.redaction.content_field_redacts {
                content.insert("redacts".to_owned(), target.as_str().into());
            } else {
                put("redacts", target.as_str().into());
            }
        }
        put("content", CanonicalJsonValue::Object(content));

        let identity = self.rooms.identity();
        let name = identity.server_name.as_str();
        hash_and_sign_event(name, &identity.key, &mut object, &rules.redaction)
            .map_err(|error| SendError::from_signing(&error))?;
        check_pdu_format(&object, &rules.event_format).map_err(SendError::TooLarge)?;
        Ok((Pdu::from_canonical(&object, rules)?, numbers))
    }

    fn authorise(&self, pdu: &Pdu, auth: &AuthState) -> Result<(), SendError> {
        let rules = &self.room.rules.authorization;
        let by_id = |id: &ruma::EventId| {
            let event = auth.values().find(|event| event.pdu.event_id == id);
            event.map(AsRef::as_ref)
        };
        check_state_independent_auth_rules(rules, pdu, by_id).map_err(SendError::Forbidden)?;
        let by_key = |kind: &StateEventType, key: &str| {
            let event = auth.get(&(kind.clone(), key.to_owned()));
            event.map(AsRef::as_ref)
        };
        check_state_dependent_auth_rules(rules, pdu, by_key).map_err(SendError::Forbidden)
    }

    fn row(&self, nid: EventNid, pdu: &Pdu, sender: UserNid, refs: References) -> EventRow {
        EventRow {
            nid,
            room: self.room.nid,
            event_id: pdu.event_id.to_string(),
            sender,
            kind: pdu.kind.to_string(),
            state_key: refs.state_key,
            depth: pdu.depth,
            origin_server_ts: i64::try_from(u64::from(pdu.origin_server_ts.get()))
                .unwrap_or(i64::MAX),
            placement: Placement::Live,
            snapshot: Some(self.head.snapshot.nid),
            auth: refs.auth,
            status: Status::Accepted,
            json: pdu.json.get().to_owned(),
            relation: relation(&pdu.content),
            redacts: refs.redacts,
        }
    }

    /// Puts a built event on the head.
    async fn apply(&mut self, row: EventRow, event: &Arc<RoomEvent>) -> Result<(), SendError> {
        let merged: Vec<EventNid> = {
            let mut newest = self.head.extremities.clone();
            newest.sort_by_key(|extremity| -extremity.depth);
            newest
                .iter()
                .take(MERGED)
                .map(|extremity| extremity.nid)
                .collect()
        };
        self.head
            .extremities
            .retain(|extremity| !merged.contains(&extremity.nid));
        let own: Vec<EventNid> = self.made.iter().map(|event| event.nid).collect();
        self.write
            .extremities_gone
            .extend(merged.into_iter().filter(|nid| !own.contains(nid)));
        self.write.extremities_new = vec![event.nid];
        self.head.extremities.push(Extremity {
            nid: event.nid,
            event_id: event.pdu.event_id.clone(),
            depth: event.pdu.depth,
        });
        if let Some(key) = event.state_key {
            let mut map = self.head.snapshot.map.clone();
            map.insert(key, event.nid);
            let nid = self.rooms.blocks().snapshot().await?;
            let (snapshot, row) = self.head.snapshot.successor(nid, self.room.nid, map);
            if self.write.new_state.is_none() {
                self.head.revision += 1;
            }
            self.head.snapshot = Arc::new(snapshot);
            self.write.snapshots.push(row);
            self.write.new_state = Some(nid);
        }
        self.write.events.push(row);
        self.made.push(Arc::clone(event));
        self.rooms.events().remember(Arc::clone(event)).await;
        if event.pdu.kind == TimelineEventType::RoomMember {
            let row = self.membership(event).await?;
            self.write.memberships.push(row);
        }
        Ok(())
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
        })
    }

    /// What a redaction redacts, if the sender may.
    async fn redaction_target(
        &self,
        sender: &UserId,
        draft: &Draft,
    ) -> Result<Option<Redacts>, SendError> {
        let (TimelineEventType::RoomRedaction, Some(target)) = (&draft.kind, &draft.redacts) else {
            return Ok(None);
        };
        let nids = self.rooms.events().nids(&[target.as_ref()]).await?;
        let target = match nids.get(target) {
            Some(nid) => self.rooms.events().get(*nid).await?,
            None => return Err(SendError::UnknownTarget),
        };
        if target.room != self.room.nid {
            return Err(SendError::UnknownTarget);
        }
        if target.pdu.sender != sender {
            let powers = self.rooms.power(self.room, &self.head.snapshot).await?;
            if !powers.may_redact(sender) {
                return Err(SendError::Forbidden(
                    "only its sender or a moderator may redact an event".into(),
                ));
            }
        }
        Ok(Some(Redacts::Known(target.nid)))
    }
}

/// What an event refers to, as numbers.
struct References {
    state_key: Option<StateKeyNid>,
    auth: Vec<EventNid>,
    redacts: Option<Redacts>,
}

/// The largest depth that canonical JSON can hold.
const MAX_DEPTH: i64 = (1 << 53) - 1;

#[derive(Deserialize)]
struct MemberContent {
    membership: String,
    #[serde(default, deserialize_with = "lenient")]
    displayname: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    avatar_url: Option<String>,
}

/// Reads a string; anything else is none.
fn lenient<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    let value = serde_json::Value::deserialize(value)?;
    Ok(value.as_str().map(ToOwned::to_owned))
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
    Some((relates_to.event_id, relates_to.rel_type))
}

fn id_value(id: &ruma::EventId) -> CanonicalJsonValue {
    CanonicalJsonValue::String(id.as_str().to_owned())
}

fn integer(number: i64) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(ruma::Int::new_saturating(number))
}
