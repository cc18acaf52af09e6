//! What the rules of a user say to an event.
//!
//! What depends on the event alone is made once and kept, so that the second user who asks pays for the rules only.

use std::{collections::HashMap, sync::Arc};

use hearth_core::{Position, RoomNid, UserNid};
use hearth_rooms::{Room, RoomEvent, Rooms};
use ruma::{
    OwnedEventId, OwnedUserId, UInt, UserId,
    events::{AnySyncTimelineEvent, StateEventType, TimelineEventType},
    push::{Action, FlattenedJson, PushConditionRoomCtx},
    serde::Raw,
};
use serde_json::value::RawValue;
use sqlx::PgPool;

use crate::{
    context::{Contexts, RoomContext},
    settings::{Settings, UserSettings},
};

/// For whom events are evaluated.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The user.
    pub user: UserNid,
    /// `@…`
    pub user_id: OwnedUserId,
}

/// What the rules say to an event that notifies.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What to do.
    pub actions: Vec<Action>,
    /// The thread that the event is in.
    pub thread: Option<OwnedEventId>,
}

impl Verdict {
    /// Whether the event is to stand out.
    #[must_use]
    pub fn highlights(&self) -> bool {
        self.actions.iter().any(Action::is_highlight)
    }
}

/// An invite to a room that this server is not in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutsideInvite<'a> {
    /// Who invites.
    pub sender: &'a UserId,
    /// The stripped member event.
    pub json: &'a RawValue,
}

/// After how many users others get a turn.
const BREATH: usize = 64;

/// Asks the rules of users.
#[derive(Clone, Debug)]
pub struct Evaluator {
    rooms: Rooms,
    settings: Settings,
    contexts: Contexts,
}

/// One user in one room, ready to be asked about its events.
#[derive(Debug)]
pub(crate) struct Asked {
    pub settings: Arc<UserSettings>,
    room: Arc<RoomContext>,
    user: PushConditionRoomCtx,
}

impl Evaluator {
    /// Asks `settings` about the events of `rooms`.
    #[must_use]
    pub fn new(rooms: Rooms, settings: Settings, pool: PgPool) -> Self {
        Self {
            contexts: Contexts::new(rooms.clone(), pool),
            rooms,
            settings,
        }
    }

