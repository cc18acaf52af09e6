//! Joining, leaving, inviting, kicking, banning, knocking, forgetting.

use hearth_store::{membership as membership_table, write::MembershipRow};
use ruma::{
    CanonicalJsonObject, OwnedUserId, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};

use crate::{
    Rooms, create::object, draft::Draft, error::SendError, residents::ResidentError, room::Room,
};

/// The keys of a member event that rules read: only this server sets them.
const RULED_KEYS: [&str; 3] = [
    "membership",
    "join_authorised_via_users_server",
    "third_party_invite",
];

/// A user with the profile that member events show.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who.
    pub user_id: OwnedUserId,
    /// The display name, if it is known.
    pub display_name: Option<String>,
    /// The avatar, if it is known.
    pub avatar_url: Option<String>,
    /// More keys that the user wants in the event; they win over the profile.
    pub more: CanonicalJsonObject,
}

/// Why a user cannot forget a room, or another membership is not changed.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// Whoever is in a room cannot forget it.
    #[error("leave the room before you forget it")]
    StillIn,
    /// The user was never in the room.
    #[error("the user is not in this room")]
    NeverIn,
    /// What was asked for does not fit the user's membership.
    #[error("{0}")]
    Unfit(&'static str),
    /// The servers that could help gave no help.
    #[error(transparent)]
    Elsewhere(#[from] ResidentError),
    /// This server is not in the room, and no server is known that is.
    #[error("no server is known that is in the room")]
    NoServer,
    /// The room does not admit guests.
    #[error("this room does not admit guests")]
    GuestsForbidden,
    /// The member event was not sent.
    #[error(transparent)]
    Event(#[from] SendError),
}

impl From<sqlx::Error> for MembershipError {
    fn from(error: sqlx::Error) -> Self {
        Self::Event(SendError::Storage(error))
    }
}

impl Member {
    pub(crate) fn content(&self, membership: &str) -> CanonicalJsonObject {
        let mut content = object([("membership", membership.into())]);
        if let Some(name) = &self.display_name {
            content.insert("displayname".to_owned(), name.as_str().into());
        }
        if let Some(avatar) = &self.avatar_url {
            content.insert("avatar_url".to_owned(), avatar.as_str().into());
        }
        let is_free = |key: &str| !RULED_KEYS.contains(&key);
        let more = self.more.iter().filter(|(key, _)| is_free(key));
        content.extend(more.map(|(key, value)| (key.clone(), value.clone())));
        content
    }

    fn draft(&self, content: CanonicalJsonObject) -> Draft {
        Draft::state(
            TimelineEventType::RoomMember,
            self.user_id.as_str(),
            content,
        )
    }

    /// The event with which the user joins.
    pub(crate) fn join(&self) -> Draft {
        self.draft(self.content("join"))
    }

    /// The event with which the user is invited.
    pub(crate) fn invite(&self, is_direct: bool, reason: Option<&str>) -> Draft {
        let mut content = with_reason(self.content("invite"), reason);
        if is_direct {
            content.insert("is_direct".to_owned(), true.into());
        }
        self.draft(content)
    }
}

/// What moderators do to other users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They make them leave, or take an invite back.
    Kick,
    /// They keep them out.
    Ban,
    /// They let them come back.
    Unban,
}

impl Verdict {
    /// The membership of a user after it, who has `now`.
    fn membership(self, now: &MembershipState) -> Result<&'static str, MembershipError> {
        match (self, now) {
            (Self::Ban, _) => Ok("ban"),
            (Self::Kick, MembershipState::Leave | MembershipState::Ban) => {
                Err(MembershipError::Unfit("the user is not in this room"))
            }
            (Self::Unban, MembershipState::Ban) | (Self::Kick, _) => Ok("leave"),
            (Self::Unban, _) => Err(MembershipError::Unfit(
                "the user is not banned from this room",
            )),
        }
    }
}

impl Rooms {
    /// Lets a local user join a room that this server is in. Who is in it already stays as he is.
    pub async fn join(&self, room: &Room, member: &Member) -> Result<(), MembershipError> {
        let current = self.current(room).await?.ok_or(SendError::UnknownRoom)?;
        let now = self.membership(&current.snapshot, &member.user_id).await?;
        if now == MembershipState::Join {
            return Ok(());
        }
        let mut content = member.content("join");
        let snapshot = &current.snapshot;
        if now != MembershipState::Invite
            && self
                .allowed_by_membership(room, snapshot, &member.user_id)
                .await?
            && let Some(authorising) = self.authorising_user(room, snapshot).await?
        {
            let key = "join_authorised_via_users_server".to_owned();
            content.insert(key, authorising.as_str().into());
        }
        self.send(room, &member.user_id, member.draft(content))
            .await?;
        Ok(())
    }

