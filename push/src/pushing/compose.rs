//! What is told of one event.

use std::sync::Arc;

use hearth_core::{EventNid, Position, RoomNid};
use hearth_rooms::{Room, RoomEvent, Snapshot, membership_of};
use hearth_store::{membership, push_queue::Waiting};
use ruma::{
    OwnedUserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
    push::{Action, Tweak},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Pushing;
use crate::{
    evaluator::{OutsideInvite, Verdict, Viewer},
    gateway::{Notification, priority, tweaks},
};

/// What is told of an event, without the counts.
#[derive(Debug)]
pub(super) struct Story {
    event_id: Option<String>,
    room_id: String,
    kind: String,
    sender: OwnedUserId,
    sender_name: Option<String>,
    room_name: Option<String>,
    room_alias: Option<String>,
    is_target: bool,
    content: Box<RawValue>,
    actions: Vec<Action>,
}

/// A state event that somebody outside of a room was told.
#[derive(Deserialize)]
struct Stripped {
    #[serde(rename = "type")]
    kind: String,
    sender: OwnedUserId,
    state_key: String,
    content: Box<RawValue>,
}

/// The contents of state events that are told.
#[derive(Default, Deserialize)]
struct Shown {
    name: Option<String>,
    alias: Option<String>,
    displayname: Option<String>,
}

impl Story {
    /// The notification, of which a gateway gets all or no more than ids.
    pub(super) fn notification(&self, ids_only: bool) -> Notification<'_> {
        let tweaks = self.tweaks();
        let mut notification = Notification {
            event_id: self.event_id.as_deref(),
            room_id: Some(&self.room_id),
            prio: priority(&self.kind, &tweaks),
            ..Notification::default()
        };
        notification.devices[0].tweaks = tweaks;
        if !ids_only {
            notification.kind = Some(self.kind.clone());
            notification.sender = Some(self.sender.as_str());
            notification
                .sender_display_name
                .clone_from(&self.sender_name);
            notification.room_name.clone_from(&self.room_name);
            notification.room_alias.clone_from(&self.room_alias);
            notification.user_is_target = self.is_target.then_some(true);
            notification.content = Some(&self.content);
        }
        notification
    }

    /// Whether the event is a call, which is not missed yet.
    pub(super) fn is_call(&self) -> bool {
        self.kind == "m.call.invite"
    }

    fn tweaks(&self) -> serde_json::Map<String, serde_json::Value> {
        let set = self.actions.iter().filter_map(|action| match action {
            Action::SetTweak(tweak) => Some::<&Tweak>(tweak),
            Action::Notify | _ => None,
        });
        tweaks(set)
    }
}

impl Pushing {
    /// What there is to tell of an event by now; `None` when the rules changed, or the user has read it, may not see it, or
    /// is not there any more.
    pub(super) async fn story(
        &self,
        viewer: &Viewer,
        waiting: &Waiting,
        event: i64,
    ) -> sqlx::Result<Option<Story>> {
        if event < 0 {
            return self.story_of_invite(viewer, RoomNid(-event)).await;
        }
        let evaluator = &self.0.parts.evaluator;
        let rooms = evaluator.rooms();
        let found = rooms.events().map([EventNid(event)]).await?;
        let Some(event) = found.into_values().next() else {
            return Ok(None);
        };
        let Some(room) = rooms.find_by_nid(event.room).await? else {
            return Ok(None);
        };
        let head = self.0.parts.journal.head();
        let Some(verdict) = evaluator.evaluate(viewer, &room, &event, head).await? else {
            return Ok(None);
        };
        let Some(current) = rooms.current(&room).await? else {
            return Ok(None);
        };
        let (user_id, snapshot) = (&viewer.user_id, current.snapshot);
        let is_target = event.pdu.kind == TimelineEventType::RoomMember
            && event.pdu.state_key.as_deref() == Some(user_id.as_str());
        let is_invite = is_target && membership_of(&event) == MembershipState::Invite;
        let is_there = match rooms.membership(&snapshot, user_id).await? {
            MembershipState::Join => true,
            MembershipState::Invite => is_invite,
            MembershipState::Ban | MembershipState::Knock | MembershipState::Leave | _ => false,
        };
        let settings = evaluator.settings().latest(viewer.user, user_id).await?;
        if !is_there
            || (is_invite && settings.blocks_invites)
            || self.is_read(waiting, &event, &verdict).await?
            // An invite is for whom it invites, whatever of the room he may read.
            || !(is_invite || rooms.may_see(&room, user_id, &event).await?)
        {
            return Ok(None);
        }
        let told = self.told(&room, &snapshot, &event, verdict).await?;
        Ok(Some(Story { is_target, ..told }))
    }

