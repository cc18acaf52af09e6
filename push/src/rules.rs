//! The push rules of users, as their clients read and change them (specification, "Push Rules: API").
//!
//! They are the account data `m.push_rules`, so that `/sync` shows every change. A user who never changed anything has
//! no such data, and the server's rules.

use hearth_core::UserNid;
use hearth_journal::WriteError;
use hearth_users::{
    AccountData,
    account_data::{GLOBAL, Key},
};
use ruma::{
    UserId,
    push::{
        Action, AnyPushRule, AnyPushRuleRef, InsertPushRuleError, NewPushRule, RemovePushRuleError,
        RuleKind, Ruleset,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::defaults;

/// The type of the account data.
pub(crate) const KIND: &str = "m.push_rules";

/// The kinds in the order in which they are checked.
const KINDS: [&str; 5] = ["override", "content", "room", "sender", "underride"];

/// The actions that are mere words; the last two are of old, and do nothing.
const ACTIONS: [&str; 3] = ["notify", "dont_notify", "coalesce"];

/// How many rules a user may add.
const MAX_RULES: usize = 2_000;

/// The largest rules, in bytes.
const MAX_SIZE: usize = 512 * 1024;

/// Why a rule is not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeRuleError {
    /// There is no such rule.
    #[error("there is no such push rule")]
    NotFound,
    /// The rule, its name or its place is not allowed.
    #[error("{0}")]
    Invalid(&'static str),
    /// The rule that it should stand before or after is not there.
    #[error("the rule to stand before or after was not found")]
    UnknownNeighbour,
    /// There are too many rules, or they are too large.
    #[error("there are too many push rules")]
    TooMany,
    /// It could not be written.
    #[error("changing push rules failed")]
    Write(#[from] WriteError),
}

impl From<InsertPushRuleError> for ChangeRuleError {
    fn from(error: InsertPushRuleError) -> Self {
        match error {
            InsertPushRuleError::ServerDefaultRuleId => {
                Self::Invalid("names that begin with a dot are the server's")
            }
            InsertPushRuleError::RelativeToServerDefaultRule => {
                Self::Invalid("a rule cannot stand before or after one of the server's")
            }
            InsertPushRuleError::UnknownRuleId => Self::UnknownNeighbour,
            InsertPushRuleError::BeforeHigherThanAfter => {
                Self::Invalid("the rule to stand before comes ahead of the one to stand after")
            }
            InsertPushRuleError::InvalidRuleId => {
                Self::Invalid("the name of a rule has no slashes")
            }
            _ => Self::Invalid("this rule is not allowed"),
        }
    }
}

impl From<RemovePushRuleError> for ChangeRuleError {
    fn from(error: RemovePushRuleError) -> Self {
        if matches!(error, RemovePushRuleError::ServerDefault) {
            return Self::Invalid("the server's rules cannot be removed");
        }
        Self::NotFound
    }
}

#[derive(Deserialize)]
struct Content {
    global: Ruleset,
}

/// The push rules of this server's users.
#[derive(Clone, Debug)]
pub struct PushRules(AccountData);

impl PushRules {
    /// Rules that are kept in `account_data`.
    #[must_use]
    pub fn new(account_data: AccountData) -> Self {
        Self(account_data)
    }

    /// Returns a user's rules, the server's among them.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find(&self, user: UserNid, user_id: &UserId) -> sqlx::Result<Ruleset> {
        let content = self.0.find(key(user)).await?;
        Ok(read(user_id, content.as_ref().map(|content| content.get())))
    }

    /// Returns one rule.
    ///
    /// # Errors
    ///
    /// [`ChangeRuleError::NotFound`].
    pub async fn find_rule(
        &self,
        (user, user_id): (UserNid, &UserId),
        kind: RuleKind,
        rule_id: &str,
    ) -> Result<AnyPushRule, ChangeRuleError> {
        let rules = self.find(user, user_id).await.map_err(WriteError::from)?;
        let rule = rules.get(kind, rule_id).ok_or(ChangeRuleError::NotFound)?;
        Ok(rule.to_owned())
    }

    /// Adds a rule, or replaces one of the same kind and name.
    ///
    /// # Errors
    ///
    /// [`ChangeRuleError::Invalid`], [`ChangeRuleError::UnknownNeighbour`], [`ChangeRuleError::TooMany`].
    pub async fn insert(
        &self,
        (user, user_id): (UserNid, &UserId),
        rule: &NewPushRule,
        after: Option<&str>,
        before: Option<&str>,
    ) -> Result<(), ChangeRuleError> {
        self.change(user, user_id, |rules| {
            place(rules, rule, after, before)?;
            let own = rules.iter().filter(|rule| !rule.is_server_default());
            if own.count() > MAX_RULES {
                return Err(ChangeRuleError::TooMany);
            }
            Ok(())
        })
        .await
    }

    /// Removes a rule that the user added.
    ///
    /// # Errors
    ///
    /// [`ChangeRuleError::NotFound`], [`ChangeRuleError::Invalid`].
    pub async fn remove(
        &self,
        (user, user_id): (UserNid, &UserId),
        kind: RuleKind,
        rule_id: &str,
    ) -> Result<(), ChangeRuleError> {
        self.change(user, user_id, |rules| {
            Ok(rules.remove(kind.clone(), rule_id)?)
        })
        .await
    }

    /// Switches a rule on or off.
    ///
    /// # Errors
    ///
    /// [`ChangeRuleError::NotFound`].
    pub async fn set_enabled(
        &self,
        (user, user_id): (UserNid, &UserId),
        kind: RuleKind,
        rule_id: &str,
        enabled: bool,
    ) -> Result<(), ChangeRuleError> {
        self.change(user, user_id, |rules| {
            rules
                .set_enabled(kind.clone(), rule_id, enabled)
                .map_err(|_| ChangeRuleError::NotFound)
        })
        .await
    }

    /// Changes what happens when a rule applies.
    ///
    /// # Errors
    ///
    /// [`ChangeRuleError::NotFound`].
    pub async fn set_actions(
        &self,
        (user, user_id): (UserNid, &UserId),
        kind: RuleKind,
        rule_id: &str,
        actions: &[Action],
    ) -> Result<(), ChangeRuleError> {
        refuse_unknown(actions)?;
        self.change(user, user_id, |rules| {
            rules
                .set_actions(kind.clone(), rule_id, actions.to_vec())
                .map_err(|_| ChangeRuleError::NotFound)
        })
        .await
    }

    async fn change(
        &self,
        user: UserNid,
        user_id: &UserId,
        change: impl Fn(&mut Ruleset) -> Result<(), ChangeRuleError> + Sync,
    ) -> Result<(), ChangeRuleError> {
        let changed = |content: Option<&str>| {
            let mut rules = read(user_id, content);
            change(&mut rules)?;
            let content = content_of(&rules).to_string();
            if content.len() > MAX_SIZE {
                return Err(ChangeRuleError::TooMany);
            }
            Ok(Some(content))
        };
        self.0.update(key(user), changed).await
    }
}

fn actions(rule: &NewPushRule) -> &[Action] {
    match rule {
        NewPushRule::Override(rule)
        | NewPushRule::PostContent(rule)
        | NewPushRule::Underride(rule) => &rule.actions,
        NewPushRule::Content(rule) => &rule.actions,
        NewPushRule::Room(rule) => &rule.actions,
        NewPushRule::Sender(rule) => &rule.actions,
        _ => &[],
    }
}

/// Refuses actions whose name means nothing.
fn refuse_unknown(actions: &[Action]) -> Result<(), ChangeRuleError> {
    let is_known = |action: &Action| match serde_json::to_value(action) {
        Ok(Value::String(name)) => ACTIONS.contains(&name.as_str()),
        Ok(_) | Err(_) => true,
    };
    if actions.iter().all(is_known) {
        Ok(())
    } else {
        Err(ChangeRuleError::Invalid("there is no such action"))
    }
}

/// Puts a rule where it shall stand.
///
/// One that is there already and moves is taken out first, or it would be counted among those that it passes.
fn place(
    rules: &mut Ruleset,
    rule: &NewPushRule,
    after: Option<&str>,
    before: Option<&str>,
) -> Result<(), ChangeRuleError> {
    refuse_unknown(actions(rule))?;
    let (kind, id) = (rule.kind(), rule.rule_id());
    // A rule is no neighbour of itself.
    if [after, before]
        .into_iter()
        .flatten()
        .any(|other| other == id)
    {
        return Err(ChangeRuleError::UnknownNeighbour);
    }
    let known = rules.get(kind.clone(), id).map(AnyPushRuleRef::enabled);
    let moves = after.is_some() || before.is_some();
    let (true, Some(enabled)) = (moves, known) else {
        return Ok(rules.insert(rule.clone(), after, before)?);
    };
    rules.remove(kind.clone(), id)?;
    rules.insert(rule.clone(), after, before)?;
    rules
        .set_enabled(kind, id, enabled)
        .map_err(|_| ChangeRuleError::NotFound)
}

fn key(user: UserNid) -> Key<'static> {
    Key {
        user,
        room: GLOBAL,
        kind: KIND,
    }
}

/// The rules that account data holds, with the server's as this version has them.
pub(crate) fn read(user_id: &UserId, content: Option<&str>) -> Ruleset {
    let defaults = defaults::ruleset(user_id);
    let stored = content.and_then(|content| serde_json::from_str::<Content>(content).ok());
    let Some(Content { mut global }) = stored else {
        return defaults;
    };
    global.postcontent.clear();
    global.update_with_server_default(defaults);
    global
}

/// Rules as clients get them: every kind is there, empty ones too.
#[must_use]
pub fn ruleset_json(rules: &Ruleset) -> Value {
    let mut json = json!(rules);
    if let Some(object) = json.as_object_mut() {
        for kind in KINDS {
            object.entry(kind).or_insert_with(|| json!([]));
        }
    }
    json
}

/// The content of `m.push_rules`.
#[must_use]
pub fn content_of(rules: &Ruleset) -> Value {
    json!({ "global": ruleset_json(rules) })
}

#[cfg(test)]
mod tests {
    use ruma::{push::NewSimplePushRule, user_id};

    use super::*;

    #[test]
    fn every_kind_is_there() {
        let json = content_of(&read(user_id!("@alice:example.org"), None));

        for kind in KINDS {
            assert!(json["global"][kind].is_array(), "{kind}");
        }
    }

    #[test]
    fn a_rule_moves_to_any_place() {
        let mut rules = Ruleset::new();
        let rule = |id: &str| {
            let id = UserId::parse(format!("@{id}:example.org")).unwrap();
            NewPushRule::Sender(NewSimplePushRule::new(id, Vec::new()))
        };
        let order = |rules: &Ruleset| {
            let ids = rules.sender.iter().map(|rule| rule.rule_id.localpart());
            ids.collect::<String>()
        };
        for id in ["c", "b", "a"] {
            place(&mut rules, &rule(id), None, None).unwrap();
        }
        assert_eq!(order(&rules), "abc");
        rules
            .set_enabled(RuleKind::Sender, "@a:example.org", false)
            .unwrap();

        place(&mut rules, &rule("a"), Some("@c:example.org"), None).unwrap();
        assert_eq!(order(&rules), "bca");
        place(&mut rules, &rule("b"), None, Some("@a:example.org")).unwrap();
        assert_eq!(order(&rules), "cba");
        assert!(!rules.sender.get("@a:example.org").unwrap().enabled);
        assert!(place(&mut rules, &rule("a"), Some("@a:example.org"), None).is_err());
    }

    #[test]
    fn the_actions_of_old_are_given_back() {
        let alice = user_id!("@alice:example.org");
        let mut rules = read(alice, None);
        let actions: Vec<Action> = serde_json::from_value(json!(["dont_notify"])).unwrap();
        let rule = NewPushRule::Sender(NewSimplePushRule::new(alice.to_owned(), actions));
        rules.insert(rule, None, None).unwrap();

        let content = content_of(&rules).to_string();
        let json = content_of(&read(alice, Some(&content)));

        assert_eq!(json["global"]["sender"][0]["actions"][0], "dont_notify");
    }

    #[test]
    fn what_a_user_changed_of_the_servers_rules_is_kept() {
        let alice = user_id!("@alice:example.org");
        let mut rules = read(alice, None);
        rules
            .set_enabled(RuleKind::Override, ".m.rule.master", true)
            .unwrap();

        let content = content_of(&rules).to_string();
        let rules = read(alice, Some(&content));

        assert!(
            rules
                .get(RuleKind::Override, ".m.rule.master")
                .unwrap()
                .enabled()
        );
    }
}
