//! The event DAG: build, authorise, resolve, persist, read history.
//!
//! Everything that happens in rooms is here, whoever asks for it: a client, a peer or an administrator. What users own
//! outside of rooms is in `users/`; who is told about what happened is decided above.

mod access;
mod acl;
mod adopt;
mod annotations;
mod arrivals;
mod auth_chain;
mod authorise;
mod backfill;
mod backlog;
mod build;
mod bundle;
mod changes;
pub mod client_event;
mod closest;
mod commit;
mod conflict;
mod create;
mod departures;
pub mod directory;
mod draft;
mod erasure;
pub mod error;
pub mod event;
mod extremities;
pub mod filter;
mod gaps;
mod guests;
mod handshake;
pub mod history;
pub mod incoming;
mod invitation;
mod live;
mod member_profiles;
mod membership;
mod merge;
mod outliers;
mod outside;
mod peer;
pub mod peers;
mod placing;
mod policy;
mod power;
mod receipt;
mod receive;
mod related;
pub mod residents;
mod resolve;
mod restricted;
mod room;
mod send;
mod send_recommended;
mod send_state;
mod series;
mod serve;
mod servers;
pub mod snapshot;
mod state;
mod stripped;
mod tail;
pub mod timeline;
mod told_state;
pub mod unwanted;
mod upgrade;
pub mod version;
mod visibility;

use std::{collections::HashMap, sync::Arc};

use hearth_core::{Clock, Identity, RoomNid};
use hearth_journal::Journal;
use hearth_store::{
    Occupancy,
    intern::{Blocks, Interner},
    room as room_table,
};
use moka::future::Cache;
use ruma::{OwnedRoomId, RoomId};
use sqlx::PgPool;
use tokio_util::task::TaskTracker;

pub use self::{
    access::View,
    auth_chain::AuthChainError,
    client_event::{ClientEvent, Receiver, RoomIdField},
    create::{CreateError, Creation, Preset, topic_content},
    departures::Departures,
    directory::Directory,
    draft::Draft,
    error::SendError,
    event::{Events, RoomEvent},
    filter::Filter,
    incoming::{Incoming, Malformed, Verified},
    live::Live,
    member_profiles::MemberProfiles,
    membership::{Member, MembershipError, Verdict},
    peer::{Joined, Members, PartialInvite, PeerError, StateBefore},
    peers::Peers,
    power::Powers,
    receive::{ReceiveError, Received},
    related::{LEVELS, Participation, RelatedRequest, ThreadsRequest},
    residents::Residents,
    restricted::JoinRule,
    room::{Current, Room},
    send::{Sent, Transaction},
    serve::Relations,
    snapshot::{Snapshot, Snapshots},
    state::membership_of,
    timeline::{Page, PageRequest},
    upgrade::{Upgrade, UpgradeError},
};

/// How many rooms stay in memory.
const CACHED_ROOMS: u64 = 50_000;

/// The rooms of this server: the service that all others ask about rooms.
#[derive(Clone, Debug)]
pub struct Rooms(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    events: Events,
    snapshots: Snapshots,
    by_id: Cache<OwnedRoomId, RoomNid>,
    by_nid: Cache<RoomNid, Arc<Room>>,
    transactions: send::Transactions,
    merged: merge::MergedStates,
    auth_edges: resolve::AuthEdges,
    known_servers: servers::KnownServers,
    handshakes: handshake::UnderWay,
    gaps: backfill::Gaps,
    turns: commit::Turns,
}

/// What [`Rooms`] is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The database.
    pub pool: PgPool,
    /// Where events are written.
    pub journal: Journal,
    /// Numbers of users and state keys.
    pub interner: Interner,
    /// Numbers of new events and snapshots.
    pub blocks: Blocks,
    /// Who signs.
    pub identity: Arc<Identity>,
    /// What time it is.
    pub clock: Clock,
    /// The other servers.
    pub peers: Arc<dyn Peers>,
    /// The handshakes with them.
    pub residents: Arc<dyn Residents>,
    /// Where work that needs a thread of its own is started.
    pub tasks: TaskTracker,
    /// Whether other processes change rooms too.
    pub occupancy: Occupancy,
}