    async fn told(
        &self,
        room: &Room,
        snapshot: &Arc<Snapshot>,
        event: &RoomEvent,
        verdict: Verdict,
    ) -> sqlx::Result<Story> {
        let sender = &event.pdu.sender;
        let (name, alias, member) = (
            (StateEventType::RoomName, String::new()),
            (StateEventType::RoomCanonicalAlias, String::new()),
            (StateEventType::RoomMember, sender.to_string()),
        );
        let keys = vec![name.clone(), alias.clone(), member.clone()];
        let state = self.0.parts.evaluator.rooms();
        let state = state.state_subset(snapshot, keys).await?;
        let shown = |key| {
            let event: Option<&Arc<RoomEvent>> = state.get(key);
            event.and_then(|event| event.pdu.content_as::<Shown>().ok())
        };
        Ok(Story {
            event_id: Some(event.pdu.event_id.to_string()),
            room_id: room.id.to_string(),
            kind: event.pdu.kind.to_string(),
            sender: sender.clone(),
            sender_name: shown(&member).and_then(|shown| shown.displayname),
            room_name: shown(&name).and_then(|shown| shown.name),
            room_alias: shown(&alias).and_then(|shown| shown.alias),
            is_target: false,
            content: event.pdu.content.clone(),
            actions: verdict.actions,
        })
    }

    /// Whether the user has read an event.
    async fn is_read(
        &self,
        waiting: &Waiting,
        event: &RoomEvent,
        verdict: &Verdict,
    ) -> sqlx::Result<bool> {
        let order = event.stream_order().unwrap_or(i64::MAX);
        let thread = verdict.thread.as_deref().map_or("main", |id| id.as_str());
        let room = [event.room];
        let receipts = self.0.parts.receipts.list(&room, waiting.user);
        Ok(receipts.await?.iter().any(|receipt| {
            (receipt.thread.is_empty() || receipt.thread == thread)
                && receipt.stream_order.is_some_and(|up_to| order <= up_to)
        }))
    }

    /// What there is to tell of an invite to a room that this server is not in, if it still stands.
    async fn story_of_invite(&self, viewer: &Viewer, room: RoomNid) -> sqlx::Result<Option<Story>> {
        let evaluator = &self.0.parts.evaluator;
        let Some(room) = evaluator.rooms().find_by_nid(room).await? else {
            return Ok(None);
        };
        let mut conn = self.0.parts.pool.acquire().await?;
        let row = membership::find(&mut conn, viewer.user, room.nid).await?;
        drop(conn);
        let stands = row.filter(|row| row.membership == "invite" && row.event.is_none());
        let Some(stripped) = stands.and_then(|row| row.stripped) else {
            return Ok(None);
        };
        let state: Vec<&RawValue> = serde_json::from_str(&stripped).unwrap_or_default();
        let read = |json: &&RawValue| {
            let event: Stripped = serde_json::from_str(json.get()).ok()?;
            Some((event, (*json).to_owned()))
        };
        let state: Vec<(Stripped, Box<RawValue>)> = state.iter().filter_map(read).collect();
        let find = |kind: &str, key: &str| {
            let mut found = state.iter();
            found.find(|(event, _)| event.kind == kind && event.state_key == key)
        };
        let shown = |kind: &str, key: &str| {
            let (event, _) = find(kind, key)?;
            serde_json::from_str::<Shown>(event.content.get()).ok()
        };
        let Some((event, json)) = find("m.room.member", viewer.user_id.as_str()) else {
            return Ok(None);
        };
        let invite = OutsideInvite {
            sender: &event.sender,
            json,
        };
        let actions = evaluator.evaluate_outside(viewer, &room, &invite).await?;
        let sender = event.sender.as_str();
        Ok(actions.map(|actions| Story {
            event_id: None,
            room_id: room.id.to_string(),
            kind: event.kind.clone(),
            sender: event.sender.clone(),
            sender_name: shown("m.room.member", sender).and_then(|shown| shown.displayname),
            room_name: shown("m.room.name", "").and_then(|shown| shown.name),
            room_alias: shown("m.room.canonical_alias", "").and_then(|shown| shown.alias),
            is_target: true,
            content: event.content.clone(),
            actions,
        }))
    }
}

/// Up to where nothing is counted.
pub(super) const NOTHING_COUNTED: Position = Position(-1);
