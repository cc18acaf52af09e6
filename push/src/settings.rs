//! What decides about a user's notifications, in memory: the rules, and whom the user ignores.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hearth_core::{Position, UserNid};
use hearth_journal::{Announcement, Journal, Kind};
use hearth_rooms::unwanted;
use hearth_users::AccountData;
use moka::future::Cache;
use ruma::{
    OwnedUserId, UserId, events::ignored_user_list::IgnoredUserListEventContent, push::Ruleset,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    evaluator::Viewer,
    following::{Followed, Follower},
    rules,
};

/// How many users stay in memory.
const CACHED_USERS: u64 = 20_000;

/// The account data of which settings are made.
const IGNORED: &str = "m.ignored_user_list";
const KINDS: [&str; 3] = [rules::KIND, IGNORED, unwanted::KIND];

/// What decides about a user's notifications.
#[derive(Debug)]
pub struct UserSettings {
    /// The user's rules, the server's among them.
    pub rules: Ruleset,
    /// Whom the user ignores.
    pub ignored: Arc<HashSet<OwnedUserId>>,
    /// Whether the user wants no invites.
    pub blocks_invites: bool,
}

/// The settings of users, kept in step with the log.
#[derive(Clone, Debug)]
pub struct Settings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    account_data: AccountData,
    cache: Cache<UserNid, Arc<UserSettings>>,
    /// How many changes there were: what was read across one is not kept.
    changes: AtomicU64,
    followed: Followed,
}

impl Settings {
    /// Reads from `account_data` and follows `journal` until `stop`.
    #[must_use]
    pub fn start(
        account_data: AccountData,
        journal: Journal,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let announcements = journal.subscribe();
        let settings = Self(Arc::new(Inner {
            account_data,
            followed: Followed::new(journal),
            cache: Cache::new(CACHED_USERS),
            changes: AtomicU64::new(0),
        }));
        let follower = settings.clone();
        tracker.spawn(async move {
            let followed = &follower.0.followed;
            followed.follow(&*follower.0, announcements, stop).await;
        });
        settings
    }

    /// What decides about the notifications of a user by now.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn latest(&self, user: UserNid, user_id: &UserId) -> sqlx::Result<Arc<UserSettings>> {
        self.find(user, user_id, self.0.followed.head()).await
    }

    /// What decides about the notifications of a user, as of `position` or later.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find(
        &self,
        user: UserNid,
        user_id: &UserId,
        position: Position,
    ) -> sqlx::Result<Arc<UserSettings>> {
        self.0.followed.wait_for(position).await;
        if let Some(settings) = self.0.cache.get(&user).await {
            return Ok(settings);
        }
        let before = self.0.changes.load(Ordering::Acquire);
        let settings = Arc::new(self.read(user, user_id).await?);
        if self.0.changes.load(Ordering::Acquire) == before {
            self.0.cache.insert(user, Arc::clone(&settings)).await;
        }
        Ok(settings)
    }

    /// Brings the settings of many users into memory, as of `position` or later, with one statement.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub(crate) async fn prepare(&self, viewers: &[Viewer], position: Position) -> sqlx::Result<()> {
        self.0.followed.wait_for(position).await;
        let mut missing = HashMap::new();
        for viewer in viewers {
            if !self.0.cache.contains_key(&viewer.user) {
                missing.insert(viewer.user, &viewer.user_id);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let before = self.0.changes.load(Ordering::Acquire);
        let users: Vec<UserNid> = missing.keys().copied().collect();
        let stored = self.0.account_data.list_of_users(&users, &KINDS).await?;
        let mut by_user: HashMap<UserNid, HashMap<String, String>> = HashMap::new();
        for (user, kind, content) in stored {
            by_user.entry(user).or_default().insert(kind, content);
        }
        for (user, user_id) in missing {
            let contents = by_user.remove(&user).unwrap_or_default();
            let settings = made(user_id, |kind| contents.get(kind).map(String::as_str));
            if self.0.changes.load(Ordering::Acquire) == before {
                self.0.cache.insert(user, Arc::new(settings)).await;
            }
        }
        Ok(())
    }

    async fn read(&self, user: UserNid, user_id: &UserId) -> sqlx::Result<UserSettings> {
        let stored = self.0.account_data.list_of_users(&[user], &KINDS).await?;
        let contents: HashMap<String, String> = stored
            .into_iter()
            .map(|(_, kind, content)| (kind, content))
            .collect();
        Ok(made(user_id, |kind| contents.get(kind).map(String::as_str)))
    }
}

/// The settings of a user by the contents of [`KINDS`].
fn made<'a>(user_id: &UserId, content: impl Fn(&str) -> Option<&'a str>) -> UserSettings {
    let ignored = content(IGNORED)
        .and_then(|content| serde_json::from_str::<IgnoredUserListEventContent>(content).ok())
        .map(|content| content.ignored_users.into_keys().collect());
    UserSettings {
        rules: rules::read(user_id, content(rules::KIND)),
        ignored: Arc::new(ignored.unwrap_or_default()),
        blocks_invites: content(unwanted::KIND).is_some_and(unwanted::blocks_invites),
    }
}

impl Follower for Inner {
    fn forget(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.cache.invalidate_all();
    }

    async fn take_in(&self, announcement: &Announcement) {
        let changed = announcement
            .entries
            .iter()
            .filter(|entry| entry.kind == Kind::AccountData && entry.room.is_none());
        for user in changed.filter_map(|entry| entry.user) {
            self.changes.fetch_add(1, Ordering::AcqRel);
            self.cache.invalidate(&user).await;
        }
    }
}
