//! The rows that an adopted room becomes.

use std::{collections::HashMap, sync::Arc};

use hearth_core::{Pdu, Position, StateKeyNid, UserNid, words};
use hearth_store::{
    membership as membership_table, room as room_table, room_members, snapshot as snapshot_table,
    user_word,
    write::{Gap, MembershipRow, RoomWrite, SnapshotRow, Source, Write},
};
use ruma::{OwnedUserId, UserId, events::TimelineEventType};
use sqlx::{PgConnection, PgPool};

use super::Checked;
use crate::{
    Rooms,
    changes::{MemberContent, References, event_row},
    error::SendError,
    event::RoomEvent,
    room::Room,
    snapshot::Snapshot,
};

/// How many rows one statement writes.
const CHUNK: usize = 1_000;

/// Everything that is to be written, and the revision of the room that it was made for.
pub(super) struct Plan {
    pub revision: i64,
    /// The members from other servers.
    remote_members: Vec<MembershipRow>,
    /// From where on they are members: before the join, so that no reader sees the room without them.
    position: Position,
    /// The state before the join.
    before: SnapshotRow,
    pub write: RoomWrite,
    pub join: Arc<RoomEvent>,
    /// The state after the join.
    pub after: Arc<Snapshot>,
}

impl Plan {
    pub(super) async fn make(
        rooms: &Rooms,
        room: &Room,
        checked: &Checked,
    ) -> Result<Self, SendError> {
        let mut conn = rooms.pool().acquire().await?;
        let row = room_table::find(&mut conn, room.nid).await?;
        drop(conn);
        let row = row.ok_or(SendError::UnknownRoom)?;
        let old = match row.snapshot {
            Some(nid) => rooms.snapshots().get(nid).await?,
            None => Arc::new(Snapshot::empty()),
        };
        let nid = rooms.blocks().snapshot().await?;
        let (before, before_row) = old.successor(nid, room.nid, checked.map.clone());

        let pdu = &checked.join;
        let sender = rooms.interner().user(&pdu.sender).await?;
        let key = pdu.state_key.as_deref().unwrap_or_default();
        let key = rooms
            .interner()
            .state_key(&pdu.kind.to_string(), key)
            .await?;
        let refs = References {
            state_key: Some(key),
            auth: checked.auth.clone(),
            redacts: None,
        };
        let nid = rooms.blocks().event().await?;
        let mut join = event_row((room, nid), pdu, sender, &before, refs);
        join.source = Source::Received;

        let mut map = checked.map.clone();
        map.insert(key, join.nid);
        let nid = rooms.blocks().snapshot().await?;
        let (after, after_row) = before.successor(nid, room.nid, map);
        let members = Members::of(rooms, room, checked, (&old, &after)).await?;
        let gaps = pdu.prev_events.iter().map(|id| Gap {
            previous: id.to_string(),
            event: join.nid,
        });
        let mut memberships = members.ours;
        memberships.push(members.joined.into_row(room, Some(join.nid)));
        Ok(Self {
            revision: row.revision,
            remote_members: members.remote,
            position: rooms.journal().head(),
            before: before_row,
            join: Arc::new(RoomEvent::new(&join, pdu.clone()).after_gap()),
            after: Arc::new(after),
            write: RoomWrite {
                room: room.nid,
                expected_revision: row.revision,
                snapshots: vec![after_row],
                new_state: Some(nid),
                extremities_gone: row.extremities,
                extremities_new: vec![join.nid],
                memberships,
                transaction: None,
                redacted: Vec::new(),
                redactions_seen: Vec::new(),
                gaps: gaps.collect(),
                events: vec![join],
            },
        })
    }

    /// Makes the members from other servers findable. Not within the transaction: it would hold words for which a batch of
    /// the journal may wait.
    pub(super) async fn insert_words(&self, pool: &PgPool) -> sqlx::Result<()> {
        for chunk in self.remote_members.chunks(CHUNK) {
            let words = chunk
                .iter()
                .flat_map(|row| row.words.iter().map(|word| (row.user, word.as_str())));
            let (users, words): (Vec<UserNid>, Vec<&str>) = words.unzip();
            let mut conn = pool.acquire().await?;
            user_word::insert(&mut conn, &users, &words).await?;
        }
        Ok(())
    }

    /// Writes what needs no place in the log. The room's row is locked, and nobody writes the memberships of users of other
    /// servers without that lock: so the log's lock, which comes later, cannot be waited for by who holds these rows.
    pub(super) async fn insert_beforehand(&self, conn: &mut PgConnection) -> sqlx::Result<()> {
        snapshot_table::insert(conn, &[&self.before]).await?;
        for chunk in self.remote_members.chunks(CHUNK) {
            let placed = |row| membership_table::Placed {
                row,
                position: self.position,
                alone: false,
            };
            let rows: Vec<_> = chunk.iter().map(placed).collect();
            membership_table::upsert(conn, &rows).await?;
        }
        Ok(())
    }