    /// Lets a user leave, reject an invite or take back a knock.
    pub async fn leave(
        &self,
        room: &Room,
        user: &UserId,
        reason: Option<&str>,
    ) -> Result<(), MembershipError> {
        let current = match self.current(room).await? {
            // Nobody else knows more of a room that all have left.
            Some(current) if self.is_resident(room).await? || self.is_deserted(room).await? => {
                current
            }
            Some(_) | None => return self.leave_unknown(room, user, reason).await,
        };
        let now = self.membership(&current.snapshot, user).await?;
        if now == MembershipState::Leave {
            let mut conn = self.pool().acquire().await?;
            let nid = self.interner().user(user).await?;
            let known = membership_table::find(&mut conn, nid, room.nid).await?;
            return match known {
                // Leaving twice is leaving once.
                Some(row) if row.membership == "leave" => Ok(()),
                Some(_) | None => Err(MembershipError::Event(SendError::Forbidden(
                    "you are not in this room".into(),
                ))),
            };
        }
        let content = with_reason(object([("membership", "leave".into())]), reason);
        let draft = Draft::state(TimelineEventType::RoomMember, user.as_str(), content);
        self.send(room, user, draft).await?;
        Ok(())
    }

    /// Turns down an invite to a room that this server is not in.
    async fn leave_unknown(
        &self,
        room: &Room,
        user: &UserId,
        reason: Option<&str>,
    ) -> Result<(), MembershipError> {
        let nid = self.interner().user(user).await?;
        let mut conn = self.pool().acquire().await?;
        let known = membership_table::find(&mut conn, nid, room.nid).await?;
        drop(conn);
        match known.map(|row| row.membership).as_deref() {
            Some("invite" | "knock") => self.leave_elsewhere(room, user, reason).await,
            Some("leave") => Ok(()),
            Some(_) | None => Err(MembershipError::NeverIn),
        }
    }

    /// Invites a user.
    pub async fn invite(
        &self,
        room: &Room,
        sender: &UserId,
        member: &Member,
        reason: Option<&str>,
    ) -> Result<(), MembershipError> {
        self.send_invite(room, sender, &member.user_id, member.invite(false, reason))
            .await?;
        Ok(())
    }

    /// Does to another user what moderators do.
    pub async fn moderate(
        &self,
        room: &Room,
        sender: &UserId,
        target: &UserId,
        (verdict, reason): (Verdict, Option<&str>),
    ) -> Result<(), MembershipError> {
        let current = self.current(room).await?.ok_or(SendError::UnknownRoom)?;
        let now = self.membership(&current.snapshot, target).await?;
        let content = object([("membership", verdict.membership(&now)?.into())]);
        let content = with_reason(content, reason);
        let draft = Draft::state(TimelineEventType::RoomMember, target.as_str(), content);
        self.send(room, sender, draft).await?;
        Ok(())
    }

    /// Asks to be let in.
    pub async fn knock(
        &self,
        room: &Room,
        member: &Member,
        reason: Option<&str>,
    ) -> Result<(), MembershipError> {
        let content = with_reason(member.content("knock"), reason);
        self.send(room, &member.user_id, member.draft(content))
            .await?;
        Ok(())
    }

    /// Forgets a room that the user has left.
    pub async fn forget(&self, room: &Room, user: &UserId) -> Result<(), MembershipError> {
        let nid = self.interner().user(user).await?;
        let mut conn = self.pool().acquire().await?;
        let row = membership_table::find(&mut conn, nid, room.nid).await?;
        drop(conn);
        match row {
            None => Err(MembershipError::NeverIn),
            Some(row) if row.forgotten => Ok(()),
            Some(row) if matches!(row.membership.as_str(), "leave" | "ban") => {
                let membership = row.membership.clone();
                self.put_membership(room, user, &membership, true).await
            }
            Some(_) => Err(MembershipError::StillIn),
        }
    }

    /// Writes a membership that no event of ours says.
    pub(crate) async fn put_membership(
        &self,
        room: &Room,
        user: &UserId,
        membership: &str,
        forgotten: bool,
    ) -> Result<(), MembershipError> {
        let nid = self.interner().user(user).await?;
        let mut conn = self.pool().acquire().await?;
        let old = membership_table::find(&mut conn, nid, room.nid).await?;
        drop(conn);
        let row = MembershipRow {
            user: nid,
            room: room.nid,
            membership: membership.to_owned(),
            event: old.as_ref().and_then(|old| old.event),
            sender: old.as_ref().map_or(nid, |old| old.sender),
            stripped: None,
            forgotten,
            display_name: None,
            avatar_url: None,
            words: Vec::new(),
        };
        self.write_membership(row).await?;
        Ok(())
    }
}

/// Adds the reason that was given to a member event's content.
pub(crate) fn with_reason(
    mut content: CanonicalJsonObject,
    reason: Option<&str>,
) -> CanonicalJsonObject {
    if let Some(reason) = reason {
        content.insert("reason".to_owned(), reason.into());
    }
    content
}
