//! Shows a new display name or avatar in all rooms that a user is in.
//!
//! The work is noted in the database before the profile changes and struck off when it is done, so that none is lost.
//! One worker at a time is at a user's rooms; it always writes the newest profile, so that a later change overtakes an
//! earlier one.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use hearth_core::UserNid;
use hearth_store::{
    profile,
    profile_update::{self, Finished},
};
use ruma::{
    CanonicalJsonObject, OwnedRoomId, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Draft, Rooms, SendError,
    backlog::{self, Backlog},
    membership_of,
};

/// How many rooms of one user are changed at once.
const AT_ONCE: usize = 8;

/// After so many rooms the worker looks whether the profile changed again.
const STRETCH: usize = 64;

/// How many users' rooms are changed at once.
const WORKERS: usize = 8;

/// How long work is taken for; a stretch takes less.
const LEASE: Duration = Duration::from_mins(2);

/// How often work is looked for that another process left behind, or that failed.
const SWEEP: Duration = Duration::from_mins(1);

/// How many users one sweep takes on.
const SWEPT: i64 = 100;

/// How often a member event that changes meanwhile is changed again.
const ATTEMPTS: usize = 3;

/// Keeps member events in step with profiles.
#[derive(Clone, Debug)]
pub struct MemberProfiles {
    rooms: Rooms,
    tasks: TaskTracker,
    stop: CancellationToken,
    workers: Arc<Semaphore>,
}

/// What a member event shows of a profile.
struct Shown {
    display_name: Option<String>,
    avatar_url: Option<String>,
}

impl MemberProfiles {
    /// Makes the service.
    #[must_use]
    pub fn new(rooms: Rooms, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self {
            rooms,
            tasks,
            stop,
            workers: Arc::new(Semaphore::new(WORKERS)),
        }
    }

