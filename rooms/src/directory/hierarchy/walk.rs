//! One walk through a space.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use hearth_core::SnapshotNid;
use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, UserId,
    events::room::member::MembershipState,
    room::{RoomSummary, RoomType},
};
use tokio::time::{Instant, timeout_at};

use super::{Hierarchy, SpaceRoom, child::arranged, token::Token};
use crate::Directory;

/// How deep a walk goes at the most.
const DEEPEST: u64 = 100;

/// How many rooms one walk comes by at the most.
pub(super) const LONGEST_WALK: usize = 10_000;

/// How long other servers may take in all to tell of the rooms of one page; what they did not tell until then is left out.
const PATIENCE: Duration = Duration::from_secs(30);

/// A room that the walk will come by.
pub(super) struct Step {
    pub room_id: OwnedRoomId,
    pub via: Vec<OwnedServerName>,
    pub depth: u64,
}

/// What this server knows of a room ahead.
enum Known {
    /// The user may see it.
    Visible(Box<RoomSummary>, SnapshotNid),
    /// The user may not.
    Hidden,
}

/// A walk under way.
pub(super) struct Walk<'a> {
    directory: &'a Directory,
    user: &'a UserId,
    suggested_only: bool,
    max_depth: u64,
    /// How many rooms the earlier pages had.
    skip: u64,
    limit: u64,
    /// How many visible rooms the walk came by.
    count: u64,
    /// The steps ahead, the next one last.
    ahead: Vec<Step>,
    seen: HashSet<OwnedRoomId>,
    /// Rooms that the servers of their spaces say the user may not see.
    closed: HashSet<OwnedRoomId>,
    /// When other servers have to have answered.
    deadline: Instant,
    known: HashMap<OwnedRoomId, Known>,
    /// What other servers said of rooms that are no spaces.
    told: HashMap<OwnedRoomId, RoomSummary>,
    out: Vec<SpaceRoom>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        directory: &'a Directory,
        user: &'a UserId,
        token: &Token,
        limit: u64,
    ) -> Self {
        Self {
            directory,
            user,
            suggested_only: token.suggested_only,
            max_depth: token.max_depth.unwrap_or(DEEPEST).min(DEEPEST),
            skip: token.skip,
            limit,
            count: 0,
            ahead: Vec::new(),
            seen: HashSet::new(),
            closed: HashSet::new(),
            deadline: Instant::now() + PATIENCE,
            known: HashMap::new(),
            told: HashMap::new(),
            out: Vec::new(),
        }
    }

    /// The next room ahead, unless the page is full or the walk too long.
    pub(super) fn next(&mut self) -> Option<Step> {
        let goes_on = !self.is_full() && self.seen.len() < LONGEST_WALK;
        goes_on.then(|| self.ahead.pop()).flatten()
    }

    /// One room more than fits has been found: the page is full, and there is a next one.
    fn is_full(&self) -> bool {
        self.count > self.skip + self.limit
    }

    /// Looks at rooms ahead all at once.
    pub(super) async fn load(&mut self, room_ids: &[OwnedRoomId]) -> sqlx::Result<()> {
        let new: Vec<&RoomId> = room_ids
            .iter()
            .filter(|id| !self.seen.contains(*id) && !self.known.contains_key(*id))
            .map(AsRef::as_ref)
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let found = self.directory.find_all(&new, Some(self.user)).await?;
        let known: Vec<_> = found
            .values()
            .map(|found| (&found.summary, &found.membership))
            .collect();
        let visible = self.directory.visible(&known, Some(self.user)).await?;
        for (room_id, found) in found {
            let known = if visible.contains(&room_id) {
                Known::Visible(Box::new(found.summary), found.snapshot)
            } else {
                Known::Hidden
            };
            self.known.insert(room_id, known);
        }
        Ok(())
    }

    /// Comes by a room; whether the user may see it.
    pub(super) async fn visit(&mut self, step: Step) -> sqlx::Result<bool> {
        if !self.seen.insert(step.room_id.clone()) {
            return Ok(false);
        }
        let room = match self.known.remove(&step.room_id) {
            Some(Known::Hidden) => None,
            Some(Known::Visible(summary, snapshot)) => {
                let mut children = Vec::new();
                if is_space(&summary) {
                    let directory = self.directory;
                    children = directory.children(snapshot, self.suggested_only).await?;
                }
                let summary = *summary;
                Some(SpaceRoom { summary, children })
            }
            None if self.closed.contains(&step.room_id) => None,
            None => self.ask(&step).await?,
        };
        let Some(room) = room else { return Ok(false) };
        if step.depth < self.max_depth {
            let ids: Vec<OwnedRoomId> = room.children.iter().map(|c| c.room_id.clone()).collect();
            self.load(&ids).await?;
            self.ahead
                .extend(room.children.iter().rev().map(|child| Step {
                    room_id: child.room_id.clone(),
                    via: child.via.clone(),
                    depth: step.depth + 1,
                }));
        }
        self.count += 1;
        if self.count > self.skip && !self.is_full() {
            self.out.push(room);
        }
        Ok(true)
    }

    /// Asks other servers about a room that this one is not in.
    async fn ask(&mut self, step: &Step) -> sqlx::Result<Option<SpaceRoom>> {
        let room = match self.told.remove(&step.room_id) {
            Some(summary) if !is_space(&summary) => SpaceRoom {
                summary,
                children: Vec::new(),
            },
            _ => {
                let directory = self.directory;
                let via: Vec<OwnedServerName> = step
                    .via
                    .iter()
                    .filter(|server| !directory.is_ours(server))
                    .cloned()
                    .collect();
                let space = directory
                    .remote
                    .space(&step.room_id, &via, self.suggested_only);
                let Ok(Some(space)) = timeout_at(self.deadline, space).await else {
                    return Ok(None);
                };
                // A server has a say in the children of this space alone.
                let children = space.room.children.iter();
                let children: HashSet<_> = children.map(|child| &child.room_id).collect();
                let closed = space.inaccessible.into_iter();
                self.closed
                    .extend(closed.filter(|room| children.contains(room)));
                for child in space.children {
                    self.told.insert(child.room_id.clone(), child);
                }
                let children = arranged(space.room.children, self.suggested_only);
                SpaceRoom {
                    summary: space.room.summary,
                    children,
                }
            }
        };
        let membership = self
            .directory
            .stored_membership(&step.room_id, Some(self.user))
            .await?;
        let known: [(&RoomSummary, &MembershipState); 1] = [(&room.summary, &membership)];
        let visible = self.directory.visible(&known, Some(self.user)).await?;
        Ok(visible.contains(&step.room_id).then_some(room))
    }

    pub(super) fn into_page(self, token: &Token) -> Hierarchy {
        let next = Token {
            skip: self.skip + self.limit,
            ..*token
        };
        Hierarchy {
            next_batch: self.is_full().then(|| next.to_string()),
            rooms: self.out,
        }
    }
}

fn is_space(summary: &RoomSummary) -> bool {
    summary.room_type == Some(RoomType::Space)
}
