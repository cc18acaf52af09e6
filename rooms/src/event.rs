//! Stored events in memory.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use hearth_core::{EventNid, Pdu, RoomNid, SnapshotNid, StateKeyNid, UserNid, pdu::PduError};
use hearth_store::{event, write::Status};
use moka::future::Cache;
use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UserId,
    canonical_json::redact_in_place, events::TimelineEventType,
    room_version_rules::RoomVersionRules, state_res,
};
use serde_json::value::RawValue;
use sqlx::PgPool;

/// How many bytes of events the cache may hold.
const CACHED_BYTES: u64 = 256 * 1024 * 1024;

/// How many ids the cache of event numbers may hold.
const CACHED_IDS: u64 = 200_000;

/// An event with what the database knows of it. When it is redacted, the PDU is what the redaction left.
#[derive(Debug)]
pub struct RoomEvent {
    /// Its number.
    pub nid: EventNid,
    /// The room.
    pub room: RoomNid,
    /// Who sent it.
    pub sender: UserNid,
    /// Present on state events.
    pub state_key: Option<StateKeyNid>,
    /// The state before it; `None` for outliers.
    pub snapshot: Option<SnapshotNid>,
    /// Its auth events.
    pub auth: Vec<EventNid>,
    /// What the checks said.
    pub status: Status,
    /// The redaction that applies to it.
    pub redaction: Option<Arc<RoomEvent>>,
    /// The event itself.
    pub pdu: Pdu,
    /// Whether events right before it were missing here when it was read.
    pub after_gap: bool,
    /// Its place in the timeline: set when its commit is known.
    stream_order: OnceLock<i64>,
}

impl RoomEvent {
    /// An event that is about to be written: it has no place yet.
    pub(crate) fn new(row: &hearth_store::write::EventRow, pdu: Pdu) -> Self {
        Self {
            nid: row.nid,
            room: row.room,
            sender: row.sender,
            state_key: row.state_key,
            snapshot: row.snapshot,
            auth: row.auth.clone(),
            status: row.status,
            redaction: None,
            pdu,
            after_gap: false,
            stream_order: OnceLock::new(),
        }
    }

    /// A state event of a room that this server is not in: it has no number and no place, and nobody checked it.
    pub(crate) fn outside(room: RoomNid, sender: UserNid, pdu: Pdu) -> Self {
        Self {
            nid: EventNid(0),
            room,
            sender,
            state_key: None,
            snapshot: None,
            auth: Vec::new(),
            status: Status::Accepted,
            redaction: None,
            pdu,
            after_gap: false,
            stream_order: OnceLock::new(),
        }
    }

    /// The event as one before which others are missing.
    pub(crate) fn after_gap(mut self) -> Self {
        self.after_gap = true;
        self
    }

    /// Its place in the timeline: the log position for live events, negative for backfilled ones, `None` for outliers and
    /// events that clients do not see.
    #[must_use]
    pub fn stream_order(&self) -> Option<i64> {
        self.stream_order.get().copied()
    }

    /// The event as a redaction would leave it.
    ///
    /// # Errors
    ///
    /// When the stored event is no event.
    pub fn stripped(&self, rules: &RoomVersionRules) -> sqlx::Result<Self> {
        let pdu = redacted(self.pdu.event_id.clone(), &self.pdu.json, rules)
            .map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(Self {
            nid: self.nid,
            room: self.room,
            sender: self.sender,
            state_key: self.state_key,
            snapshot: self.snapshot,
            auth: self.auth.clone(),
            status: self.status,
            redaction: self.redaction.clone(),
            pdu,
            after_gap: self.after_gap,
            stream_order: self.stream_order.clone(),
        })
    }

    /// Tells an event that was just committed its place.
    pub(crate) fn place(&self, order: i64) {
        self.stream_order.get_or_init(|| order);
    }

    /// Whether it passed all checks.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.status == Status::Accepted
    }
}

impl state_res::Event for RoomEvent {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.pdu.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        state_res::Event::room_id(&self.pdu)
    }

    fn sender(&self) -> &UserId {
        &self.pdu.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.pdu.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.pdu.kind
    }

    fn content(&self) -> &RawValue {
        &self.pdu.content
    }

    fn state_key(&self) -> Option<&str> {
        self.pdu.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.pdu.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.pdu.auth_events.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.pdu.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.status == Status::Rejected
    }
}

/// Reads events and keeps them.
#[derive(Clone, Debug)]
pub struct Events {
    pool: PgPool,
    cache: Cache<EventNid, Arc<RoomEvent>>,
    ids: Cache<OwnedEventId, EventNid>,
    /// Counts what was forgotten: what was read before that is not kept.
    forgotten: Arc<AtomicU64>,
}

