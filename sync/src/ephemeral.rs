//! What is not in the timeline: receipts and typing of rooms, and the presence of users.

use std::collections::{BTreeMap, HashMap, HashSet};

use hearth_core::{Position, RoomNid, UserNid, token::StreamToken};
use hearth_store::receipt;
use hearth_users::presence::Status;
use ruma::OwnedUserId;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{filter, plan::Plan, service::Sync, view::View};

/// How many receipts one response carries at the most, the newest ones.
const RECEIPTS: i64 = 50_000;

/// Ephemeral events by room, as JSON.
pub(crate) type ByRoom = HashMap<RoomNid, Vec<Box<RawValue>>>;

/// An event that is made here.
#[derive(Debug, Serialize)]
struct Event<C> {
    content: C,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<OwnedUserId>,
    #[serde(rename = "type")]
    kind: &'static str,
}

fn raw<C: Serialize>(kind: &'static str, sender: Option<OwnedUserId>, content: C) -> Box<RawValue> {
    let event = Event {
        content,
        sender,
        kind,
    };
    to_raw_value(&event).expect("maps with string keys serialize")
}

#[derive(Debug, Serialize)]
struct Receipt {
    ts: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<String>,
}

/// event id → kind → user → receipt
type ReceiptContent = BTreeMap<String, BTreeMap<String, BTreeMap<OwnedUserId, Receipt>>>;

/// The events of a room's receipts. One has room for one receipt of a user at an event; who read the same event in
/// several threads needs more.
#[derive(Debug, Default)]
struct ReceiptEvents(Vec<ReceiptContent>);

impl ReceiptEvents {
    fn add(&mut self, event_id: String, kind: String, user: &OwnedUserId, receipt: Receipt) {
        let has = |content: &ReceiptContent| {
            let users = content.get(&event_id).and_then(|kinds| kinds.get(&kind));
            users.is_some_and(|users| users.contains_key(user))
        };
        let free = self.0.iter().position(|content| !has(content));
        let place = free.unwrap_or_else(|| {
            self.0.push(ReceiptContent::new());
            self.0.len() - 1
        });
        let kinds = self.0[place].entry(event_id).or_default();
        kinds.entry(kind).or_default().insert(user.clone(), receipt);
    }
}

/// The rooms whose receipts changed, with the events, and whether the user's own are among them.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    pub events: ByRoom,
    /// Rooms in which the user read something: the counts of unread events differ.
    pub own: HashSet<RoomNid>,
}

/// The receipts that are new to the client.
pub(crate) async fn receipts(sync: &Sync, view: &View<'_>, plan: &Plan) -> sqlx::Result<Receipts> {
    let rows = new_receipts(sync, view, plan).await?;
    let users: Vec<UserNid> = rows.iter().map(|row| row.user).collect();
    let users = sync.rooms().interner().user_ids(&users).await?;
    let mut own = HashSet::new();
    let mut contents: HashMap<RoomNid, ReceiptEvents> = HashMap::new();
    for row in rows {
        if row.user == view.receiver.user {
            own.insert(row.room);
        }
        let Some(user) = users.get(&row.user) else {
            continue;
        };
        let receipt = Receipt {
            ts: row.ts,
            thread_id: Some(row.thread).filter(|thread| !thread.is_empty()),
        };
        let of_room = contents.entry(row.room).or_default();
        of_room.add(row.event_id, row.kind, user, receipt);
    }
    let mut events = ByRoom::new();
    if view.filter.ephemeral.matches_type("m.receipt") {
        for (room, content) in contents {
            let contents = content.0.into_iter();
            let of_room = contents.map(|content| raw("m.receipt", None, content));
            events.insert(room, of_room.collect());
        }
    }
    Ok(Receipts { events, own })
}

/// All receipts of rooms that are new to the client, and what changed in the others.
async fn new_receipts(
    sync: &Sync,
    view: &View<'_>,
    plan: &Plan,
) -> sqlx::Result<Vec<receipt::Stored>> {
    let fresh = plan.joined.iter().filter(|wanted| wanted.from.is_none());
    let fresh: HashSet<RoomNid> = fresh.map(|wanted| wanted.room.nid).collect();
    let mut rows = Vec::new();
    if let Some(since) = view.since {
        let known = plan.all_joined.difference(&fresh);
        let moved = sync.hub().moved_all(known.map(|room| (*room, since)));
        let moved = moved.into_iter().filter(|(_, moved)| moved.receipts);
        let moved: Vec<RoomNid> = moved.map(|(room, _)| room).collect();
        rows.extend(list(sync, view, &moved, since).await?);
    }
    let fresh: Vec<RoomNid> = fresh.into_iter().collect();
    rows.extend(list(sync, view, &fresh, Position(0)).await?);
    Ok(rows)
}

