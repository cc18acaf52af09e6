//! Building events: what a room's next event refers to and who may send it.

use std::{collections::HashMap, sync::Arc};

use hearth_core::{EventNid, Pdu, StateKeyNid};
use hearth_store::write::Redacts;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::{EventIdFormatVersion, EventsReferenceFormatVersion},
    signatures::hash_and_sign_event,
    state_res::{
        auth_types_for_event, check_pdu_format, check_state_dependent_auth_rules,
        check_state_independent_auth_rules,
    },
};
use serde_json::value::RawValue;

use crate::{
    changes::{Changes, References, event_row},
    draft::Draft,
    error::SendError,
    event::RoomEvent,
    merge::After,
    room::Extremity,
    snapshot::Snapshot,
};

/// How many extremities a new event merges.
const MERGED: usize = 10;

/// What [`Changes::append`] did.
pub(crate) enum Appended {
    /// The event is new.
    New(Arc<RoomEvent>),
    /// The state was like this already; nothing was built.
    Unchanged(Arc<RoomEvent>),
}

/// The state events that an event's authorisation looks at.
pub(crate) type AuthState = HashMap<(StateEventType, String), Arc<RoomEvent>>;

/// What an event is built on.
pub(crate) struct Base {
    /// The events before it.
    pub(crate) previous: Vec<Extremity>,
    /// How the event refers to them.
    references: Vec<CanonicalJsonValue>,
    /// The state before it.
    pub(crate) before: Arc<Snapshot>,
    /// Whether there are branches that it does not merge.
    is_partial: bool,
}

impl Base {
    /// The base of a room's first event.
    pub(crate) fn nothing() -> Self {
        Self {
            previous: Vec::new(),
            references: Vec::new(),
            before: Arc::new(Snapshot::empty()),
            is_partial: false,
        }
    }
}