    /// The rooms.
    pub(crate) fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the rules of a user, as of `position`, say to an event of a room; `None` when they do not notify.
    ///
    /// Whether the user may see the event is for the caller to know.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn evaluate(
        &self,
        viewer: &Viewer,
        room: &Room,
        event: &RoomEvent,
        position: Position,
    ) -> sqlx::Result<Option<Verdict>> {
        match self.ask(viewer, room, position).await? {
            Some(asked) => self.verdict(&asked, event).await,
            None => Ok(None),
        }
    }

    /// Which of these users, as of `position`, an event of a room notifies.
    ///
    /// Whether they may see it is for the caller to know.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub(crate) async fn notified(
        &self,
        viewers: &[Viewer],
        room: &Room,
        event: &RoomEvent,
        position: Position,
    ) -> sqlx::Result<Vec<UserNid>> {
        self.settings.prepare(viewers, position).await?;
        let Some(context) = self.contexts.room(room).await? else {
            return Ok(Vec::new());
        };
        let member = StateEventType::RoomMember.to_string();
        let names = viewers.iter().map(|viewer| viewer.user_id.as_str());
        let keys: Vec<(&str, &str)> = names.map(|name| (member.as_str(), name)).collect();
        let snapshots = [Arc::clone(&context.snapshot)];
        self.rooms.load_state(&snapshots, &keys).await?;
        let mut notified = Vec::new();
        for (index, viewer) in viewers.iter().enumerate() {
            let settings = self.settings.find(viewer.user, &viewer.user_id, position);
            let (settings, context) = (settings.await?, Arc::clone(&context));
            let asked = self.asked(viewer, room, settings, context).await?;
            if self.verdict(&asked, event).await?.is_some() {
                notified.push(viewer.user);
            }
            if index % BREATH == BREATH - 1 {
                tokio::task::yield_now().await;
            }
        }
        Ok(notified)
    }

    /// What the rules of a user say to an invite to a room that this server is not in; `None` when they do not notify.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub(crate) async fn evaluate_outside(
        &self,
        viewer: &Viewer,
        room: &Room,
        invite: &OutsideInvite<'_>,
    ) -> sqlx::Result<Option<Vec<Action>>> {
        let settings = self.settings.latest(viewer.user, &viewer.user_id).await?;
        if settings.blocks_invites || settings.ignored.contains(invite.sender) {
            return Ok(None);
        }
        let raw = Raw::<AnySyncTimelineEvent>::from_json(invite.json.to_owned());
        let user = PushConditionRoomCtx::new(
            room.id.clone(),
            UInt::MIN,
            viewer.user_id.clone(),
            viewer.user_id.localpart().to_owned(),
        );
        let flat = FlattenedJson::from_raw(&raw);
        for rule in &settings.rules {
            if rule.applies(&flat, &user).await {
                let notifies = rule.actions().iter().any(Action::should_notify);
                return Ok(notifies.then(|| rule.actions().to_vec()));
            }
        }
        Ok(None)
    }

    /// Prepares to ask about many events of a room; `None` when this server is not in it.
    pub(crate) async fn ask(
        &self,
        viewer: &Viewer,
        room: &Room,
        position: Position,
    ) -> sqlx::Result<Option<Asked>> {
        let settings = self
            .settings
            .find(viewer.user, &viewer.user_id, position)
            .await?;
        let Some(context) = self.contexts.room(room).await? else {
            return Ok(None);
        };
        self.asked(viewer, room, settings, context).await.map(Some)
    }

    /// Like [`Evaluator::ask`], of many rooms with a fixed number of statements.
    pub(crate) async fn ask_all(
        &self,
        viewer: &Viewer,
        rooms: &[Arc<Room>],
        position: Position,
    ) -> sqlx::Result<HashMap<RoomNid, Asked>> {
        let settings = self
            .settings
            .find(viewer.user, &viewer.user_id, position)
            .await?;
        let mut contexts = self.contexts.rooms(rooms, &viewer.user_id).await?;
        let mut all = HashMap::with_capacity(rooms.len());
        for room in rooms {
            if let Some(context) = contexts.remove(&room.nid) {
                let settings = Arc::clone(&settings);
                let asked = self.asked(viewer, room, settings, context).await?;
                all.insert(room.nid, asked);
            }
        }
        Ok(all)
    }

    async fn asked(
        &self,
        viewer: &Viewer,
        room: &Room,
        settings: Arc<UserSettings>,
        context: Arc<RoomContext>,
    ) -> sqlx::Result<Asked> {
        let name = self
            .contexts
            .display_name(&context, &viewer.user_id)
            .await?;
        let user = PushConditionRoomCtx::new(
            room.id.clone(),
            context.members,
            viewer.user_id.clone(),
            name,
        );
        Ok(Asked {
            settings,
            room: context,
            user,
        })
    }

    /// What the rules say to one event.
    pub(crate) async fn verdict(
        &self,
        asked: &Asked,
        event: &RoomEvent,
    ) -> sqlx::Result<Option<Verdict>> {
        let sender = &event.pdu.sender;
        if *sender == asked.user.user_id
            || !event.is_accepted()
            || event.redaction.is_some()
            || event.pdu.kind == TimelineEventType::RoomRedaction
            || asked.settings.ignored.contains(sender)
        {
            return Ok(None);
        }
        let prepared = self.contexts.event(&asked.room, event).await?;
        let mut context = asked.user.clone();
        if let Some(power) = &prepared.power {
            context = context.with_power_levels(power.clone());
        }
        for rule in &asked.settings.rules {
            if rule.applies(&prepared.json, &context).await {
                let notifies = rule.actions().iter().any(Action::should_notify);
                return Ok(notifies.then(|| Verdict {
                    actions: rule.actions().to_vec(),
                    thread: prepared.thread.clone(),
                }));
            }
        }
        Ok(None)
    }

    /// The thread that an event is in.
    pub(crate) async fn thread_of(
        &self,
        asked: &Asked,
        event: &RoomEvent,
    ) -> sqlx::Result<Option<OwnedEventId>> {
        let prepared = self.contexts.event(&asked.room, event).await?;
        Ok(prepared.thread.clone())
    }
}
