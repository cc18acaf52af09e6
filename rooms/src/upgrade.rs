//! Replacing a room by one of another version.
//!
//! Client-Server API, "Room upgrades".

use hearth_store::{room as room_table, room_alias};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomId, OwnedUserId, RoomVersionId, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
};

use crate::{
    CreateError, Creation, Draft, Member, Powers, Preset, Rooms, SendError, create::object,
    event::RoomEvent, membership_of, room::Room, snapshot::Snapshot, version,
};

/// The state that moves to the new room, besides bans and the children of a space. The power levels come last: before
/// they stand, the creator may set everything else.
const MOVED: [&str; 9] = [
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
    "m.room.canonical_alias",
];

/// The power that speaking and inviting need in a room that was replaced, at the least.
const QUIET: i64 = 50;

/// What the new room is to be like.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// Who replaces the room, with the profile that the new room shows.
    pub creator: Member,
    /// The version of the new room.
    pub version: RoomVersionId,
    /// Who is a creator of the new room as well, in versions that know of such.
    pub additional_creators: Vec<OwnedUserId>,
}

/// Why a room is not replaced.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The user is not in the room, or lacks the power to.
    #[error("you cannot upgrade this room")]
    Forbidden,
    /// The new room was not made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The old room was not read or closed.
    #[error(transparent)]
    Event(#[from] SendError),
}

impl From<sqlx::Error> for UpgradeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Event(SendError::Storage(error))
    }
}

impl Rooms {
    /// Makes a room that replaces `old`, moves what can be moved, and closes `old`.
    ///
    /// # Errors
    ///
    /// See [`UpgradeError`].
    pub async fn upgrade(&self, old: &Room, upgrade: Upgrade) -> Result<OwnedRoomId, UpgradeError> {
        let rules = version::supported(&upgrade.version);
        let rules = rules.ok_or(CreateError::UnsupportedVersion)?;
        let user = upgrade.creator.user_id.clone();
        let current = self.current(old).await?.ok_or(UpgradeError::Forbidden)?;
        let snapshot = &current.snapshot;
        let powers = self.power(old, snapshot).await?;
        let tombstone = TimelineEventType::RoomTombstone;
        if self.membership(snapshot, &user).await? != MembershipState::Join
            || !powers.may_send(&user, &tombstone, Some(""))
        {
            return Err(UpgradeError::Forbidden);
        }
        let creation = self.successor(old, snapshot, upgrade, &rules).await?;
        let new_id = self.create_whole(&creation).await?;
        let new = self.find(&new_id).await?.ok_or(SendError::UnknownRoom)?;
        let content = object([
            ("body", "This room has been replaced".into()),
            ("replacement_room", new_id.as_str().into()),
        ]);
        let draft = Draft::state(tombstone, "", content);
        self.close(old, &user, draft, &powers).await?;
        self.move_names(old, &new, creation.published).await?;
        Ok(new_id)
    }

    /// Moves the aliases, and the place in the directory.
    async fn move_names(&self, old: &Room, new: &Room, published: bool) -> sqlx::Result<()> {
        let mut tx = self.pool().begin().await?;
        if published {
            room_table::update_published(&mut tx, old.nid, false).await?;
        }
        room_alias::update_room(&mut tx, old.nid, new.nid).await?;
        tx.commit().await
    }

    /// What the new room is made of.
    async fn successor(
        &self,
        old: &Room,
        snapshot: &Snapshot,
        upgrade: Upgrade,
        rules: &RoomVersionRules,
    ) -> Result<Creation, UpgradeError> {
        let mut conn = self.pool().acquire().await?;
        let row = room_table::find(&mut conn, old.nid).await?;
        drop(conn);
        let row = row.ok_or(SendError::UnknownRoom)?;
        let published = row.published;
        let head = self.head_of(row).await?;
        let newest = head.extremities.iter().max_by_key(|event| event.depth);
        let events = self.state_events(snapshot).await?;
        let create = find(&events, &StateEventType::RoomCreate);
        let create = create.ok_or(SendError::UnknownRoom)?;

        let mut predecessor = object([("room_id", old.id.as_str().into())]);
        let knows_events = !rules.authorization.room_create_event_id_as_room_id;
        if let Some(newest) = newest.filter(|_| knows_events) {
            predecessor.insert("event_id".to_owned(), newest.event_id.as_str().into());
        }
        let mut content = object([("predecessor", predecessor.into())]);
        for key in ["type", "m.federate"] {
            if let Some(value) = create.get(key) {
                content.insert(key.to_owned(), value.clone());
            }
        }
        let mut creators = vec![upgrade.creator.user_id.clone()];
        if rules.authorization.additional_room_creators {
            let mut others = upgrade.additional_creators;
            others.retain(|user| *user != upgrade.creator.user_id);
            others.sort();
            others.dedup();
            if !others.is_empty() {
                let ids = others.iter().map(|user| user.as_str().into());
                let ids = CanonicalJsonValue::Array(ids.collect());
                content.insert("additional_creators".to_owned(), ids);
            }
            creators.extend(others);
        }
        let powers = self.power(old, snapshot).await?;
        Ok(Creation {
            creator: upgrade.creator,
            version: upgrade.version,
            preset: Preset::Private,
            published,
            creation_content: content,
            power_level_content_override: CanonicalJsonObject::new(),
            initial_state: moved_state(&events, &creators, &powers, rules),
            name: None,
            topic: None,
            alias: None,
            invite: Vec::new(),
            is_direct: false,
        })
    }

