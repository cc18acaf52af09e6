//! What is told of a room without going in.

use std::collections::{HashMap, HashSet};

use hearth_core::{EventNid, SnapshotNid, StateKeyNid};
use hearth_store::{membership as membership_table, room_directory};
use ruma::{
    OwnedMxcUri, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomOrAliasId, RoomVersionId,
    UInt, UserId,
    events::{StateEventType, room::member::MembershipState},
    room::{JoinRuleSummary, RestrictedSummary, RoomSummary, RoomType},
};
use serde_json::{Map, Value};

use super::{AliasError, Directory, parse_room_id};
use crate::{restricted::JoinRule, snapshot::Snapshot, version};

/// The state that a summary is made of.
const TOLD: [StateEventType; 9] = [
    StateEventType::RoomCreate,
    StateEventType::RoomName,
    StateEventType::RoomTopic,
    StateEventType::RoomAvatar,
    StateEventType::RoomCanonicalAlias,
    StateEventType::RoomJoinRules,
    StateEventType::RoomHistoryVisibility,
    StateEventType::RoomGuestAccess,
    StateEventType::RoomEncryption,
];

/// A room that is to be summed up.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub room_id: OwnedRoomId,
    pub version: RoomVersionId,
    pub snapshot: SnapshotNid,
    pub joined: i64,
}

/// A room of ours as somebody finds it.
#[derive(Debug)]
pub(super) struct Found {
    pub summary: RoomSummary,
    pub snapshot: SnapshotNid,
    pub membership: MembershipState,
}

impl Subject {
    pub(super) fn new(
        room_id: &str,
        version: &str,
        snapshot: SnapshotNid,
        joined: i64,
    ) -> sqlx::Result<Self> {
        let version = RoomVersionId::try_from(version);
        Ok(Self {
            room_id: parse_room_id(room_id)?,
            version: version.map_err(|error| sqlx::Error::Decode(error.into()))?,
            snapshot,
            joined,
        })
    }
}

