//! The rules that every user has from the start (specification, "Predefined Rules").

use ruma::{
    UserId,
    push::{
        Action, ConditionalPushRule, ConditionalPushRuleInit, EventMatchConditionData,
        HighlightTweakValue, PatternedPushRule, PatternedPushRuleInit, PushCondition, Ruleset,
        ScalarJsonValue, SenderNotificationPermissionConditionData, SoundTweakValue, Tweak,
    },
};

/// The server's rules for a user.
///
/// Beside those of the current specification these are the ones for events without `m.mentions`, which clients and
/// bridges of old send: they find names in the text, and do not apply to events that say whom they mention. The rules
/// for thread subscriptions are left out, since there are none.
pub(crate) fn ruleset(user_id: &UserId) -> Ruleset {
    let mut rules = Ruleset::server_default(user_id);
    rules.postcontent.clear();
    rules.content.insert(contains_user_name(user_id));
    rules.override_ = rules
        .override_
        .into_iter()
        .flat_map(|rule| {
            let legacy = match rule.rule_id.as_str() {
                ".m.rule.is_user_mention" => Some(contains_display_name()),
                ".m.rule.is_room_mention" => Some(room_notification()),
                _ => None,
            };
            [Some(rule), legacy]
        })
        .flatten()
        .map(with_patterns)
        .collect();
    rules.underride = rules.underride.into_iter().map(with_patterns).collect();
    rules
}

/// Rules for polls find their events by patterns, as clients and peers know these rules; `ruma` has comparisons in them.
fn with_patterns(mut rule: ConditionalPushRule) -> ConditionalPushRule {
    if rule.rule_id.starts_with(".org.matrix.msc3930.") {
        for condition in &mut rule.conditions {
            if let PushCondition::EventPropertyIs(compared) = condition
                && let ScalarJsonValue::String(kind) = &compared.value
            {
                let pattern = EventMatchConditionData::new(compared.key.clone(), kind.clone());
                *condition = PushCondition::EventMatch(pattern);
            }
        }
    }
    rule
}

fn contains_display_name() -> ConditionalPushRule {
    #[expect(
        deprecated,
        reason = "clients of old mention users by name, and servers still serve them"
    )]
    let condition = PushCondition::ContainsDisplayName;
    ConditionalPushRuleInit {
        actions: loud_highlight(),
        default: true,
        enabled: true,
        rule_id: ".m.rule.contains_display_name".to_owned(),
        conditions: vec![condition],
    }
    .into()
}

fn room_notification() -> ConditionalPushRule {
    let at_room = EventMatchConditionData::new("content.body".to_owned(), "@room".to_owned());
    let may = SenderNotificationPermissionConditionData::new("room".into());
    ConditionalPushRuleInit {
        actions: vec![
            Action::Notify,
            Action::SetTweak(Tweak::Highlight(HighlightTweakValue::Yes)),
        ],
        default: true,
        enabled: true,
        rule_id: ".m.rule.roomnotif".to_owned(),
        conditions: vec![
            PushCondition::EventMatch(at_room),
            PushCondition::SenderNotificationPermission(may),
        ],
    }
    .into()
}

fn contains_user_name(user_id: &UserId) -> PatternedPushRule {
    PatternedPushRuleInit {
        actions: loud_highlight(),
        default: true,
        enabled: true,
        rule_id: ".m.rule.contains_user_name".to_owned(),
        pattern: user_id.localpart().to_owned(),
    }
    .into()
}

fn loud_highlight() -> Vec<Action> {
    vec![
        Action::Notify,
        Action::SetTweak(Tweak::Sound(SoundTweakValue::Default)),
        Action::SetTweak(Tweak::Highlight(HighlightTweakValue::Yes)),
    ]
}

#[cfg(test)]
mod tests {
    use ruma::{push::RuleKind, user_id};

    use super::*;

    #[test]
    fn the_rules_of_old_stand_behind_those_that_replace_them() {
        let rules = ruleset(user_id!("@alice:example.org"));
        let ids: Vec<&str> = rules.override_.iter().map(|rule| &*rule.rule_id).collect();

        assert_eq!(
            &ids[..9],
            [
                ".m.rule.master",
                ".m.rule.suppress_notices",
                ".m.rule.invite_for_me",
                ".m.rule.member_event",
                ".m.rule.is_user_mention",
                ".m.rule.contains_display_name",
                ".m.rule.is_room_mention",
                ".m.rule.roomnotif",
                ".m.rule.tombstone",
            ]
        );
        assert!(
            rules
                .get(RuleKind::Content, ".m.rule.contains_user_name")
                .is_some()
        );
        assert!(rules.postcontent.is_empty());
    }
}
