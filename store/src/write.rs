//! The rows of a journalled write, before the log has given them their positions.
//!
//! `journal/` takes these, gives each a position under the log's lock and hands them to the modules of the tables in
//! one statement per table. A row says `position` nowhere: it does not know it.

use hearth_core::{EventNid, RoomNid, SnapshotNid, StateKeyNid, UserNid};

/// Everything that one caller wants written together; it commits whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// At most one room's events and state.
    pub room: Option<RoomWrite>,
    /// Receipts, the last of each (room, user, kind, thread) wins.
    pub receipts: Vec<ReceiptRow>,
    /// Account data, the last of each (user, room, type) wins.
    pub account_data: Vec<AccountDataRow>,
    /// Messages to devices.
    pub to_device: Vec<ToDeviceRow>,
    /// Users whose device lists changed.
    pub device_lists: Vec<UserNid>,
    /// Memberships that come without an event of ours: invites to rooms that we are not in, forgotten rooms.
    pub memberships: Vec<MembershipRow>,
    /// Users who set or deleted pushers; the rows are the caller's.
    pub pushers: Vec<UserNid>,
}

/// New events of one room and what they change.
#[derive(Clone, Debug)]
pub struct RoomWrite {
    /// The room.
    pub room: RoomNid,
    /// The revision of the current state that the events were authorised against. When the room's row has another,
    /// the write is lost and the caller starts over.
    pub expected_revision: i64,
    /// The events in timeline order.
    pub events: Vec<EventRow>,
    /// Snapshots that the events or the new current state refer to, parents first.
    pub snapshots: Vec<SnapshotRow>,
    /// The new current state; raises the revision by one.
    pub new_state: Option<SnapshotNid>,
    /// Extremities that have successors now.
    pub extremities_gone: Vec<EventNid>,
    /// New extremities.
    pub extremities_new: Vec<EventNid>,
    /// Membership changes of the current state.
    pub memberships: Vec<MembershipRow>,
    /// The client transaction that made the (single) event.
    pub transaction: Option<TransactionRow>,
    /// Redactions that came before their targets: (target, redaction).
    pub redacted: Vec<(EventNid, EventNid)>,
    /// The redactions that were known to wait for received events of this write, whether they apply or not. When others
    /// wait by now, the write is lost.
    pub redactions_seen: Vec<EventNid>,
    /// Previous events of received events that have no place here.
    pub gaps: Vec<Gap>,
}

/// A row of `missing_previous`.
#[derive(Clone, Debug)]
pub struct Gap {
    /// The id of the event that has no place here.
    pub previous: String,
    /// The event that comes after it.
    pub event: EventNid,
}

/// How an event came to be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was made here: nobody else can store it.
    Made,
    /// It was received. Another process may have stored it meanwhile: then the write is a duplicate.
    Received,
    /// It is stored as an outlier and gets its place now, unless it has one meanwhile: then the write is a duplicate.
    Outlier,
}

/// Where an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Into the timeline, at the log position that it gets.
    Live,
    /// Into the timeline at this (negative) place, without a log entry.
    Backfilled(i64),
    /// Stored, but in no timeline.
    Outlier,
}

/// What the checks on receipt said of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum Status {
    /// It passed.
    Accepted = 0,
    /// It failed against the current state: no client sees it.
    SoftFailed = 1,
    /// It is rejected: nobody sees it.
    Rejected = 2,
}

/// A row of `event`, with its row of `relation` if it has one.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// Its number, from a block of the sequence.
    pub nid: EventNid,
    /// The room.
    pub room: RoomNid,
    /// `$…`
    pub event_id: String,
    /// Who sent it.
    pub sender: UserNid,
    /// The event type.
    pub kind: String,
    /// Present on state events.
    pub state_key: Option<StateKeyNid>,
    /// DAG depth.
    pub depth: i64,
    /// Milliseconds since the epoch.
    pub origin_server_ts: i64,
    /// How it came.
    pub source: Source,
    /// Where it goes.
    pub placement: Placement,
    /// The state before it; `None` for outliers.
    pub snapshot: Option<SnapshotNid>,
    /// Its auth events.
    pub auth: Vec<EventNid>,
    /// What the checks said.
    pub status: Status,
    /// The PDU.
    pub json: String,
    /// (parent event id, `rel_type`) of a relation.
    pub relation: Option<(String, String)>,
    /// The event that this one redacts, when the redaction is allowed; unknown targets wait in `pending_redaction`.
    pub redacts: Option<Redacts>,
}

