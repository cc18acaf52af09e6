//! Who has pushers, and in which rooms.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hearth_core::{PusherNid, RoomNid, UserNid};
use hearth_journal::{Entry, Kind};
use hearth_store::pusher;
use moka::sync::Cache;
use ruma::UserId;
use sqlx::PgPool;

use crate::evaluator::Viewer;

/// Of how many rooms it is known who of those with pushers is in them.
const CACHED_ROOMS: u64 = 20_000;

/// How many users are read at once.
const PAGE: i64 = 10_000;

/// Who has pushers, and in which rooms. Kept in step with the log by the one who asks.
#[derive(Debug)]
pub(super) struct Audience {
    pool: PgPool,
    /// All users with pushers; some that have none any more may be among them.
    owners: Mutex<HashSet<UserNid>>,
    rooms: Cache<RoomNid, Arc<[Viewer]>>,
}

impl Audience {
    /// Nobody, before [`Audience::begin`].
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            owners: Mutex::default(),
            rooms: Cache::new(CACHED_ROOMS),
        }
    }

    /// Reads who has pushers.
    pub(super) async fn begin(&self) -> sqlx::Result<()> {
        let mut owners = HashSet::new();
        let mut after = UserNid(0);
        loop {
            let mut conn = self.pool.acquire().await?;
            let page = pusher::list_owners(&mut conn, after, PAGE).await?;
            drop(conn);
            let Some(last) = page.last() else { break };
            after = *last;
            owners.extend(page);
        }
        *self.owners() = owners;
        self.rooms.invalidate_all();
        Ok(())
    }

    /// Takes in who came into rooms and who set pushers; gives the pushers that were set.
    pub(super) async fn take_in(&self, entries: &[Entry]) -> sqlx::Result<Vec<PusherNid>> {
        for entry in entries {
            let moves = match entry.kind {
                Kind::Event => entry.user.is_some(),
                Kind::Membership | Kind::State => true,
                Kind::Receipt
                | Kind::AccountData
                | Kind::ToDevice
                | Kind::DeviceList
                | Kind::Pusher => false,
            };
            if let Some(room) = entry.room.filter(|_| moves) {
                self.rooms.invalidate(&room);
            }
        }
        let set = entries.iter().filter(|entry| entry.kind == Kind::Pusher);
        let users: Vec<UserNid> = set.filter_map(|entry| entry.user).collect();
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let mut conn = self.pool.acquire().await?;
        let pushers = pusher::list_of_users(&mut conn, &users).await?;
        drop(conn);
        let mut owners = self.owners();
        let before = owners.len();
        owners.extend(pushers.iter().map(|(_, user)| *user));
        if owners.len() > before {
            self.rooms.invalidate_all();
        }
        Ok(pushers.into_iter().map(|(nid, _)| nid).collect())
    }

    /// Whether a user has pushers, or had some lately.
    pub(super) fn has(&self, user: UserNid) -> bool {
        self.owners().contains(&user)
    }

    /// Whether nobody has pushers.
    pub(super) fn is_empty(&self) -> bool {
        self.owners().is_empty()
    }

    /// Those with pushers that are joined to each of these rooms.
    pub(super) async fn in_rooms(
        &self,
        rooms: &HashSet<RoomNid>,
    ) -> sqlx::Result<HashMap<RoomNid, Arc<[Viewer]>>> {
        let mut known = HashMap::with_capacity(rooms.len());
        let mut missing = HashMap::new();
        for room in rooms {
            match self.rooms.get(room) {
                Some(viewers) => {
                    known.insert(*room, viewers);
                }
                None => {
                    missing.insert(*room, Vec::new());
                }
            }
        }
        if missing.is_empty() {
            return Ok(known);
        }
        let nids: Vec<RoomNid> = missing.keys().copied().collect();
        let mut conn = self.pool.acquire().await?;
        let rows = pusher::list_hearers(&mut conn, &nids).await?;
        drop(conn);
        for row in rows {
            let user_id =
                UserId::parse(row.user_id).map_err(|error| sqlx::Error::Decode(error.into()))?;
            let viewer = Viewer {
                user: row.user,
                user_id,
            };
            missing.entry(row.room).or_default().push(viewer);
        }
        for (room, viewers) in missing {
            let viewers: Arc<[Viewer]> = viewers.into();
            self.rooms.insert(room, Arc::clone(&viewers));
            known.insert(room, viewers);
        }
        Ok(known)
    }

    fn owners(&self) -> MutexGuard<'_, HashSet<UserNid>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
