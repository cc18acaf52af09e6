//! Walks through spaces.
//!
//! Client-Server API, "Discovering rooms within spaces".

use std::{
    collections::{HashMap, HashSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use hearth_core::{EventNid, SnapshotNid};
use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId,
    events::{StateEventType, room::member::MembershipState},
    room::{RoomSummary, RoomType},
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::Directory;
use crate::event::RoomEvent;

/// How many rooms a page has when the client does not say.
const DEFAULT_PAGE: u64 = 50;

/// How many rooms a page has at the most.
const LARGEST_PAGE: u64 = 100;

/// How deep a walk goes at the most.
const DEEPEST: u64 = 100;

/// How many children of a space are looked at.
const CHILDREN: usize = 1_000;

/// How many rooms one walk comes by at the most.
const LONGEST_WALK: usize = 10_000;

/// The longest valid `order`.
const LONGEST_ORDER: usize = 50;

/// Which part of a space somebody wants to see.
#[derive(Clone, Debug)]
pub struct HierarchyQuery {
    /// Where the walk begins.
    pub root: OwnedRoomId,
    /// Whether only suggested rooms are of interest.
    pub suggested_only: bool,
    /// How many rooms a page has.
    pub limit: Option<u64>,
    /// How deep to go.
    pub max_depth: Option<u64>,
    /// Where an earlier page ended.
    pub from: Option<String>,
}

/// A page of a walk through a space.
#[derive(Clone, Debug, Default)]
pub struct Hierarchy {
    /// The rooms.
    pub rooms: Vec<SpaceRoom>,
    /// Where the next page begins.
    pub next_batch: Option<String>,
}

/// A room with its children.
#[derive(Clone, Debug)]
pub struct SpaceRoom {
    /// The room.
    pub summary: RoomSummary,
    /// Its children in their order, if it is a space.
    pub children: Vec<SpaceChild>,
}

/// A child of a space.
#[derive(Clone, Debug)]
pub struct SpaceChild {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers that are in it.
    pub via: Vec<OwnedServerName>,
    /// Whether it is suggested.
    pub suggested: bool,
    /// `m.space.child`, stripped, with its time.
    pub json: Box<RawValue>,
    order: Option<String>,
    origin_server_ts: u64,
}

/// Why there is no walk.
#[derive(Debug, thiserror::Error)]
pub enum HierarchyError {
    /// The root does not exist for the user.
    #[error("you are not allowed to view this room")]
    Forbidden,
    /// A page has at least one room.
    #[error("`limit` must be greater than zero")]
    BadLimit,
    /// The token is not one of ours.
    #[error("the pagination token is not one of this server's")]
    BadToken,
    /// The token belongs to another walk.
    #[error("suggested_only and max_depth cannot change on paginated requests")]
    OtherWalk,
    /// The database failed.
    #[error("reading a space failed")]
    Storage(#[from] sqlx::Error),
}

#[derive(Deserialize)]
struct StrippedChild {
    #[serde(rename = "type")]
    kind: String,
    state_key: String,
    content: ChildContent,
    origin_server_ts: u64,
}

#[derive(Default, Deserialize)]
struct ChildContent {
    #[serde(default)]
    via: serde_json::Value,
    #[serde(default)]
    order: serde_json::Value,
    #[serde(default)]
    suggested: serde_json::Value,
}

#[derive(Serialize)]
struct Stripped<'a> {
    content: &'a RawValue,
    origin_server_ts: ruma::MilliSecondsSinceUnixEpoch,
    sender: &'a UserId,
    state_key: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

impl SpaceChild {
    /// Reads a stripped `m.space.child` event with its time; `None` when it names no child.
    #[must_use]
    pub fn parse(json: Box<RawValue>) -> Option<Self> {
        let event: StrippedChild = serde_json::from_str(json.get()).ok()?;
        if event.kind != "m.space.child" {
            return None;
        }
        let room_id = RoomId::parse(&event.state_key).ok()?;
        let via: Vec<OwnedServerName> = event
            .content
            .via
            .as_array()?
            .iter()
            .filter_map(|server| ServerName::parse(server.as_str()?).ok())
            .collect();
        if via.is_empty() {
            return None;
        }
        let order = event.content.order.as_str();
        let order = order.filter(|order| {
            order.len() <= LONGEST_ORDER && order.chars().all(|c| ('\x20'..='\x7E').contains(&c))
        });
        Some(Self {
            room_id,
            via,
            suggested: event.content.suggested.as_bool().unwrap_or(false),
            order: order.map(ToOwned::to_owned),
            origin_server_ts: event.origin_server_ts,
            json,
        })
    }

    fn of(event: &RoomEvent) -> Option<Self> {
        let stripped = Stripped {
            content: &event.pdu.content,
            origin_server_ts: event.pdu.origin_server_ts,
            sender: &event.pdu.sender,
            state_key: event.pdu.state_key.as_deref()?,
            kind: "m.space.child",
        };
        Self::parse(to_raw_value(&stripped).ok()?)
    }

    /// Children with an order come first, in that order; then the older ones.
    fn rank(&self) -> (bool, Option<&str>, u64, &RoomId) {
        let order = self.order.as_deref();
        (order.is_none(), order, self.origin_server_ts, &self.room_id)
    }
}

/// Puts the children of a space into their order and drops what is not of interest.
fn arranged(mut children: Vec<SpaceChild>, suggested_only: bool) -> Vec<SpaceChild> {
    children.retain(|child| child.suggested || !suggested_only);
    children.sort_by(|a, b| a.rank().cmp(&b.rank()));
    children.truncate(CHILDREN);
    children
}

impl Directory {
    /// A page of a walk through a space, depth first, as `user` may see it.
    ///
    /// # Errors
    ///
    /// See [`HierarchyError`].
    pub async fn hierarchy(
        &self,
        query: &HierarchyQuery,
        user: &UserId,
    ) -> Result<Hierarchy, HierarchyError> {
        let token = Token::of(query)?;
        let limit = match query.limit {
            Some(0) => return Err(HierarchyError::BadLimit),
            limit => limit.unwrap_or(DEFAULT_PAGE).min(LARGEST_PAGE),
        };
        let mut walk = Walk::new(self, user, &token, limit);
        walk.load(&[query.root.clone()]).await?;
        let root = Step {
            room_id: query.root.clone(),
            via: Vec::new(),
            depth: 0,
        };
        if !walk.visit(root).await? {
            return Err(HierarchyError::Forbidden);
        }
        while !walk.is_full()
            && walk.seen.len() < LONGEST_WALK
            && let Some(step) = walk.ahead.pop()
        {
            walk.visit(step).await?;
        }
        Ok(walk.into_page(&token))
    }

    /// The children of a space of ours, in their order.
    async fn children(
        &self,
        snapshot: SnapshotNid,
        suggested_only: bool,
    ) -> sqlx::Result<Vec<SpaceChild>> {
        let snapshot = self.rooms.snapshot(snapshot).await?;
        let keys: Vec<_> = snapshot.map.keys().copied().collect();
        let names = self.rooms.interner().state_key_names(&keys).await?;
        let kind = StateEventType::SpaceChild.to_string();
        let nids: Vec<EventNid> = names
            .iter()
            .filter(|(_, name)| name.0 == kind)
            .filter_map(|(key, _)| snapshot.get(*key))
            .collect();
        let events = self.rooms.events().map(nids).await?;
        let children = events
            .values()
            .filter_map(|event: &Arc<RoomEvent>| SpaceChild::of(event));
        Ok(arranged(children.collect(), suggested_only))
    }
}

/// A room that the walk will come by.
struct Step {
    room_id: OwnedRoomId,
    via: Vec<OwnedServerName>,
    depth: u64,
}

/// What this server knows of a room ahead.
enum Known {
    /// The user may see it.
    Visible(RoomSummary, SnapshotNid),
    /// The user may not.
    Hidden,
}

/// A walk under way.
struct Walk<'a> {
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
    known: HashMap<OwnedRoomId, Known>,
    /// What other servers said of rooms that are no spaces.
    told: HashMap<OwnedRoomId, RoomSummary>,
    out: Vec<SpaceRoom>,
}

impl<'a> Walk<'a> {
    fn new(directory: &'a Directory, user: &'a UserId, token: &Token, limit: u64) -> Self {
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
            known: HashMap::new(),
            told: HashMap::new(),
            out: Vec::new(),
        }
    }

    /// One room more than fits has been found: the page is full, and there is a next one.
    fn is_full(&self) -> bool {
        self.count > self.skip + self.limit
    }

    /// Looks at rooms ahead all at once.
    async fn load(&mut self, room_ids: &[OwnedRoomId]) -> sqlx::Result<()> {
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
            let known = match visible.contains(&room_id) {
                true => Known::Visible(found.summary, found.snapshot),
                false => Known::Hidden,
            };
            self.known.insert(room_id, known);
        }
        Ok(())
    }

    /// Comes by a room; whether the user may see it.
    async fn visit(&mut self, step: Step) -> sqlx::Result<bool> {
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
                Some(SpaceRoom { summary, children })
            }
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
                let Some(space) = space.await else {
                    return Ok(None);
                };
                self.seen.extend(space.inaccessible);
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

    fn into_page(self, token: &Token) -> Hierarchy {
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

/// A page of a walk: `h1_<rooms before>_<max_depth or x>_<0 or 1>`.
///
/// It says how many rooms came before instead of naming something that the server would have to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    skip: u64,
    max_depth: Option<u64>,
    suggested_only: bool,
}

impl Token {
    /// The page that a query asks for.
    fn of(query: &HierarchyQuery) -> Result<Self, HierarchyError> {
        let first = Self {
            skip: 0,
            max_depth: query.max_depth,
            suggested_only: query.suggested_only,
        };
        let Some(from) = &query.from else {
            return Ok(first);
        };
        let token: Self = from.parse()?;
        match (Self { skip: 0, ..token }) == first {
            true => Ok(token),
            false => Err(HierarchyError::OtherWalk),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suggested = u8::from(self.suggested_only);
        match self.max_depth {
            Some(depth) => write!(f, "h1_{}_{depth}_{suggested}", self.skip),
            None => write!(f, "h1_{}_x_{suggested}", self.skip),
        }
    }
}

impl FromStr for Token {
    type Err = HierarchyError;

    fn from_str(token: &str) -> Result<Self, HierarchyError> {
        let parts: Vec<&str> = token.split('_').collect();
        let ["h1", skip, depth, suggested] = parts[..] else {
            return Err(HierarchyError::BadToken);
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| HierarchyError::BadToken);
        let skip = number(skip)?;
        if usize::try_from(skip).is_ok_and(|skip| skip > LONGEST_WALK) {
            return Err(HierarchyError::BadToken);
        }
        Ok(Self {
            skip,
            max_depth: match depth {
                "x" => None,
                depth => Some(number(depth)?),
            },
            suggested_only: match suggested {
                "0" => false,
                "1" => true,
                _ => return Err(HierarchyError::BadToken),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn child(room_id: &str, ts: u64, content: &serde_json::Value) -> Option<SpaceChild> {
        let json = json!({
            "type": "m.space.child", "sender": "@a:b.c", "state_key": room_id,
            "origin_server_ts": ts, "content": content,
        });
        SpaceChild::parse(to_raw_value(&json).unwrap())
    }

    #[test]
    fn children_are_ordered_as_the_specification_says() {
        let via = json!(["b.c"]);
        let children = vec![
            child("!e:b.c", 3, &json!({ "via": via })),
            child("!c:b.c", 9, &json!({ "via": via, "order": "first" })),
            child("!d:b.c", 8, &json!({ "via": via, "order": "\u{1}" })),
            child("!a:b.c", 5, &json!({ "via": via, "order": "aaaa" })),
            child("!b:b.c", 7, &json!({ "via": via, "order": " " })),
        ];

        let children = arranged(children.into_iter().flatten().collect(), false);

        let order: Vec<_> = children.iter().map(|c| c.room_id.as_str()).collect();
        assert_eq!(order, ["!b:b.c", "!a:b.c", "!c:b.c", "!e:b.c", "!d:b.c"]);
    }

    #[test]
    fn a_child_without_servers_is_none() {
        assert!(child("!e:b.c", 3, &json!({})).is_none());
        assert!(child("!e:b.c", 3, &json!({ "via": [] })).is_none());
        assert!(child("!e:b.c", 3, &json!({ "via": "b.c" })).is_none());
        assert!(child("e", 3, &json!({ "via": ["b.c"] })).is_none());
    }

    #[test]
    fn a_token_survives_the_wire() {
        for max_depth in [None, Some(3)] {
            let token = Token {
                skip: 50,
                max_depth,
                suggested_only: true,
            };
            assert_eq!(token.to_string().parse::<Token>().ok(), Some(token));
        }
    }

    #[test]
    fn rubbish_is_refused() {
        for rubbish in [
            "",
            "h1_1_x",
            "h1_1_x_2",
            "h1_99999_x_0",
            "h2_1_x_0",
            "h1_a_x_0",
        ] {
            assert!(rubbish.parse::<Token>().is_err(), "{rubbish}");
        }
    }
}