impl Changes<'_> {
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
        let base = self.base().await?;
        let redacts = self.redaction_target(sender, &draft, &base.before).await?;
        let content = RawValue::from_string(serde_json::to_string(&draft.content)?)?;
        let auth = self.auth_state(sender, &draft, &content, &base.before);
        let auth = auth.await?;
        let now = self.auth_state_now(sender, &draft, &content, &base).await?;
        let (pdu, auth_nids) = self.build(sender, draft, &auth, &base)?;
        self.authorise(&pdu, &auth)?;
        if let Some(now) = now {
            self.allow(&pdu, &now)?;
        }
        let nid = self.rooms.blocks().event().await?;
        let refs = References {
            state_key,
            auth: auth_nids,
            redacts,
        };
        let row = event_row((self.room, nid), &pdu, sender_nid, &base.before, refs);
        let event = Arc::new(RoomEvent::new(&row, pdu));
        self.add(row, &event).await;
        let previous: Vec<EventNid> = base.previous.iter().map(|e| e.nid).collect();
        self.advance(&event, base.before, &previous).await?;
        Ok(Appended::New(event))
    }

    /// Builds, authorises and signs an event, and leaves the head as it is: what becomes of the event is for others.
    pub(crate) async fn propose(
        &mut self,
        sender: &UserId,
        draft: Draft,
    ) -> Result<Pdu, SendError> {
        let base = self.base().await?;
        let content = RawValue::from_string(serde_json::to_string(&draft.content)?)?;
        let auth = self.auth_state(sender, &draft, &content, &base.before);
        let auth = auth.await?;
        let now = self.auth_state_now(sender, &draft, &content, &base).await?;
        let (pdu, _) = self.build(sender, draft, &auth, &base)?;
        self.authorise(&pdu, &auth)?;
        if let Some(now) = now {
            self.allow(&pdu, &now)?;
        }
        Ok(pdu)
    }

    /// What the next event is built on: it merges the newest extremities.
    pub(crate) async fn base(&mut self) -> Result<Base, SendError> {
        let mut previous = self.head.extremities.clone();
        let is_partial = previous.len() > MERGED;
        let before = if previous.len() <= 1 {
            Arc::clone(&self.head.snapshot)
        } else {
            previous.sort_by_key(|extremity| -extremity.depth);
            previous.truncate(MERGED);
            let states: Vec<After> = previous.iter().map(|e| e.after.clone()).collect();
            let merged = self.rooms.merge(self.room, &states).await?;
            self.store(merged).await?
        };
        let references = self.references(&previous).await?;
        Ok(Base {
            previous,
            references,
            before,
            is_partial,
        })
    }

    /// The current state's part that authorises the event, when it says more than the state that the event is built on:
    /// nobody speaks any more whom a branch bans that is not merged.
    async fn auth_state_now(
        &self,
        sender: &UserId,
        draft: &Draft,
        content: &RawValue,
        base: &Base,
    ) -> Result<Option<AuthState>, SendError> {
        if !base.is_partial {
            return Ok(None);
        }
        let now = self.auth_state(sender, draft, content, &self.head.snapshot);
        now.await.map(Some)
    }

    /// How an event refers to those before it. The events themselves are needed only where hashes stand beside their ids.
    async fn references(
        &self,
        previous: &[Extremity],
    ) -> Result<Vec<CanonicalJsonValue>, SendError> {
        let rules = &self.room.rules;
        if rules.events_reference_format != EventsReferenceFormatVersion::V1 {
            let ids = previous.iter().map(|e| e.event_id.as_str().into());
            return Ok(ids.collect());
        }
        let nids: Vec<EventNid> = previous.iter().map(|e| e.nid).collect();
        let events = self.rooms.events().map(nids).await?;
        let references = events.values().map(|event| event.pdu.reference(rules));
        Ok(references.collect::<Result<_, _>>()?)
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
        before: &Snapshot,
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
        Ok(self.rooms.state_subset(before, types).await?)
    }

    /// Refers, hashes and signs.
    pub(crate) fn build(
        &self,
        sender: &UserId,
        draft: Draft,
        auth: &AuthState,
        base: &Base,
    ) -> Result<(Pdu, Vec<EventNid>), SendError> {
        let rules = &self.room.rules;
        let allowed = auth.values().filter(|event| {
            rules.event_format.allow_room_create_in_auth_events
                || event.pdu.kind != TimelineEventType::RoomCreate
        });
        let (mut cited, mut numbers) = (Vec::new(), Vec::new());
        for event in allowed {
            cited.push(event.pdu.reference(rules)?);
            numbers.push(event.nid);
        }
        let depths = base.previous.iter().map(|e| e.depth);
        let depth = depths.max().unwrap_or(0).saturating_add(1).min(MAX_DEPTH);

        let mut object = CanonicalJsonObject::new();
        let mut put = |key: &str, value: CanonicalJsonValue| object.insert(key.to_owned(), value);
        put("auth_events", cited.into());
        put("prev_events", base.references.clone().into());
        put("depth", integer(depth));
        let now = draft.timestamp.unwrap_or_else(|| self.rooms.clock().now());
        put("origin_server_ts", now.get().into());
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
        put("content", content.into());

        let identity = self.rooms.identity();
        if rules.event_id_format == EventIdFormatVersion::V1 {
            put(
                "event_id",
                EventId::new_v1(&identity.server_name).as_str().into(),
            );
        }
        let name = identity.server_name.as_str();
        hash_and_sign_event(name, &identity.key, &mut object, &rules.redaction)
            .map_err(|error| SendError::from_signing(&error))?;
        check_pdu_format(&object, &rules.event_format).map_err(SendError::TooLarge)?;
        Ok((Pdu::from_canonical(&object, rules)?, numbers))
    }

    fn authorise(&self, pdu: &Pdu, auth: &AuthState) -> Result<(), SendError> {
        let rules = &self.room.rules.authorization;
        let by_id = |id: &EventId| {
            let event = auth.values().find(|event| event.pdu.event_id == id);
            event.map(AsRef::as_ref)
        };
        check_state_independent_auth_rules(rules, pdu, by_id).map_err(SendError::Forbidden)?;
        self.allow(pdu, auth)
    }

    /// Checks the event against a state.
    fn allow(&self, pdu: &Pdu, auth: &AuthState) -> Result<(), SendError> {
        let rules = &self.room.rules.authorization;
        let by_key = |kind: &StateEventType, key: &str| {
            let event = auth.get(&(kind.clone(), key.to_owned()));
            event.map(AsRef::as_ref)
        };
        check_state_dependent_auth_rules(rules, pdu, by_key).map_err(SendError::Forbidden)
    }

    /// What a redaction redacts, if the sender may.
    async fn redaction_target(
        &self,
        sender: &UserId,
        draft: &Draft,
        before: &Snapshot,
    ) -> Result<Option<Redacts>, SendError> {
        let (TimelineEventType::RoomRedaction, Some(target)) = (&draft.kind, &draft.redacts) else {
            return Ok(None);
        };
        let found = self.rooms.by_id(&[target.as_ref()]).await?.remove(target);
        if found
            .as_ref()
            .is_some_and(|found| found.room != self.room.nid)
        {
            return Err(SendError::UnknownTarget);
        }
        let is_own = found
            .as_ref()
            .is_some_and(|found| found.pdu.sender == sender);
        if !is_own
            && !self
                .rooms
                .power(self.room, before)
                .await?
                .may_redact(sender)
        {
            return Err(match found {
                Some(_) => SendError::Forbidden(
                    "only its sender or a moderator may redact an event".into(),
                ),
                None => SendError::UnknownTarget,
            });
        }
        // Who may redact anything may redact what only other servers have: it applies there, and here once it comes.
        Ok(Some(match found {
            Some(found) => Redacts::Known(found.nid),
            None => Redacts::Unknown(target.to_string()),
        }))
    }
}

/// The largest depth that canonical JSON can hold.
const MAX_DEPTH: i64 = (1 << 53) - 1;

fn integer(number: i64) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(ruma::Int::new_saturating(number))
}
