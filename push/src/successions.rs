//! What users keep of a room when they move to the one that replaced it.
//!
//! Client-Server API, "Room upgrades": tags, direct chats and push rules go along.

use std::collections::BTreeMap;

use hearth_core::UserNid;
use hearth_journal::WriteError;
use hearth_rooms::{Room, Rooms};
use hearth_users::{
    AccountData, RoomTags,
    account_data::{GLOBAL, Key},
    tags::TagError,
};
use ruma::{
    OwnedRoomId, RoomId, UserId,
    push::{
        Action, NewConditionalPushRule, NewPushRule, NewSimplePushRule, PushCondition, RuleKind,
        Ruleset,
    },
};
use serde_json::{Value, value::RawValue};

use crate::rules::{ChangeRuleError, PushRules};

/// The type of the account data that lists direct chats.
const DIRECT: &str = "m.direct";

/// Takes users' own things along.
#[derive(Clone, Debug)]
pub struct Successions {
    rooms: Rooms,
    account_data: AccountData,
    tags: RoomTags,
    rules: PushRules,
}

/// Why something stayed behind.
#[derive(Debug, thiserror::Error)]
pub enum SuccessionError {
    /// The database failed.
    #[error("reading what a user has of a replaced room failed")]
    Storage(#[from] sqlx::Error),
    /// It could not be written.
    #[error("writing what a user has of a replaced room failed")]
    Write(#[from] WriteError),
    /// A tag was refused.
    #[error("a tag was refused")]
    Tag(#[from] TagError),
    /// A push rule was refused.
    #[error("a push rule was refused")]
    Rule(#[from] ChangeRuleError),
}

/// A push rule that goes along, and whether it is on.
struct Moved {
    rule: NewPushRule,
    is_enabled: bool,
}

impl Successions {
    /// Takes along what is in `account_data`.
    #[must_use]
    pub fn new(rooms: Rooms, account_data: AccountData) -> Self {
        Self {
            rooms,
            tags: RoomTags::new(account_data.clone()),
            rules: PushRules::new(account_data.clone()),
            account_data,
        }
    }

    /// Gives a user who came into a room what he has of the room that it replaced, if it replaced one. What he has of
    /// the new room already stays as it is.
    ///
    /// # Errors
    ///
    /// See [`SuccessionError`].
    pub async fn take_along(
        &self,
        user: UserNid,
        user_id: &UserId,
        room: &Room,
    ) -> Result<(), SuccessionError> {
        let Some(old_id) = self.rooms.predecessor(room).await? else {
            return Ok(());
        };
        let Some(old) = self.rooms.find(&old_id).await? else {
            return Ok(());
        };
        self.take_tags(user, &old, room).await?;
        self.take_direct(user, &old.id, &room.id).await?;
        self.take_rules(user, user_id, &old.id, &room.id).await
    }

    async fn take_tags(
        &self,
        user: UserNid,
        old: &Room,
        new: &Room,
    ) -> Result<(), SuccessionError> {
        if !self.tags.list(user, new.nid).await?.is_empty() {
            return Ok(());
        }
        for (name, info) in self.tags.list(user, old.nid).await? {
            self.tags.set(user, new.nid, name.as_ref(), &info).await?;
        }
        Ok(())
    }

    async fn take_direct(
        &self,
        user: UserNid,
        old: &RoomId,
        new: &RoomId,
    ) -> Result<(), SuccessionError> {
        let key = Key {
            user,
            room: GLOBAL,
            kind: DIRECT,
        };
        let content = self.account_data.find(key).await?;
        // A look before the update spares most users a transaction.
        if content.is_none_or(|content| !content.get().contains(old.as_str())) {
            return Ok(());
        }
        let change = |content: Option<&str>| {
            let content = content.and_then(|content| with_successor(content, old, new));
            Ok::<_, WriteError>(content)
        };
        Ok(self.account_data.update(key, change).await?)
    }

    async fn take_rules(
        &self,
        user: UserNid,
        user_id: &UserId,
        old: &RoomId,
        new: &RoomId,
    ) -> Result<(), SuccessionError> {
        let rules = self.rules.find(user, user_id).await?;
        for moved in moved(&rules, old, new) {
            let (kind, id) = (moved.rule.kind(), moved.rule.rule_id().to_owned());
            let whose = (user, user_id);
            self.rules.insert(whose, &moved.rule, None, None).await?;
            if !moved.is_enabled {
                self.rules.set_enabled(whose, kind, &id, false).await?;
            }
        }
        Ok(())
    }
}

/// The direct chats with the new room beside the old one; `None` when there is nothing to add.
fn with_successor(content: &str, old: &RoomId, new: &RoomId) -> Option<String> {
    let mut content: BTreeMap<String, Box<RawValue>> = serde_json::from_str(content).ok()?;
    let mut changed = false;
    for rooms in content.values_mut() {
        let Ok(mut list) = serde_json::from_str::<Vec<Value>>(rooms.get()) else {
            continue;
        };
        let has = |list: &[Value], id: &RoomId| list.iter().any(|room| room == id.as_str());
        if has(&list, old) && !has(&list, new) {
            list.push(new.as_str().into());
            *rooms = serde_json::value::to_raw_value(&list).ok()?;
            changed = true;
        }
    }
    changed
        .then(|| serde_json::to_string(&content).ok())
        .flatten()
}

/// The rules about the new room that are still missing: those about the old one, with the new one in its place.
fn moved(rules: &Ruleset, old: &RoomId, new: &RoomId) -> Vec<Moved> {
    let mut moved = Vec::new();
    for rule in &rules.room {
        if rule.rule_id == old && rules.get(RuleKind::Room, new.as_str()).is_none() {
            let id: OwnedRoomId = new.to_owned();
            let actions: Vec<Action> = rule.actions.clone();
            moved.push(Moved {
                rule: NewPushRule::Room(NewSimplePushRule::new(id, actions)),
                is_enabled: rule.enabled,
            });
        }
    }
    for rule in rules.override_.iter().filter(|rule| !rule.default) {
        let Some(conditions) = rule.conditions_for(old, new) else {
            continue;
        };
        let id = if rule.rule_id.contains(old.as_str()) {
            rule.rule_id.replace(old.as_str(), new.as_str())
        } else {
            format!("{}_{new}", rule.rule_id)
        };
        if rules.get(RuleKind::Override, id.as_str()).is_none() {
            let new = NewConditionalPushRule::new(id, conditions, rule.actions.clone());
            moved.push(Moved {
                rule: NewPushRule::Override(new),
                is_enabled: rule.enabled,
            });
        }
    }
    moved
}

/// A rule that may be about a room.
trait AboutRoom {
    /// Its conditions with the new room in place of the old one; `None` when it is not about the old one.
    fn conditions_for(&self, old: &RoomId, new: &RoomId) -> Option<Vec<PushCondition>>;
}

impl AboutRoom for ruma::push::ConditionalPushRule {
    fn conditions_for(&self, old: &RoomId, new: &RoomId) -> Option<Vec<PushCondition>> {
        let mut conditions = self.conditions.clone();
        let mut is_about = false;
        for condition in &mut conditions {
            if let PushCondition::EventMatch(condition) = condition
                && condition.key == "room_id"
                && condition.pattern == old.as_str()
            {
                new.as_str().clone_into(&mut condition.pattern);
                is_about = true;
            }
        }
        is_about.then_some(conditions)
    }
}

#[cfg(test)]
mod tests {
    use ruma::room_id;

    use super::*;

    #[test]
    fn a_direct_chat_stays_one() {
        let content = r#"{"@b:c.d":["!old:c.d"],"@e:c.d":["!x:c.d"]}"#;

        let new = with_successor(content, room_id!("!old:c.d"), room_id!("!new:c.d"));

        let expected = r#"{"@b:c.d":["!old:c.d","!new:c.d"],"@e:c.d":["!x:c.d"]}"#;
        assert_eq!(new.as_deref(), Some(expected));
        let again = with_successor(expected, room_id!("!old:c.d"), room_id!("!new:c.d"));
        assert_eq!(again, None);
    }

    #[test]
    fn rules_about_a_room_are_written_for_its_successor_once() {
        let (old, new) = (room_id!("!old:c.d"), room_id!("!new:c.d"));
        let mut rules = crate::defaults::ruleset(ruma::user_id!("@a:c.d"));
        let rule = NewSimplePushRule::new(old.to_owned(), vec![]);
        rules.insert(NewPushRule::Room(rule), None, None).unwrap();
        let condition =
            ruma::push::EventMatchConditionData::new("room_id".to_owned(), old.to_string());
        let rule = NewConditionalPushRule::new(
            old.to_string(),
            vec![PushCondition::EventMatch(condition)],
            vec![],
        );
        rules
            .insert(NewPushRule::Override(rule), None, None)
            .unwrap();

        let added = moved(&rules, old, new);

        let ids: Vec<_> = added.iter().map(|moved| moved.rule.rule_id()).collect();
        assert_eq!(ids, [new.as_str(), new.as_str()]);
        for moved in added {
            rules.insert(moved.rule, None, None).unwrap();
        }
        assert!(moved(&rules, old, new).is_empty());
    }
}