impl Directory {
    /// Sums a room up for somebody who may know of it, with his membership; `None` when there is no such room for him.
    ///
    /// Without a user only rooms are told of that anybody may join, knock at or read.
    ///
    /// # Errors
    ///
    /// When the room cannot be read, or an alias's server gives no answer.
    pub async fn summary(
        &self,
        room: &RoomOrAliasId,
        via: &[OwnedServerName],
        user: Option<&UserId>,
    ) -> Result<Option<(RoomSummary, MembershipState)>, AliasError> {
        let mut via = via.to_vec();
        let room_id = match <&RoomId>::try_from(room) {
            Ok(room_id) => room_id.to_owned(),
            Err(alias) => match self.resolve(alias).await {
                Ok(resolved) => {
                    via.extend(resolved.servers);
                    resolved.room_id
                }
                Err(AliasError::NotFound) => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let ids = [room_id.as_ref()];
        if let Some(found) = self.find_all(&ids, user).await?.remove(&room_id) {
            let known = [(&found.summary, &found.membership)];
            let visible = self.visible(&known, user).await?.contains(&room_id);
            return Ok(visible.then_some((found.summary, found.membership)));
        }
        via.retain(|server| !self.is_ours(server));
        let Some(space) = self.remote.space(&room_id, &via, false).await else {
            return Ok(None);
        };
        let membership = self.stored_membership(&room_id, user).await?;
        let summary = space.room.summary;
        let known = [(&summary, &membership)];
        let visible = self.visible(&known, user).await?.contains(&room_id);
        Ok(visible.then_some((summary, membership)))
    }

    /// The membership that is stored for a room whose state is not.
    pub(super) async fn stored_membership(
        &self,
        room_id: &RoomId,
        user: Option<&UserId>,
    ) -> sqlx::Result<MembershipState> {
        let (Some(user), Some(room)) = (user, self.rooms.find(room_id).await?) else {
            return Ok(MembershipState::Leave);
        };
        let user = self.rooms.interner().user(user).await?;
        let mut conn = self.rooms.pool().acquire().await?;
        let row = membership_table::find(&mut conn, user, room.nid).await?;
        Ok(row.map_or(MembershipState::Leave, |row| row.membership.as_str().into()))
    }

    /// Those of `room_ids` that this server is in, as `user` finds them.
    pub(super) async fn find_all(
        &self,
        room_ids: &[&RoomId],
        user: Option<&UserId>,
    ) -> sqlx::Result<HashMap<OwnedRoomId, Found>> {
        let user = match user {
            Some(user) => Some(self.rooms.interner().user(user).await?),
            None => None,
        };
        let ids: Vec<&str> = room_ids.iter().map(|id| id.as_str()).collect();
        let mut conn = self.rooms.pool().acquire().await?;
        let rows = room_directory::list_found(&mut conn, &ids, user).await?;
        drop(conn);
        let rows: Vec<_> = rows.into_iter().filter(|row| row.resident).collect();
        let subjects: Vec<Subject> = rows
            .iter()
            .map(|row| Subject::new(&row.room_id, &row.version, row.snapshot, row.joined))
            .collect::<sqlx::Result<_>>()?;
        let summaries = self.summaries(&subjects).await?;
        let found = rows.into_iter().zip(summaries).map(|(row, summary)| {
            let membership = row.membership.as_deref().unwrap_or("leave").into();
            let found = Found {
                snapshot: row.snapshot,
                membership,
                summary,
            };
            (found.summary.room_id.clone(), found)
        });
        Ok(found.collect())
    }

    /// Sums rooms up, in the order given.
    pub(super) async fn summaries(&self, subjects: &[Subject]) -> sqlx::Result<Vec<RoomSummary>> {
        let names = TOLD.map(|kind| kind.to_string());
        let names: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        let keys = self.rooms.interner().find_state_keys(&names).await?;
        let wanted: Vec<SnapshotNid> = subjects.iter().map(|subject| subject.snapshot).collect();
        let snapshots = self.rooms.snapshots().map(wanted).await?;
        let held = |snapshot: &Snapshot| held(snapshot, &keys);
        let states: Vec<Vec<Option<EventNid>>> = subjects
            .iter()
            .map(|subject| {
                snapshots
                    .get(&subject.snapshot)
                    .map_or_else(Vec::new, |snapshot| held(snapshot))
            })
            .collect();
        let nids: Vec<EventNid> = states.iter().flatten().copied().flatten().collect();
        let events = self.rooms.events().map(nids).await?;
        let content = |nid: &Option<EventNid>| {
            let event = events.get(nid.as_ref()?)?;
            event.pdu.content_as::<Map<String, Value>>().ok()
        };
        let summaries = subjects.iter().zip(&states).map(|(subject, state)| {
            let contents: Vec<_> = state.iter().map(content).collect();
            summary(subject, &Contents(&contents))
        });
        Ok(summaries.collect())
    }

    /// Those of the rooms that `user` may know of: he is in, may join, knock or read.
    pub(super) async fn visible(
        &self,
        rooms: &[(&RoomSummary, &MembershipState)],
        user: Option<&UserId>,
    ) -> sqlx::Result<HashSet<OwnedRoomId>> {
        let mut visible = HashSet::new();
        let mut restricted: Vec<&RoomSummary> = Vec::new();
        for (summary, membership) in rooms {
            match membership {
                MembershipState::Join | MembershipState::Invite => {}
                MembershipState::Ban => continue,
                _ if summary.world_readable || is_open(&summary.join_rule) => {}
                MembershipState::Knock | MembershipState::Leave | _ => {
                    restricted.push(summary);
                    continue;
                }
            }
            visible.insert(summary.room_id.clone());
        }
        let Some(user) = user else { return Ok(visible) };
        let allowed: Vec<OwnedRoomId> = restricted
            .iter()
            .flat_map(|summary| allowed(&summary.join_rule))
            .cloned()
            .collect();
        let joined = self.rooms.joined_of(&allowed, user).await?;
        for summary in restricted {
            if allowed_in(&summary.join_rule, &joined) {
                visible.insert(summary.room_id.clone());
            }
        }
        Ok(visible)
    }
}

fn held(snapshot: &Snapshot, keys: &[Option<StateKeyNid>]) -> Vec<Option<EventNid>> {
    let held = keys.iter().map(|key| snapshot.get((*key)?));
    held.collect()
}

/// Whether anybody may get in, or ask to be let in.
pub(super) fn is_open(rule: &JoinRuleSummary) -> bool {
    matches!(
        rule,
        JoinRuleSummary::Public | JoinRuleSummary::Knock | JoinRuleSummary::KnockRestricted(_)
    )
}

/// The rooms whose members may join.
pub(super) fn allowed(rule: &JoinRuleSummary) -> &[OwnedRoomId] {
    match rule {
        JoinRuleSummary::Restricted(restricted) | JoinRuleSummary::KnockRestricted(restricted) => {
            &restricted.allowed_room_ids
        }
        JoinRuleSummary::Invite
        | JoinRuleSummary::Knock
        | JoinRuleSummary::Private
        | JoinRuleSummary::Public
        | _ => &[],
    }
}

/// Whether who is joined to `joined` may join.
pub(super) fn allowed_in(rule: &JoinRuleSummary, joined: &HashSet<OwnedRoomId>) -> bool {
    allowed(rule).iter().any(|room| joined.contains(room))
}

/// The contents of the state that is [`TOLD`].
struct Contents<'a>(&'a [Option<Map<String, Value>>]);

impl Contents<'_> {
    /// A text that is not empty.
    fn text(&self, kind: &StateEventType, key: &str) -> Option<&str> {
        let index = TOLD.iter().position(|told| told == kind)?;
        let text = self.0.get(index)?.as_ref()?.get(key)?.as_str()?;
        (!text.is_empty()).then_some(text)
    }

