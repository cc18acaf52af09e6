//! The service: answers requests, at once or when there is something new.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use hearth_core::{Position, RoomNid, SnapshotNid, token::StreamToken};
use hearth_journal::Journal;
use hearth_push::{Settings, UnreadCounts};
use hearth_rooms::{Live, Rooms};
use hearth_users::{Ephemeral, Presence, Typing, presence::PresenceError};
use moka::sync::Cache;
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    active::{ActiveUser, Members},
    engine, follow,
    hub::Hub,
    lazy::SentMembers,
    response::Response,
    view::{FullState, Request},
    waiting::Waiting,
};

/// How many (room, position) pairs the cache of states may hold.
const CACHED_STATES: u64 = 200_000;

/// The longest time that a client may wait.
const MAX_TIMEOUT: Duration = Duration::from_mins(5);

/// How long a token from the near future is waited for: another process gave it.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Answers what is new for users.
#[derive(Clone, Debug)]
pub struct Sync(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    hub: Hub,
    sent_members: SentMembers,
    states: Cache<(RoomNid, Position), Option<SnapshotNid>>,
    waiting: Waiting,
}

/// What the service is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The database.
    pub pool: PgPool,
    /// The log.
    pub journal: Journal,
    /// Rooms.
    pub rooms: Rooms,
    /// The counter of typing and presence.
    pub ephemeral: Ephemeral,
    /// Who types.
    pub typing: Typing,
    /// Who is there.
    pub presence: Presence,
    /// Push rules and ignored users.
    pub settings: Settings,
    /// What users have not read.
    pub unread: UnreadCounts,
}

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The client sets a presence that does not exist.
    #[error("this is no presence state")]
    UnknownPresence,
    /// The database failed.
    #[error("differences could not be read")]
    Storage(#[from] sqlx::Error),
}

impl Sync {
    /// Starts to follow what happens, until `stop`.
    #[must_use]
    pub fn start(parts: Parts, live: &Live, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        // Subscribed first, so that nothing after the head is missed.
        let announcements = live.subscribe();
        let changes = parts.ephemeral.subscribe();
        let hub = Hub::new(parts.pool.clone(), parts.journal.head());
        let sync = Self(Arc::new(Inner {
            parts,
            hub: hub.clone(),
            sent_members: SentMembers::new(),
            states: Cache::new(CACHED_STATES),
            waiting: Waiting::nobody(),
        }));
        tasks.spawn(follow::run(sync.clone(), hub, announcements, stop.clone()));
        tasks.spawn(follow::epochs(sync.clone(), stop.clone()));
        tasks.spawn(follow::ephemeral(sync.clone(), changes, stop.clone()));
        sync
    }

    /// Answers a request: at once if there is something new, or else when there is, or when its time is over, or when
    /// `stop` says so.
    ///
    /// # Errors
    ///
    /// See [`SyncError`].
    pub async fn wait(
        &self,
        request: Request,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<Response, SyncError> {
        let nid = request.receiver.user;
        let presence = self.presence().sync(nid, &request.set_presence);
        let _syncing = presence.map_err(|error| match error {
            PresenceError::UnknownState | PresenceError::NotShared => SyncError::UnknownPresence,
            PresenceError::Storage(error) => SyncError::Storage(error),
        })?;
        let mut deadline = Instant::now() + request.timeout.min(MAX_TIMEOUT);
        // What the client did before it asked is in the answer.
        self.catch_up(self.journal().head()).await;
        let mut since = self.usable(request.since).await;
        let mut at_once = since.is_none() || request.full_state == FullState::All;
        tokio::pin!(stop);
        loop {
            let user = self.hub().user(nid).await?;
            let _busy = user.busy();
            let woken = user.woken();
            tokio::pin!(woken);
            // Whatever happens from here on wakes.
            woken.as_mut().enable();
            if !self.hub().is_current(&user) {
                continue;
            }
            if since.is_some_and(|since| since.epoch != self.journal().epoch()) {
                (since, at_once) = (None, true);
            }
            let over = Instant::now() >= deadline;
            if at_once || over || self.may_have(&user, since.as_ref(), &request) {
                let response = self.respond(&request, since.as_ref(), &user).await?;
                if at_once || over || !response.is_empty() {
                    return Ok(response);
                }
                since = Some(response.next);
            }
            let _waiting = self.0.waiting.enter();
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(deadline) => {}
                () = &mut stop => deadline = Instant::now(),
            }
        }
    }

    /// What is new by now.
    fn respond<'a>(
        &'a self,
        request: &'a Request,
        since: Option<&'a StreamToken>,
        user: &'a ActiveUser,
    ) -> BoxFuture<'a, sqlx::Result<Response>> {
        Box::pin(async move {
            let (to, members) = self.consistent(user).await;
            engine::respond(self, request, since, user, (to, &members)).await
        })
    }

    /// The token, if it counts in this log, and the log still reaches back to it; what it tells of may have to arrive
    /// here first.
    async fn usable(&self, token: Option<StreamToken>) -> Option<StreamToken> {
        let (epoch, tail) = (self.journal().epoch(), self.journal().tail());
        let token = token.filter(|token| token.epoch == epoch && token.position >= tail)?;
        self.catch_up(token.position).await.then_some(token)
    }

    /// Waits a while for `position` to be in memory; says whether it is.
    async fn catch_up(&self, position: Position) -> bool {
        let here = self.hub().wait_for(position);
        tokio::time::timeout(CATCH_UP, here).await.is_ok()
    }

    /// Whether there may be something new for the request, as far as memory tells.
    fn may_have(&self, user: &ActiveUser, since: Option<&StreamToken>, request: &Request) -> bool {
        let Some(since) = since else { return true };
        let device = request.receiver.device_id.as_deref();
        let to_device = device.is_some_and(|device| {
            let drained = user.drained(device);
            drained.is_none_or(|drained| user.may_have(ActiveUser::to_device, drained))
        });
        to_device
            || user.has_moved(since.position)
            || since.incarnation != self.ephemeral().incarnation()
            || since.ephemeral < self.ephemeral().counter()
    }

    /// A position, and the user's memberships exactly there.
    async fn consistent(&self, user: &ActiveUser) -> (Position, Members) {
        loop {
            let to = self.hub().position();
            let members = user.members();
            if members.changed <= to {
                return (to, members);
            }
            self.hub().wait_for(members.changed).await;
        }
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.0.parts.pool
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.0.parts.journal
    }

    pub(crate) fn rooms(&self) -> &Rooms {
        &self.0.parts.rooms
    }

    pub(crate) fn ephemeral(&self) -> &Ephemeral {
        &self.0.parts.ephemeral
    }

    pub(crate) fn typing(&self) -> &Typing {
        &self.0.parts.typing
    }

    pub(crate) fn presence(&self) -> &Presence {
        &self.0.parts.presence
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.parts.settings
    }

    pub(crate) fn unread(&self) -> &UnreadCounts {
        &self.0.parts.unread
    }

    pub(crate) fn sent_members(&self) -> &SentMembers {
        &self.0.sent_members
    }

    /// Which state was current at which place; what is past does not change.
    pub(crate) fn states(&self) -> &Cache<(RoomNid, Position), Option<SnapshotNid>> {
        &self.0.states
    }
}