impl Rooms {
    /// Makes the service.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let events = Events::new(parts.pool.clone());
        let snapshots = Snapshots::new(parts.pool.clone());
        let turns = commit::Turns::of(&parts.pool);
        Self(Arc::new(Inner {
            parts,
            events,
            snapshots,
            by_id: Cache::new(CACHED_ROOMS),
            by_nid: Cache::new(CACHED_ROOMS),
            transactions: send::Transactions::default(),
            merged: merge::MergedStates::default(),
            auth_edges: resolve::AuthEdges::default(),
            known_servers: servers::KnownServers::default(),
            handshakes: handshake::UnderWay::default(),
            gaps: backfill::Gaps::default(),
            turns,
        }))
    }

    /// The room with this id, if we know it.
    pub async fn find(&self, id: &RoomId) -> sqlx::Result<Option<Arc<Room>>> {
        if let Some(nid) = self.0.by_id.get(id).await {
            return self.find_by_nid(nid).await;
        }
        let mut conn = self.pool().acquire().await?;
        let row = room_table::find_by_id(&mut conn, id.as_str()).await?;
        drop(conn);
        match row {
            Some(row) => self.remember(&row).await.map(Some),
            None => Ok(None),
        }
    }

    /// The room with this number.
    pub async fn find_by_nid(&self, nid: RoomNid) -> sqlx::Result<Option<Arc<Room>>> {
        if let Some(room) = self.0.by_nid.get(&nid).await {
            return Ok(Some(room));
        }
        let mut conn = self.pool().acquire().await?;
        let row = room_table::find(&mut conn, nid).await?;
        drop(conn);
        match row {
            Some(row) => self.remember(&row).await.map(Some),
            None => Ok(None),
        }
    }

    /// The rooms with these numbers.
    pub async fn find_by_nids(
        &self,
        nids: &[RoomNid],
    ) -> sqlx::Result<HashMap<RoomNid, Arc<Room>>> {
        let mut found = HashMap::with_capacity(nids.len());
        let mut missing = Vec::new();
        for nid in nids {
            match self.0.by_nid.get(nid).await {
                Some(room) => {
                    found.insert(*nid, room);
                }
                None => missing.push(*nid),
            }
        }
        if !missing.is_empty() {
            let mut conn = self.pool().acquire().await?;
            let rows = room_table::list(&mut conn, &missing).await?;
            drop(conn);
            for row in rows {
                found.insert(row.nid, self.remember(&row).await?);
            }
        }
        Ok(found)
    }

    /// Keeps a room whose row was read; the one that is kept already wins.
    async fn remember(&self, row: &room_table::Stored) -> sqlx::Result<Arc<Room>> {
        let nid = row.nid;
        let made = async {
            // The head is read inside, so that every later announcement finds the room in memory.
            Room::new(row, self.journal().head().0).map(Arc::new)
        };
        let room = self
            .0
            .by_nid
            .try_get_with(nid, made)
            .await
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        self.0.by_id.insert(room.id.clone(), nid).await;
        Ok(room)
    }

    /// Stored events.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    pub(crate) fn snapshots(&self) -> &Snapshots {
        &self.0.snapshots
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.0.parts.pool
    }

    /// Numbers of users and state keys.
    #[must_use]
    pub fn interner(&self) -> &Interner {
        &self.0.parts.interner
    }

    pub(crate) fn blocks(&self) -> &Blocks {
        &self.0.parts.blocks
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.0.parts.journal
    }

    /// Who we are.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.parts.identity
    }

    pub(crate) fn occupancy(&self) -> &Occupancy {
        &self.0.parts.occupancy
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.parts.clock
    }

    pub(crate) fn residents(&self) -> &dyn Residents {
        self.0.parts.residents.as_ref()
    }

    /// Forgets a room, so that its row is read again.
    pub(crate) async fn forget_room(&self, room: &Room) {
        self.0.by_id.invalidate(&room.id).await;
        self.0.by_nid.invalidate(&room.nid).await;
    }

    pub(crate) fn peers(&self) -> &dyn Peers {
        self.0.parts.peers.as_ref()
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.parts.tasks
    }
}