async fn list(
    sync: &Sync,
    view: &View<'_>,
    rooms: &[RoomNid],
    from: Position,
) -> sqlx::Result<Vec<receipt::Stored>> {
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    let mut conn = sync.pool().acquire().await?;
    let user = view.receiver.user;
    receipt::list(&mut conn, rooms, user, from, view.to, RECEIPTS).await
}

#[derive(Serialize)]
struct TypingContent {
    user_ids: Vec<OwnedUserId>,
}

/// Who types in the rooms where that changed.
pub(crate) async fn typing(
    sync: &Sync,
    view: &View<'_>,
    token: Option<&StreamToken>,
    plan: &Plan,
) -> sqlx::Result<ByRoom> {
    let filter = &view.filter.ephemeral;
    if !filter.matches_type("m.typing") {
        return Ok(ByRoom::new());
    }
    let ephemeral = sync.ephemeral();
    let known = token.filter(|token| ephemeral.remembers(token.incarnation, token.ephemeral));
    let mut rooms: HashMap<RoomNid, Vec<UserNid>> = HashMap::new();
    match known {
        Some(token) => {
            if token.ephemeral < ephemeral.counter() {
                let changed = sync.typing().changed_since(token.ephemeral).into_iter();
                rooms.extend(changed.map(|room| (room, sync.typing().in_room(room))));
            }
            for wanted in plan.joined.iter().filter(|wanted| wanted.from.is_none()) {
                let typing = sync.typing().in_room(wanted.room.nid);
                if !typing.is_empty() {
                    rooms.insert(wanted.room.nid, typing);
                }
            }
        }
        None => {
            let all = plan.all_joined.iter();
            let all = all.map(|room| (*room, sync.typing().in_room(*room)));
            // A client that saw somebody type has to hear that nobody does any more.
            rooms.extend(all.filter(|(_, typing)| !typing.is_empty() || token.is_some()));
        }
    }
    rooms.retain(|room, _| plan.all_joined.contains(room));
    let users: Vec<UserNid> = rooms.values().flatten().copied().collect();
    let ids = sync.rooms().interner().user_ids(&users).await?;
    let events = rooms.into_iter().map(|(room, users)| {
        let user_ids = users.iter().filter_map(|user| ids.get(user).cloned());
        let content = TypingContent {
            user_ids: user_ids.collect(),
        };
        (room, vec![raw("m.typing", None, content)])
    });
    Ok(events.collect())
}

#[derive(Serialize)]
struct PresenceContent {
    presence: ruma::presence::PresenceState,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_msg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_active_ago: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currently_active: Option<bool>,
}

/// The presence of users that changed, and of those whom the user meets now.
pub(crate) async fn presence(
    sync: &Sync,
    view: &View<'_>,
    token: Option<&StreamToken>,
    met: &[UserNid],
) -> sqlx::Result<Vec<Box<RawValue>>> {
    if !view.filter.presence.matches_type("m.presence") {
        return Ok(Vec::new());
    }
    let ephemeral = sync.ephemeral();
    let known = token.filter(|token| ephemeral.remembers(token.incarnation, token.ephemeral));
    let counter = known.map_or(0, |token| token.ephemeral);
    if met.is_empty() && known.is_some() && counter >= ephemeral.counter() {
        return Ok(Vec::new());
    }
    let mut statuses: BTreeMap<UserNid, Status> = BTreeMap::new();
    statuses.extend(sync.presence().statuses(met));
    statuses.extend(sync.presence().changes(view.receiver.user, counter).await?);
    let users: Vec<UserNid> = statuses.keys().copied().collect();
    let ids = sync.rooms().interner().user_ids(&users).await?;
    let mut events = Vec::with_capacity(statuses.len());
    for (user, status) in statuses {
        let Some(id) = ids.get(&user).filter(|id| view.filter.wants_presence(id)) else {
            continue;
        };
        let ago = status.last_active_ago;
        let content = PresenceContent {
            presence: status.state,
            status_msg: status.status_msg,
            last_active_ago: ago.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
            currently_active: status.currently_active,
        };
        events.push(raw("m.presence", Some(id.clone()), content));
    }
    filter::cut(&view.filter.presence, &mut events);
    Ok(events)
}