    pub(super) fn into_write(self) -> Write {
        Write {
            room: Some(self.write),
            ..Write::default()
        }
    }
}

/// The memberships of a state and a join.
struct Members {
    /// Of users of other servers.
    remote: Vec<MembershipRow>,
    /// Of our users whose membership changes.
    ours: Vec<MembershipRow>,
    /// Of the user who joins.
    joined: Membership,
}

/// What a member event says.
struct Membership {
    user: UserNid,
    sender: UserNid,
    content: MemberContent,
}

impl Membership {
    fn into_row(self, room: &Room, event: Option<hearth_core::EventNid>) -> MembershipRow {
        MembershipRow {
            user: self.user,
            room: room.nid,
            membership: self.content.membership,
            event,
            sender: self.sender,
            stripped: None,
            forgotten: false,
            display_name: self.content.displayname,
            avatar_url: self.content.avatar_url,
            words: Vec::new(),
        }
    }
}

impl Members {
    async fn of(
        rooms: &Rooms,
        room: &Room,
        checked: &Checked,
        (old, new): (&Snapshot, &Snapshot),
    ) -> Result<Self, SendError> {
        let server = &rooms.identity().server_name;
        let state = checked.state.iter();
        let events: Vec<(&Arc<RoomEvent>, OwnedUserId)> = state
            .filter_map(|event| Some((event, member_of(&event.pdu)?)))
            .filter(|(_, user)| *user != checked.join.sender)
            .collect();
        let users = events.iter().map(|(_, user)| &**user);
        let users: Vec<&UserId> = users.chain([&*checked.join.sender]).collect();
        let mut nids: HashMap<OwnedUserId, UserNid> = HashMap::with_capacity(users.len());
        for chunk in users.chunks(CHUNK) {
            nids.extend(rooms.interner().users(chunk).await?);
        }
        let number = |user: &UserId| nids.get(user).copied().ok_or(sqlx::Error::RowNotFound);
        let (mut remote, mut ours) = (gone(rooms, room, old, new).await?, Vec::new());
        for (event, user) in &events {
            let Ok(content) = event.pdu.content_as() else {
                continue;
            };
            let membership = Membership {
                user: number(user)?,
                sender: event.sender,
                content,
            };
            let mut row = membership.into_row(room, Some(event.nid));
            if user.server_name() == server {
                ours.push(row);
                continue;
            }
            if row.membership == "join" {
                row.words = words::of_user(user, row.display_name.as_deref());
            }
            remote.push(row);
        }
        let joined = number(&checked.join.sender)?;
        Ok(Self {
            remote,
            ours: changed(rooms, room, ours).await?,
            joined: Membership {
                user: joined,
                sender: joined,
                content: checked.join.content_as()?,
            },
        })
    }
}

/// The user that a member event is about.
fn member_of(event: &Pdu) -> Option<OwnedUserId> {
    if event.kind != TimelineEventType::RoomMember {
        return None;
    }
    UserId::parse(event.state_key.as_deref()?).ok()
}

/// Those of our users' memberships that are not known: the users are told of them.
async fn changed(
    rooms: &Rooms,
    room: &Room,
    mut ours: Vec<MembershipRow>,
) -> sqlx::Result<Vec<MembershipRow>> {
    let users: Vec<UserNid> = ours.iter().map(|row| row.user).collect();
    let mut conn = rooms.pool().acquire().await?;
    let known = room_members::list_in_room(&mut conn, room.nid, &users).await?;
    drop(conn);
    let known: HashMap<UserNid, String> = known.into_iter().collect();
    ours.retain(|row| known.get(&row.user) != Some(&row.membership));
    Ok(ours)
}

/// Users of other servers whom the room as we knew it had, and whom the new state does not know: they are gone.
async fn gone(
    rooms: &Rooms,
    room: &Room,
    old: &Snapshot,
    new: &Snapshot,
) -> Result<Vec<MembershipRow>, SendError> {
    let lost: Vec<StateKeyNid> = old
        .changes_to(new)
        .filter_map(|(key, event)| event.is_none().then_some(key))
        .collect();
    let names = rooms.interner().state_key_names(&lost).await?;
    let member = TimelineEventType::RoomMember.to_string();
    let ours = &rooms.identity().server_name;
    let users: Vec<OwnedUserId> = names
        .values()
        .filter(|name| name.0 == member)
        .filter_map(|name| UserId::parse(&name.1).ok())
        .filter(|user| user.server_name() != ours)
        .collect();
    let users: Vec<&UserId> = users.iter().map(AsRef::as_ref).collect();
    let nids = rooms.interner().users(&users).await?;
    let rows = nids.into_values().map(|user| MembershipRow {
        user,
        room: room.nid,
        membership: "leave".to_owned(),
        event: None,
        sender: user,
        stripped: None,
        forgotten: false,
        display_name: None,
        avatar_url: None,
        words: Vec::new(),
    });
    Ok(rows.collect())
}
