//! What decides about a user's notifications, in memory: the rules, and whom the user ignores.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hearth_core::{Position, UserNid};
use hearth_journal::{Announcement, Journal, Kind};
use hearth_users::{
    AccountData,
    account_data::{GLOBAL, Key},
};
use moka::future::Cache;
use ruma::{
    OwnedUserId, UserId, events::ignored_user_list::IgnoredUserListEventContent, push::Ruleset,
};
use tokio::sync::{broadcast, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::rules;

/// How many users stay in memory.
const CACHED_USERS: u64 = 20_000;

/// What decides about a user's notifications.
#[derive(Debug)]
pub struct UserSettings {
    /// The user's rules, the server's among them.
    pub rules: Ruleset,
    /// Whom the user ignores.
    pub ignored: Arc<HashSet<OwnedUserId>>,
}

/// The settings of users, kept in step with the log.
#[derive(Clone, Debug)]
pub struct Settings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    account_data: AccountData,
    journal: Journal,
    cache: Cache<UserNid, Arc<UserSettings>>,
    /// How many changes there were: what was read across one is not kept.
    changes: AtomicU64,
    /// How far the log was followed.
    followed: watch::Sender<Position>,
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
            followed: watch::Sender::new(journal.head()),
            journal,
            cache: Cache::new(CACHED_USERS),
            changes: AtomicU64::new(0),
        }));
        tracker.spawn(settings.clone().follow(announcements, stop));
        settings
    }

    /// What decides about the notifications of a user by now.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn latest(&self, user: UserNid, user_id: &UserId) -> sqlx::Result<Arc<UserSettings>> {
        self.find(user, user_id, self.0.journal.head()).await
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
        self.wait_for(position).await;
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

    async fn read(&self, user: UserNid, user_id: &UserId) -> sqlx::Result<UserSettings> {
        let key = |kind| Key {
            user,
            room: GLOBAL,
            kind,
        };
        let stored = self.0.account_data.find(key(rules::KIND)).await?;
        let ignored = self.0.account_data.find(key("m.ignored_user_list")).await?;
        let ignored = ignored
            .and_then(|content| {
                serde_json::from_str::<IgnoredUserListEventContent>(content.get()).ok()
            })
            .map(|content| content.ignored_users.into_keys().collect());
        Ok(UserSettings {
            rules: rules::read(user_id, stored.as_ref().map(|content| content.get())),
            ignored: Arc::new(ignored.unwrap_or_default()),
        })
    }

    /// Waits until the log was followed up to `position`.
    pub(crate) async fn wait_for(&self, position: Position) {
        if *self.0.followed.borrow() >= position {
            return;
        }
        let mut followed = self.0.followed.subscribe();
        // The sender lives as long as this.
        let _ = followed.wait_for(|followed| *followed >= position).await;
    }

    async fn follow(
        self,
        mut announcements: broadcast::Receiver<Arc<Announcement>>,
        stop: CancellationToken,
    ) {
        let mut epoch = self.0.journal.epoch();
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => return self.end(),
                next = self.0.journal.epoch_after(epoch) => {
                    epoch = next;
                    self.start_over();
                    continue;
                }
                next = announcements.recv() => next,
            };
            match next {
                Ok(announcement) => self.take_in(&announcement).await,
                Err(broadcast::error::RecvError::Lagged(_)) => self.start_over(),
                Err(broadcast::error::RecvError::Closed) => return self.end(),
            }
        }
    }

    /// Forgets everything: something was missed, or the database lost it.
    fn start_over(&self) {
        let head = self.0.journal.head();
        self.0.changes.fetch_add(1, Ordering::AcqRel);
        self.0.cache.invalidate_all();
        self.0.followed.send_replace(head);
    }

    /// Lets nobody wait for what does not come any more.
    fn end(&self) {
        self.0.followed.send_replace(Position(i64::MAX));
    }

    async fn take_in(&self, announcement: &Announcement) {
        let changed = announcement
            .entries
            .iter()
            .filter(|entry| entry.kind == Kind::AccountData && entry.room.is_none());
        for user in changed.filter_map(|entry| entry.user) {
            self.0.changes.fetch_add(1, Ordering::AcqRel);
            self.0.cache.invalidate(&user).await;
        }
        self.0.followed.send_replace(announcement.head);
    }
}