    /// Says that a room was replaced, and lets only moderators speak and invite in it if the user may say so: both as one
    /// unit.
    async fn close(
        &self,
        old: &Room,
        user: &UserId,
        tombstone: Draft,
        powers: &Powers,
    ) -> Result<(), SendError> {
        if let Some(levels) = self.silence(old, user, powers).await? {
            let drafts = vec![(user, tombstone.clone()), (user, levels)];
            match self.send_all(old, drafts, None).await {
                Err(SendError::Forbidden(reason)) => {
                    tracing::info!(room_id = %old.id, reason, "a replaced room goes on as it is");
                }
                outcome => return outcome.map(|_| ()),
            }
        }
        self.send(old, user, tombstone).await.map(|_| ())
    }

    /// The power levels with which only moderators speak and invite, if the user may set them and they are not so already.
    async fn silence(
        &self,
        old: &Room,
        user: &UserId,
        powers: &Powers,
    ) -> Result<Option<Draft>, SendError> {
        let Some(current) = self.current(old).await? else {
            return Ok(None);
        };
        let kind = StateEventType::RoomPowerLevels;
        let event = self.state_event(&current.snapshot, &kind, "").await?;
        let Some(event) = event else { return Ok(None) };
        if !powers.may_send(user, &TimelineEventType::RoomPowerLevels, Some("")) {
            return Ok(None);
        }
        let content = silent(event.pdu.content_as()?);
        Ok(content.map(|content| Draft::state(TimelineEventType::RoomPowerLevels, "", content)))
    }

    /// The room that a room replaced, as its create event says.
    pub async fn predecessor(&self, room: &Room) -> sqlx::Result<Option<OwnedRoomId>> {
        let Some(current) = self.current(room).await? else {
            return Ok(None);
        };
        let kind = StateEventType::RoomCreate;
        let event = self.state_event(&current.snapshot, &kind, "").await?;
        let content: Option<serde_json::Value> =
            event.and_then(|event| event.pdu.content_as().ok());
        let id = content.as_ref().and_then(|content| {
            let id = content.get("predecessor")?.get("room_id")?.as_str()?;
            ruma::RoomId::parse(id).ok()
        });
        Ok(id)
    }
}

/// The content of the state event of this type with the empty key.
fn find(
    events: &[std::sync::Arc<RoomEvent>],
    kind: &StateEventType,
) -> Option<CanonicalJsonObject> {
    let kind = TimelineEventType::from(kind.to_string());
    let event = events.iter().find(|event| event.pdu.is_state(&kind))?;
    event.pdu.content_as().ok()
}

/// The state of the old room that the new one starts with.
fn moved_state(
    events: &[std::sync::Arc<RoomEvent>],
    creators: &[OwnedUserId],
    powers: &Powers,
    rules: &RoomVersionRules,
) -> Vec<Draft> {
    let mut moved = Vec::new();
    for kind in MOVED {
        let Some(mut content) = find(events, &kind.into()) else {
            continue;
        };
        if kind == "m.room.join_rules" {
            content = joinable(content, rules);
        }
        if !content.is_empty() {
            moved.push(Draft::state(kind, "", content));
        }
    }
    // Without a word on guests they are kept out.
    if find(events, &StateEventType::RoomGuestAccess).is_none() {
        let content = object([("guest_access", "forbidden".into())]);
        moved.push(Draft::state("m.room.guest_access", "", content));
    }
    for event in events {
        let key = event.pdu.state_key.as_deref().unwrap_or_default();
        let is_ban = event.pdu.kind == TimelineEventType::RoomMember
            && membership_of(event) == MembershipState::Ban
            && !creators.iter().any(|creator| creator == key);
        let content = if is_ban {
            ban(event)
        } else if event.pdu.kind == TimelineEventType::SpaceChild {
            event.pdu.content_as().ok()
        } else {
            None
        };
        if let Some(content) = content.filter(|content| !content.is_empty()) {
            moved.push(Draft::state(event.pdu.kind.clone(), key, content));
        }
    }
    if let Some(content) = find(events, &StateEventType::RoomPowerLevels) {
        let content = levels(content, creators, powers, rules);
        moved.push(Draft::state("m.room.power_levels", "", content));
    }
    moved
}