/// The target of a redaction.
#[derive(Clone, Debug)]
pub enum Redacts {
    /// An event that is stored here.
    Known(EventNid),
    /// An event that has not come yet.
    Unknown(String),
}

/// A row of `snapshot`.
#[derive(Clone, Debug)]
pub struct SnapshotRow {
    /// Its number, from a block of the sequence.
    pub nid: SnapshotNid,
    /// The room.
    pub room: RoomNid,
    /// What the delta applies to.
    pub parent: Option<SnapshotNid>,
    /// How many parents there are.
    pub depth: i32,
    /// The packed changes.
    pub delta: Vec<u8>,
}

/// A row of `membership`.
#[derive(Clone, Debug)]
pub struct MembershipRow {
    /// Whose.
    pub user: UserNid,
    /// Where.
    pub room: RoomNid,
    /// `join`, `invite`, `knock`, `leave` or `ban`.
    pub membership: String,
    /// The member event, if it is stored here.
    pub event: Option<EventNid>,
    /// Who sent the member event.
    pub sender: UserNid,
    /// Stripped state for invites and knocks: a JSON array. For the end of one in a room that this server is not in: the
    /// member event.
    pub stripped: Option<String>,
    /// Whether the user forgot the room.
    pub forgotten: bool,
    /// From the member event.
    pub display_name: Option<String>,
    /// From the member event.
    pub avatar_url: Option<String>,
    /// By what the user directory finds the user from now on, too; nothing for our users, who have profiles.
    pub words: Vec<String>,
}

impl MembershipRow {
    /// Whether this row, which comes without an event of its own, was decided on before `newer` was there: nobody forgets
    /// a room that he has come back to, and no word of another server takes a user out of a room that he is in.
    #[must_use]
    pub fn is_overtaken_by(&self, newer: &Self) -> bool {
        if self.forgotten {
            newer.event != self.event || newer.membership != self.membership
        } else {
            self.event.is_none() && newer.membership == "join"
        }
    }
}

/// A row of `sent_event`.
#[derive(Clone, Debug)]
pub struct TransactionRow {
    /// Who sent.
    pub user: UserNid,
    /// From which device.
    pub device_id: String,
    /// `redact` or `send/<type>`.
    pub action: String,
    /// The client's transaction id.
    pub txn_id: String,
}

/// A row of `receipt`.
#[derive(Clone, Debug)]
pub struct ReceiptRow {
    /// Where.
    pub room: RoomNid,
    /// Whose.
    pub user: UserNid,
    /// `m.read` or `m.read.private`.
    pub kind: String,
    /// Empty (unthreaded), `main`, or the thread root's event id.
    pub thread: String,
    /// What was read.
    pub event_id: String,
    /// The event's stream order, if it is known here.
    pub stream_order: Option<i64>,
    /// When, in milliseconds since the epoch.
    pub ts: i64,
}

/// A row of `account_data`.
#[derive(Clone, Debug)]
pub struct AccountDataRow {
    /// Whose.
    pub user: UserNid,
    /// The room, or zero for the user's own.
    pub room: RoomNid,
    /// The event type.
    pub kind: String,
    /// The content, JSON.
    pub content: String,
}

/// A row of `to_device`.
#[derive(Clone, Debug)]
pub struct ToDeviceRow {
    /// Whose device.
    pub user: UserNid,
    /// Which device.
    pub device_id: String,
    /// The event as /sync shows it: `{"content":…,"sender":…,"type":…}`.
    pub message: String,
}