    /// Notes that a profile is about to change.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn announce(&self, user: UserNid) -> sqlx::Result<()> {
        let now = self.rooms.clock().millis();
        let mut conn = self.rooms.pool().acquire().await?;
        profile_update::upsert(&mut conn, user, now).await
    }

    /// Changes the member events of a user whose profile has changed; waits for it, but not longer than `patience`.
    pub async fn spread(&self, user: UserNid, patience: Duration) {
        backlog::take_up(self, user, patience, (&self.tasks, &self.stop)).await;
    }

    /// Takes up what was left behind, now and again until the server stops.
    pub async fn sweep(self) {
        backlog::sweep(&self, SWEEP, &self.stop).await;
    }

    /// Goes through all rooms once; the new revision if the profile changed meanwhile.
    async fn pass(&self, user: UserNid, revision: i64) -> Result<Option<i64>, SendError> {
        let user_id = self.rooms.interner().user_id(user).await?;
        let shown = self.shown(user).await?;
        let rooms = self.rooms.joined(user).await?;
        for stretch in rooms.chunks(STRETCH) {
            let mut changes = Vec::with_capacity(stretch.len());
            for room in stretch {
                changes.push(self.change(room, &user_id, &shown));
            }
            let mut changes = stream::iter(changes).buffer_unordered(AT_ONCE);
            while let Some(outcome) = changes.next().await {
                outcome?;
            }
            match self.extend(user).await? {
                Some(now) if now != revision => return Ok(Some(now)),
                Some(_) | None => {}
            }
        }
        Ok(None)
    }

    async fn claim(&self, user: UserNid) -> sqlx::Result<Option<i64>> {
        let now = self.rooms.clock().millis();
        let mut conn = self.rooms.pool().acquire().await?;
        profile_update::claim(&mut conn, user, now, self.lease_end()).await
    }

    async fn extend(&self, user: UserNid) -> sqlx::Result<Option<i64>> {
        let mut conn = self.rooms.pool().acquire().await?;
        profile_update::extend(&mut conn, user, self.lease_end()).await
    }

    fn lease_end(&self) -> i64 {
        let lease = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
        self.rooms.clock().millis().saturating_add(lease)
    }

    async fn shown(&self, user: UserNid) -> sqlx::Result<Shown> {
        let mut conn = self.rooms.pool().acquire().await?;
        let fields = profile::list(&mut conn, user).await?;
        let text = |key: &str| {
            let field = fields.iter().find(|field| field.key == key)?;
            serde_json::from_str::<String>(&field.value).ok()
        };
        Ok(Shown {
            display_name: text("displayname"),
            avatar_url: text("avatar_url"),
        })
    }

    /// Changes the member event of one room. A room that refuses is left as it is; a database that fails is not.
    async fn change(
        &self,
        room_id: &OwnedRoomId,
        user: &UserId,
        shown: &Shown,
    ) -> Result<(), SendError> {
        for _ in 0..ATTEMPTS {
            match self.try_change(room_id, user, shown).await {
                Ok(()) => return Ok(()),
                Err(SendError::Superseded) => {}
                Err(
                    error @ (SendError::Overloaded | SendError::Contended | SendError::Storage(_)),
                ) => return Err(error),
                Err(error) => {
                    tracing::info!(room_id = %room_id, %error, "a room does not take a new profile");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn try_change(
        &self,
        room_id: &OwnedRoomId,
        user: &UserId,
        shown: &Shown,
    ) -> Result<(), SendError> {
        let Some(room) = self.rooms.find(room_id).await? else {
            return Ok(());
        };
        let Some(current) = self.rooms.current(&room).await? else {
            return Ok(());
        };
        let kind = StateEventType::RoomMember;
        let event = self
            .rooms
            .state_event(&current.snapshot, &kind, user.as_str())
            .await?;
        let Some(event) = event.filter(|event| membership_of(event) == MembershipState::Join)
        else {
            return Ok(());
        };
        let Some(content) = shown.over(event.pdu.content_as()?) else {
            return Ok(());
        };
        let mut draft = Draft::state(TimelineEventType::RoomMember, user.as_str(), content);
        draft.replaces = Some(event.nid);
        self.rooms.send(&room, user, draft).await?;
        Ok(())
    }
}

impl Backlog for MemberProfiles {
    const FAILURE: &'static str = "a profile could not be shown in all rooms";

    type Error = SendError;

    async fn due(&self) -> sqlx::Result<Vec<UserNid>> {
        let now = self.rooms.clock().millis();
        let mut conn = self.rooms.pool().acquire().await?;
        profile_update::list_due(&mut conn, now, SWEPT).await
    }

    /// Unless somebody is at it.
    async fn work(&self, user: UserNid) -> Result<(), SendError> {
        let Ok(_permit) = self.workers.acquire().await else {
            return Ok(());
        };
        let Some(mut revision) = self.claim(user).await? else {
            return Ok(());
        };
        loop {
            if let Some(newer) = self.pass(user, revision).await? {
                revision = newer;
                continue;
            }
            let mut conn = self.rooms.pool().acquire().await?;
            let finished = profile_update::delete(&mut conn, user, revision).await?;
            drop(conn);
            match finished {
                Finished::Yes => return Ok(()),
                Finished::ChangedAgain => match self.extend(user).await? {
                    Some(newer) => revision = newer,
                    None => return Ok(()),
                },
            }
        }
    }
}

/// What belongs to the act of joining, and not to the member.
const OF_THE_JOIN: [&str; 4] = [
    "is_direct",
    "join_authorised_via_users_server",
    "reason",
    "third_party_invite",
];

impl Shown {
    /// The content of a member event with this profile; `None` when it shows it already.
    fn over(&self, mut content: CanonicalJsonObject) -> Option<CanonicalJsonObject> {
        let fields = [
            ("displayname", &self.display_name),
            ("avatar_url", &self.avatar_url),
        ];
        let differs = fields.iter().any(|(key, value)| {
            content.get(*key).and_then(|value| value.as_str()) != value.as_deref()
        });
        if !differs {
            return None;
        }
        for (key, value) in fields {
            match value {
                Some(value) => content.insert(key.to_owned(), value.as_str().into()),
                None => content.remove(key),
            };
        }
        content.retain(|key, _| !OF_THE_JOIN.contains(&key.as_str()));
        Some(content)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: serde_json::Value) -> CanonicalJsonObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_new_profile_replaces_the_old_one_and_keeps_the_rest() {
        let shown = Shown {
            display_name: Some("Alice".to_owned()),
            avatar_url: None,
        };
        let old = json!({
            "membership": "join", "displayname": "Al", "avatar_url": "mxc://a/b", "reason": "tea",
            "org.example.hat": true,
        });

        let new = shown.over(object(old));

        let expected =
            json!({ "membership": "join", "displayname": "Alice", "org.example.hat": true });
        assert_eq!(new, Some(object(expected)));
    }

    #[test]
    fn the_same_profile_changes_nothing() {
        let shown = Shown {
            display_name: Some("Alice".to_owned()),
            avatar_url: None,
        };
        let old = json!({ "membership": "join", "displayname": "Alice", "reason": "tea" });

        assert_eq!(shown.over(object(old)), None);
    }
}