/// A ban with its reason and nothing else.
fn ban(event: &RoomEvent) -> Option<CanonicalJsonObject> {
    let mut content: CanonicalJsonObject = event.pdu.content_as().ok()?;
    content.retain(|key, _| matches!(key.as_str(), "membership" | "reason"));
    Some(content)
}

/// A join rule that the new version knows.
fn joinable(content: CanonicalJsonObject, rules: &RoomVersionRules) -> CanonicalJsonObject {
    let rules = &rules.authorization;
    let is_known = match content.get("join_rule").and_then(|rule| rule.as_str()) {
        Some("knock") => rules.knocking,
        Some("restricted") => rules.restricted_join_rule,
        Some("knock_restricted") => rules.knock_restricted_join_rule,
        _ => true,
    };
    if is_known {
        content
    } else {
        object([("join_rule", "invite".into())])
    }
}

/// Power levels as the new version wants them.
fn levels(
    mut content: CanonicalJsonObject,
    creators: &[OwnedUserId],
    powers: &Powers,
    rules: &RoomVersionRules,
) -> CanonicalJsonObject {
    let rules = &rules.authorization;
    if rules.integer_power_levels {
        content.values_mut().for_each(whole);
    }
    let users = content.entry("users".to_owned());
    let users = users.or_insert_with(|| CanonicalJsonObject::new().into());
    let CanonicalJsonValue::Object(users) = users else {
        return content;
    };
    if rules.explicitly_privilege_room_creators {
        users.retain(|user, _| !creators.iter().any(|creator| creator == user));
    } else {
        // Who was above all levels as a creator needs one now.
        for user in powers.named() {
            if powers.of(&user) == i64::MAX {
                users.insert(user.to_string(), number(100));
            }
        }
    }
    content
}

/// Makes numbers of levels that are written as text, also one level down.
fn whole(value: &mut CanonicalJsonValue) {
    match value {
        CanonicalJsonValue::String(text) => {
            if let Ok(level) = text.trim().parse() {
                *value = number(level);
            }
        }
        CanonicalJsonValue::Object(levels) => levels.values_mut().for_each(whole),
        CanonicalJsonValue::Null
        | CanonicalJsonValue::Bool(_)
        | CanonicalJsonValue::Integer(_)
        | CanonicalJsonValue::Array(_) => {}
    }
}

/// Power levels with which only moderators speak and invite; `None` when it is so already.
fn silent(mut content: CanonicalJsonObject) -> Option<CanonicalJsonObject> {
    let level = |content: &CanonicalJsonObject, key: &str| match content.get(key) {
        Some(CanonicalJsonValue::Integer(level)) => Some(i64::from(*level)),
        Some(CanonicalJsonValue::String(level)) => level.trim().parse().ok(),
        _ => None,
    };
    let everyone = level(&content, "users_default").unwrap_or(0);
    let least = everyone.saturating_add(1).max(QUIET);
    let mut changed = false;
    for key in ["events_default", "invite"] {
        if level(&content, key).unwrap_or(0) < least {
            content.insert(key.to_owned(), number(least));
            changed = true;
        }
    }
    changed.then_some(content)
}

fn number(level: i64) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(ruma::Int::new_saturating(level))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn content(value: serde_json::Value) -> CanonicalJsonObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_replaced_room_is_silenced_above_its_default_level() {
        let levels = silent(content(json!({ "users_default": 60, "invite": 80 })));

        let expected = json!({ "users_default": 60, "invite": 80, "events_default": 61 });
        assert_eq!(levels, Some(content(expected)));
    }

    #[test]
    fn a_silent_room_is_left_as_it_is() {
        assert_eq!(
            silent(content(json!({ "events_default": 50, "invite": 100 }))),
            None
        );
    }

    #[test]
    fn levels_written_as_text_become_numbers() {
        let mut value =
            CanonicalJsonValue::Object(content(json!({ "a": " 50", "b": { "c": "7" } })));

        whole(&mut value);

        let whole = CanonicalJsonValue::Object(content(json!({ "a": 50, "b": { "c": 7 } })));
        assert_eq!(value, whole);
    }

    #[test]
    fn a_join_rule_that_the_version_does_not_know_becomes_invite() {
        let rule = content(json!({ "join_rule": "restricted", "allow": [] }));

        let kept = joinable(rule.clone(), &RoomVersionRules::V8);
        let replaced = joinable(rule.clone(), &RoomVersionRules::V7);

        assert_eq!(kept, rule);
        assert_eq!(replaced, content(json!({ "join_rule": "invite" })));
    }
}