    fn join_rule(&self, subject: &Subject) -> JoinRuleSummary {
        let index = TOLD
            .iter()
            .position(|told| *told == StateEventType::RoomJoinRules);
        let content = index.and_then(|index| self.0.get(index)?.as_ref());
        let rules = version::supported(&subject.version);
        let (Some(content), Some(rules)) = (content, rules) else {
            return JoinRuleSummary::Invite;
        };
        let rule = JoinRule::of(&rules.authorization, content);
        let allowed = RestrictedSummary::new(rule.allowed_rooms.unwrap_or_default());
        match rule.rule.as_str() {
            "public" => JoinRuleSummary::Public,
            "knock" if rules.authorization.knocking => JoinRuleSummary::Knock,
            "restricted" => JoinRuleSummary::Restricted(allowed),
            "knock_restricted" if rules.authorization.knock_restricted_join_rule => {
                JoinRuleSummary::KnockRestricted(allowed)
            }
            "private" => JoinRuleSummary::Private,
            _ => JoinRuleSummary::Invite,
        }
    }
}

fn summary(subject: &Subject, state: &Contents<'_>) -> RoomSummary {
    let says = |kind, key, value: &str| state.text(kind, key) == Some(value);
    let guests = says(&StateEventType::RoomGuestAccess, "guest_access", "can_join");
    let readable = says(
        &StateEventType::RoomHistoryVisibility,
        "history_visibility",
        "world_readable",
    );
    let text = |kind, key| state.text(kind, key).map(ToOwned::to_owned);
    let joined = UInt::try_from(subject.joined).unwrap_or_default();
    let mut summary = RoomSummary::new(
        subject.room_id.clone(),
        state.join_rule(subject),
        guests,
        joined,
        readable,
    );
    summary.name = text(&StateEventType::RoomName, "name");
    summary.topic = text(&StateEventType::RoomTopic, "topic");
    summary.avatar_url = text(&StateEventType::RoomAvatar, "url").map(OwnedMxcUri::from);
    summary.canonical_alias = state
        .text(&StateEventType::RoomCanonicalAlias, "alias")
        .and_then(|alias| RoomAliasId::parse(alias).ok());
    summary.room_type = state
        .text(&StateEventType::RoomCreate, "type")
        .map(RoomType::from);
    summary.encryption = state
        .text(&StateEventType::RoomEncryption, "algorithm")
        .map(Into::into);
    summary.room_version = Some(subject.version.clone());
    summary
}
