//! Restricted rooms: who may join one because of a membership elsewhere, and which of our users vouches for it.
//!
//! Client-Server API, "Restricted rooms".

use std::collections::HashSet;

use hearth_store::{membership as membership_table, room_members};
use ruma::{
    OwnedRoomId, OwnedUserId, UserId,
    events::{StateEventType, room::member::MembershipState},
    room_version_rules::AuthorizationRules,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Rooms, error::SendError, room::Room, snapshot::Snapshot};

/// How many of a room's allow rules are looked at; a join rule may hold thousands.
const ALLOWED_ROOMS: usize = 256;

/// How many of our users in a room are asked for their power.
const CANDIDATES: i64 = 64;

/// Who may join a room, apart from bans and invites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRule {
    /// `public`, `invite`, `knock`, `restricted`, `knock_restricted`, … as it stands; `invite` when there is none.
    pub rule: String,
    /// The rooms whose members may join, when the rule and the room version know of such.
    pub allowed_rooms: Option<Vec<OwnedRoomId>>,
}

#[derive(Deserialize)]
struct Allow {
    #[serde(rename = "type")]
    kind: String,
    room_id: OwnedRoomId,
}

impl JoinRule {
    /// Reads the content of `m.room.join_rules` as leniently as the authorisation rules do.
    pub(crate) fn of(rules: &AuthorizationRules, content: &Map<String, Value>) -> Self {
        let Some(rule) = content.get("join_rule").and_then(Value::as_str) else {
            return Self::none();
        };
        let known = match rule {
            "restricted" => rules.restricted_join_rule,
            "knock_restricted" => rules.knock_restricted_join_rule,
            _ => false,
        };
        Self {
            rule: rule.to_owned(),
            allowed_rooms: known.then(|| allowed_rooms(content.get("allow"))),
        }
    }

    fn none() -> Self {
        Self {
            rule: "invite".to_owned(),
            allowed_rooms: None,
        }
    }

    /// Whether anybody may join.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.rule == "public"
    }

    /// Whether one may ask to be let in.
    #[must_use]
    pub fn allows_knocking(&self) -> bool {
        matches!(self.rule.as_str(), "knock" | "knock_restricted")
    }
}

fn allowed_rooms(allow: Option<&Value>) -> Vec<OwnedRoomId> {
    let entries = allow.and_then(Value::as_array).into_iter().flatten();
    entries
        .filter_map(|entry| Allow::deserialize(entry).ok())
        .filter(|entry| entry.kind == "m.room_membership")
        .map(|entry| entry.room_id)
        .take(ALLOWED_ROOMS)
        .collect()
}

impl Rooms {
    /// The join rule that a state sets.
    pub async fn join_rule(&self, room: &Room, snapshot: &Snapshot) -> sqlx::Result<JoinRule> {
        let event = self
            .state_event(snapshot, &StateEventType::RoomJoinRules, "")
            .await?;
        let content = event.and_then(|event| event.pdu.content_as().ok());
        let rules = &room.rules.authorization;
        Ok(content.map_or_else(JoinRule::none, |content| JoinRule::of(rules, &content)))
    }

    /// Whether `user` may join a restricted room because it is a member of a room that the join rule allows.
    ///
    /// Only rooms that this server is in count, for only of those does it know who is a member.
    pub async fn allowed_by_membership(
        &self,
        room: &Room,
        snapshot: &Snapshot,
        user: &UserId,
    ) -> sqlx::Result<bool> {
        let rule = self.join_rule(room, snapshot).await?;
        match rule.allowed_rooms {
            Some(allowed) => self.is_in_any(&allowed, user).await,
            None => Ok(false),
        }
    }

    /// Whether `user` is joined to one of `rooms` that this server is in.
    pub(crate) async fn is_in_any(
        &self,
        rooms: &[OwnedRoomId],
        user: &UserId,
    ) -> sqlx::Result<bool> {
        Ok(!self.joined_of(rooms, user).await?.is_empty())
    }

    /// Those of `rooms` that `user` is joined to and this server is in.
    pub(crate) async fn joined_of(
        &self,
        rooms: &[OwnedRoomId],
        user: &UserId,
    ) -> sqlx::Result<HashSet<OwnedRoomId>> {
        if rooms.is_empty() {
            return Ok(HashSet::new());
        }
        let user = self.interner().user(user).await?;
        let ids: Vec<&str> = rooms.iter().map(AsRef::as_ref).collect();
        let mut conn = self.pool().acquire().await?;
        let joined = membership_table::list_joined_of(&mut conn, user, &ids).await?;
        let joined: HashSet<String> = joined.into_iter().collect();
        let of_us = rooms.iter().filter(|id| joined.contains(id.as_str()));
        Ok(of_us.cloned().collect())
    }

    /// Whether this server is in all of `rooms`, and so knows who is in them.
    pub(crate) async fn are_resident(&self, rooms: &[OwnedRoomId]) -> sqlx::Result<bool> {
        let ids: Vec<&str> = rooms.iter().map(AsRef::as_ref).collect();
        let mut conn = self.pool().acquire().await?;
        let resident = room_members::list_resident_of(&mut conn, &ids).await?;
        Ok(ids
            .iter()
            .all(|id| resident.iter().any(|known| known == id)))
    }

    /// A user of ours whom a join by a restricted rule can name as `join_authorised_via_users_server`: joined, and with
    /// the power to invite. `None` when there is nobody like that.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub async fn authorising_user(
        &self,
        room: &Room,
        snapshot: &Snapshot,
    ) -> Result<Option<OwnedUserId>, SendError> {
        let powers = self.power(room, snapshot).await?;
        let server = &self.identity().server_name;
        let mut candidates: Vec<OwnedUserId> = powers.named().into_iter().collect();
        candidates.retain(|user| user.server_name() == server && powers.may_invite(user));
        candidates.sort_by_key(|user| std::cmp::Reverse(powers.of(user)));
        if let Some(user) = self.first_joined(snapshot, candidates).await? {
            return Ok(Some(user));
        }
        let mut conn = self.pool().acquire().await?;
        let locals = room_members::list_local_joined(&mut conn, room.nid, CANDIDATES).await?;
        drop(conn);
        let locals = locals.iter().filter_map(|id| UserId::parse(id).ok());
        let candidates = locals.filter(|user| powers.may_invite(user)).collect();
        Ok(self.first_joined(snapshot, candidates).await?)
    }

    /// The first of `users` that a state has as joined.
    async fn first_joined(
        &self,
        snapshot: &Snapshot,
        users: Vec<OwnedUserId>,
    ) -> sqlx::Result<Option<OwnedUserId>> {
        let keys = users
            .iter()
            .map(|user| (StateEventType::RoomMember, user.to_string()))
            .collect();
        let members = self.state_subset(snapshot, keys).await?;
        let joined = |user: &OwnedUserId| {
            members
                .get(&(StateEventType::RoomMember, user.to_string()))
                .is_some_and(|event| crate::membership_of(event) == MembershipState::Join)
        };
        Ok(users.into_iter().find(joined))
    }
}