impl Events {
    /// Reads from `pool`.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let cache = Cache::builder()
            .max_capacity(CACHED_BYTES)
            .weigher(|_, event: &Arc<RoomEvent>| {
                u32::try_from(event.pdu.json.get().len() * 2 + 600).unwrap_or(u32::MAX)
            })
            .build();
        Self {
            pool,
            cache,
            ids: Cache::new(CACHED_IDS),
            forgotten: Arc::default(),
        }
    }

    /// The event with this number.
    ///
    /// # Errors
    ///
    /// When the database fails, or has no such event.
    pub async fn get(&self, nid: EventNid) -> sqlx::Result<Arc<RoomEvent>> {
        if let Some(event) = self.cache.get(&nid).await {
            return Ok(event);
        }
        let mut found = self.load(vec![nid]).await?;
        found.remove(&nid).ok_or(sqlx::Error::RowNotFound)
    }

    /// Reads the events with these numbers; unknown ones are left out.
    pub fn map(
        &self,
        nids: impl IntoIterator<Item = EventNid>,
    ) -> impl Future<Output = sqlx::Result<HashMap<EventNid, Arc<RoomEvent>>>> + Send {
        // Collected here, since an iterator that lives across an await makes the futures of handlers unprovably `Send`.
        self.read_all(nids.into_iter().collect())
    }

    async fn read_all(
        &self,
        nids: Vec<EventNid>,
    ) -> sqlx::Result<HashMap<EventNid, Arc<RoomEvent>>> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        for nid in nids {
            match self.cache.get(&nid).await {
                Some(event) => {
                    found.insert(nid, event);
                }
                None => missing.push(nid),
            }
        }
        if !missing.is_empty() {
            found.extend(self.load(missing).await?);
        }
        Ok(found)
    }

    /// Reads events that have a place; one that was an outlier when it was read is read again.
    pub(crate) async fn placed(
        &self,
        nids: Vec<EventNid>,
    ) -> sqlx::Result<HashMap<EventNid, Arc<RoomEvent>>> {
        let mut found = self.read_all(nids).await?;
        let outdated = found.values().filter(|event| event.snapshot.is_none());
        let outdated: Vec<EventNid> = outdated.map(|event| event.nid).collect();
        if !outdated.is_empty() {
            found.extend(self.load(outdated).await?);
        }
        Ok(found)
    }

    /// The event if it is in memory.
    pub async fn cached(&self, nid: EventNid) -> Option<Arc<RoomEvent>> {
        self.cache.get(&nid).await
    }

    /// The numbers of those of `event_ids` that are stored.
    pub async fn nids(
        &self,
        event_ids: &[&EventId],
    ) -> sqlx::Result<HashMap<OwnedEventId, EventNid>> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        for id in event_ids {
            match self.ids.get(*id).await {
                Some(nid) => {
                    found.insert((*id).to_owned(), nid);
                }
                None => missing.push(id.as_str()),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let mut conn = self.pool.acquire().await?;
        for (id, nid) in event::list_nids(&mut conn, &missing).await? {
            let id = EventId::parse(id).map_err(|error| sqlx::Error::Decode(error.into()))?;
            self.ids.insert(id.clone(), nid).await;
            found.insert(id, nid);
        }
        Ok(found)
    }

    /// Remembers an event that is committed or about to be.
    pub(crate) async fn remember(&self, event: Arc<RoomEvent>) {
        self.cache.insert(event.nid, event).await;
    }

    /// Forgets an event because it did not commit, or because it was redacted.
    pub(crate) async fn forget(&self, nid: EventNid) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.cache.invalidate(&nid).await;
    }

    /// Forgets everything: the numbers may mean something else now.
    pub(crate) fn forget_all(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.cache.invalidate_all();
        self.ids.invalidate_all();
    }

    async fn load(&self, nids: Vec<EventNid>) -> sqlx::Result<HashMap<EventNid, Arc<RoomEvent>>> {
        let forgotten = self.forgotten.load(Ordering::Acquire);
        let mut conn = self.pool.acquire().await?;
        let rows = event::list(&mut conn, &nids).await?;
        let redactions: HashSet<EventNid> = rows.iter().filter_map(|row| row.redacted_by).collect();
        let redactions: Vec<EventNid> = redactions.into_iter().collect();
        let redaction_rows = match redactions.as_slice() {
            [] => Vec::new(),
            redactions => event::list(&mut conn, redactions).await?,
        };
        drop(conn);

        let mut redactions = HashMap::new();
        for row in redaction_rows {
            redactions.insert(row.nid, Arc::new(read(row, None)?));
        }
        let mut found = HashMap::new();
        for row in rows {
            let redaction = row
                .redacted_by
                .and_then(|nid| redactions.get(&nid).cloned());
            let event = Arc::new(read(row, redaction)?);
            self.cache.insert(event.nid, Arc::clone(&event)).await;
            found.insert(event.nid, event);
        }
        if self.forgotten.load(Ordering::Acquire) != forgotten {
            // One of them may have been redacted since it was read.
            for nid in found.keys() {
                self.cache.invalidate(nid).await;
            }
        }
        Ok(found)
    }
}

/// Makes an event of its row, redacted if it is.
fn read(row: event::Stored, redaction: Option<Arc<RoomEvent>>) -> sqlx::Result<RoomEvent> {
    let corrupt = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
    let rules = &crate::version::rules(&row.version)?;
    let event_id = EventId::parse(&row.event_id).map_err(|error| corrupt(error.into()))?;
    let json = RawValue::from_string(row.json).map_err(|error| corrupt(error.into()))?;
    let pdu = match redaction {
        Some(_) => redacted(event_id, &json, rules),
        None => Pdu::parse(event_id, json, rules),
    }
    .map_err(|error| corrupt(error.into()))?;
    Ok(RoomEvent {
        nid: row.nid,
        room: row.room,
        sender: row.sender,
        state_key: row.state_key,
        snapshot: row.snapshot,
        auth: row.auth,
        status: match row.status {
            0 => Status::Accepted,
            1 => Status::SoftFailed,
            _ => Status::Rejected,
        },
        redaction,
        pdu,
        after_gap: row.after_gap,
        stream_order: row.stream_order.map_or_else(OnceLock::new, OnceLock::from),
    })
}

/// What a redaction leaves of an event.
fn redacted(
    event_id: OwnedEventId,
    json: &RawValue,
    rules: &RoomVersionRules,
) -> Result<Pdu, PduError> {
    let mut object: CanonicalJsonObject = serde_json::from_str(json.get())?;
    redact_in_place(&mut object, &rules.redaction, None)
        .map_err(|_| PduError::Missing("redactable content"))?;
    let json = RawValue::from_string(serde_json::to_string(&object)?)?;
    Pdu::parse(event_id, json, rules)
}
