//! Who may do what in a room.

use std::collections::HashSet;

use ruma::{
    OwnedUserId, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::AuthorizationRules,
    state_res::events::{RoomCreateEvent, RoomPowerLevelsEvent, RoomPowerLevelsIntField},
};

use crate::{Rooms, error::SendError, event::RoomEvent, room::Room, snapshot::Snapshot};

/// The power that users have and that actions need, read as leniently as the authorisation rules read it.
#[derive(Debug)]
pub struct Powers {
    rules: AuthorizationRules,
    creators: HashSet<OwnedUserId>,
    levels: Option<RoomPowerLevelsEvent<std::sync::Arc<RoomEvent>>>,
}

impl Powers {
    /// The user's power level; creators since room version 12 have no limit.
    #[must_use]
    pub fn of(&self, user: &UserId) -> i64 {
        let creator = self.creators.contains(user);
        if creator && self.rules.explicitly_privilege_room_creators {
            return i64::MAX;
        }
        match &self.levels {
            Some(levels) => levels
                .user_power_level(user, &self.rules)
                .map_or(0, i64::from),
            None if creator => 100,
            None => 0,
        }
    }

    /// The users whose power has no limit: the creators since room version 12.
    pub fn unlimited(&self) -> impl Iterator<Item = &UserId> {
        let unlimited = self.rules.explicitly_privilege_room_creators;
        self.creators
            .iter()
            .filter(move |_| unlimited)
            .map(AsRef::as_ref)
    }

    /// The power that an action needs.
    #[must_use]
    pub fn needed_to(&self, action: RoomPowerLevelsIntField) -> i64 {
        let default = if self.levels.is_none() && action == RoomPowerLevelsIntField::StateDefault {
            0
        } else {
            i64::from(action.default_value())
        };
        let level = self
            .levels
            .as_ref()
            .and_then(|levels| levels.get_as_int_or_default(action, &self.rules).ok());
        level.map_or(default, i64::from)
    }

    /// The power that sending an event of this type needs.
    #[must_use]
    pub fn needed_for(&self, kind: &TimelineEventType, state_key: Option<&str>) -> i64 {
        let level = self
            .levels
            .as_ref()
            .and_then(|levels| levels.event_power_level(kind, state_key, &self.rules).ok());
        level.map_or(0, i64::from)
    }

    /// Whether the user may redact events of others.
    #[must_use]
    pub fn may_redact(&self, user: &UserId) -> bool {
        self.of(user) >= self.needed_to(RoomPowerLevelsIntField::Redact)
    }

    /// Whether the user may invite.
    #[must_use]
    pub fn may_invite(&self, user: &UserId) -> bool {
        self.of(user) >= self.needed_to(RoomPowerLevelsIntField::Invite)
    }

    /// Whether the user may send an event of this type.
    #[must_use]
    pub fn may_send(
        &self,
        user: &UserId,
        kind: &TimelineEventType,
        state_key: Option<&str>,
    ) -> bool {
        self.of(user) >= self.needed_for(kind, state_key)
    }

    /// The users whom the levels event names, and the creators.
    #[must_use]
    pub fn named(&self) -> HashSet<OwnedUserId> {
        let mut named = self.creators.clone();
        if let Some(Ok(Some(users))) = self.levels.as_ref().map(|levels| levels.users(&self.rules))
        {
            named.extend(users.keys().cloned());
        }
        named
    }
}

impl Rooms {
    /// Who may do what in a state of a room.
    pub async fn power(&self, room: &Room, snapshot: &Snapshot) -> Result<Powers, SendError> {
        let rules = room.rules.authorization.clone();
        let create = self
            .state_event(snapshot, &StateEventType::RoomCreate, "")
            .await?;
        let create = create.ok_or(SendError::UnknownRoom)?;
        let creators = RoomCreateEvent::new(create.as_ref())
            .creators(&rules)
            .map_err(SendError::BadEvent)?;
        let levels = self
            .state_event(snapshot, &StateEventType::RoomPowerLevels, "")
            .await?;
        Ok(Powers {
            rules,
            creators,
            levels: levels.map(RoomPowerLevelsEvent::new),
        })
    }
}
