//! The first events of a room.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedUserId,
    events::TimelineEventType as Kind, room_version_rules::RoomVersionRules,
};

use super::{Creation, Preset, Whose, object, topic_content};
use crate::{draft::Draft, membership::Member};

impl Creation {
    pub(super) fn create_event(
        &self,
        rules: &RoomVersionRules,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Draft {
        let mut content = self.creation_content.clone();
        content.insert("room_version".to_owned(), self.version.as_str().into());
        if rules.authorization.use_room_create_sender {
            content.remove("creator");
        } else {
            content.insert("creator".to_owned(), self.creator.user_id.as_str().into());
        }
        if rules.authorization.additional_room_creators && self.preset == Preset::TrustedPrivate {
            let mut creators: Vec<CanonicalJsonValue> = content
                .get("additional_creators")
                .and_then(CanonicalJsonValue::as_array)
                .map(ToOwned::to_owned)
                .unwrap_or_default();
            for invited in &self.invite {
                let id = CanonicalJsonValue::from(invited.user_id.as_str());
                if !creators.contains(&id) {
                    creators.push(id);
                }
            }
            if !creators.is_empty() {
                content.insert("additional_creators".to_owned(), creators.into());
            }
        }
        let mut draft = Draft::state(Kind::RoomCreate, "", content);
        draft.timestamp = Some(now);
        draft
    }

    /// The first events in the order of the specification.
    pub(super) fn drafts(
        &self,
        rules: &RoomVersionRules,
        create: Draft,
    ) -> Vec<(OwnedUserId, Draft)> {
        let mut drafts = vec![create, self.creator.join()];
        let given = |kind: &Kind| {
            self.initial_state
                .iter()
                .any(|draft| draft.kind == *kind && draft.state_key.as_deref() == Some(""))
        };
        if !given(&Kind::RoomPowerLevels) {
            drafts.push(Draft::state(
                Kind::RoomPowerLevels,
                "",
                self.power_levels(rules),
            ));
        }
        if let Some(alias) = &self.alias {
            let content = object([("alias", alias.as_str().into())]);
            drafts.push(Draft::state(Kind::RoomCanonicalAlias, "", content));
        }
        // Guests are kept out where no event lets them in, so a public room needs none.
        let (join_rule, guest_access) = match self.preset {
            Preset::Private | Preset::TrustedPrivate => ("invite", Some("can_join")),
            Preset::Public => ("public", None),
        };
        let preset = [
            (Kind::RoomJoinRules, "join_rule", Some(join_rule)),
            (
                Kind::RoomHistoryVisibility,
                "history_visibility",
                Some("shared"),
            ),
            (Kind::RoomGuestAccess, "guest_access", guest_access),
        ];
        for (kind, key, value) in preset {
            if let Some(value) = value.filter(|_| !given(&kind)) {
                drafts.push(Draft::state(kind, "", object([(key, value.into())])));
            }
        }
        let named = |draft: &&Draft| {
            !(self.name.is_some() && draft.kind == Kind::RoomName
                || self.topic.is_some() && draft.kind == Kind::RoomTopic)
        };
        drafts.extend(self.initial_state.iter().filter(named).cloned());
        if let Some(name) = &self.name {
            let content = object([("name", name.as_str().into())]);
            drafts.push(Draft::state(Kind::RoomName, "", content));
        }
        if let Some(topic) = &self.topic {
            drafts.push(Draft::state(Kind::RoomTopic, "", topic_content(topic)));
        }
        drafts.extend(self.invites(Whose::Ours));
        let creator = &self.creator.user_id;
        drafts
            .into_iter()
            .map(|draft| (creator.clone(), draft))
            .collect()
    }

    pub(super) fn invites(&self, whose: Whose) -> Vec<Draft> {
        let ours = self.creator.user_id.server_name();
        let wanted =
            |member: &&Member| (member.user_id.server_name() == ours) == (whose == Whose::Ours);
        let invited = self.invite.iter().filter(wanted);
        invited
            .map(|member| member.invite(self.is_direct, None))
            .collect()
    }

    fn power_levels(&self, rules: &RoomVersionRules) -> CanonicalJsonObject {
        let unlimited = rules.authorization.explicitly_privilege_room_creators;
        let mut users = CanonicalJsonObject::new();
        if !unlimited {
            users.insert(self.creator.user_id.to_string(), level(100));
            if self.preset == Preset::TrustedPrivate {
                users.extend(
                    self.invite
                        .iter()
                        .map(|member| (member.user_id.to_string(), level(100))),
                );
            }
        }
        let tombstone: i32 = if unlimited { 150 } else { 100 };
        let events = object([
            ("m.room.avatar", level(50)),
            ("m.room.canonical_alias", level(50)),
            ("m.room.encryption", level(100)),
            ("m.room.history_visibility", level(100)),
            ("m.room.name", level(50)),
            ("m.room.power_levels", level(100)),
            ("m.room.server_acl", level(100)),
            ("m.room.tombstone", level(tombstone)),
        ]);
        let invite: i32 = if self.preset == Preset::Public { 50 } else { 0 };
        let mut content = object([
            ("ban", level(50)),
            ("events", events.into()),
            ("events_default", level(0)),
            ("invite", level(invite)),
            ("kick", level(50)),
            ("notifications", object([("room", level(50))]).into()),
            ("redact", level(50)),
            ("state_default", level(50)),
            ("users", users.into()),
            ("users_default", level(0)),
        ]);
        content.extend(self.power_level_content_override.clone());
        content
    }
}

fn level(number: i32) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(number.into())
}
