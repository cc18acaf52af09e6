//! From the log to the servers that have to hear.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use hearth_core::{DestinationNid, EventNid, Position, RoomNid};
use hearth_journal::{Announcement, Entry, Kind, Lead};
use hearth_rooms::{Room, RoomEvent, membership_of};
use hearth_store::{
    destination,
    lease::Held,
    log,
    outbox::{self, Addressed, Bounds},
};
use ruma::{
    OwnedServerName, ServerName, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use tokio::sync::broadcast::{self, error::RecvError};

use super::Outbound;

/// How many events of one room wait for a server, and for one that fails.
pub(super) const WAITING: Bounds = Bounds {
    healthy: 1_000,
    failing: 10,
};

/// How many entries of the log are read at once.
const PAGE: i64 = 1_000;

/// How far the cursor in the database may be behind when there was nothing to note down.
const LAZINESS: i64 = 1_000;

/// How many servers that wait are read at once.
const WAKE_PAGE: i64 = 1_000;

/// How far the log is noted down.
struct Cursor {
    /// All before is done.
    done: Position,
    /// What the database says.
    stored: Position,
}

impl Outbound {
    /// Notes the log's events down for their destinations, until the server stops.
    pub(super) async fn fan_out(self, mut news: broadcast::Receiver<Arc<Announcement>>) {
        let stop = self.0.parts.stop.clone();
        let mut renewals = tokio::time::interval(Lead::RENEWAL);
        let mut cursor = None;
        loop {
            let announced = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = renewals.tick() => {
                    self.renew(&mut cursor).await;
                    None
                }
                announced = news.recv() => match announced {
                    Ok(announcement) => Some(announcement),
                    Err(RecvError::Lagged(_)) => None,
                    Err(RecvError::Closed) => break,
                },
            };
            let Some(cursor) = cursor.as_mut().filter(|_| self.0.lead.is_ours()) else {
                continue;
            };
            if let Err(error) = self.follow(cursor, announced.as_deref()).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "events could not be noted down for other servers"
                );
            }
        }
        if let Some(cursor) = &cursor
            && self.0.lead.is_ours()
        {
            // What is done again after the next start is nothing but time.
            let _ = self.store(cursor.done).await;
        }
        self.0.lead.give_back().await;
    }

    /// Holds the lease; when it was just taken, goes on where its last holder ended.
    async fn renew(&self, cursor: &mut Option<Cursor>) {
        let begun = match self.0.lead.hold().await {
            Ok(is_new) if is_new || (cursor.is_none() && self.0.lead.is_ours()) => {
                self.begin().await
            }
            Ok(_) if self.0.lead.has_companions() => {
                // Other processes note messages to devices down, and cannot wake anybody here.
                if let Err(error) = self.wake_waiting().await {
                    tracing::debug!("what waits could not be read: {error}");
                }
                return;
            }
            Ok(_) => return,
            Err(error) => Err(error),
        };
        match begun {
            Ok(begun) => *cursor = Some(begun),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the lease for sending could not be held"
                );
            }
        }
    }

    async fn begin(&self) -> sqlx::Result<Cursor> {
        let (head, tail) = (self.0.parts.journal.head(), self.0.parts.journal.tail());
        let mut conn = self.0.parts.pool.acquire().await?;
        let stored = destination::find_cursor(&mut conn, head).await?;
        drop(conn);
        self.wake_waiting().await?;
        self.0.retry.notify_one();
        Ok(Cursor {
            done: stored.max(tail),
            stored,
        })
    }

    /// Begins to send to all servers for which something waits and that did not fail.
    async fn wake_waiting(&self) -> sqlx::Result<()> {
        let mut after = DestinationNid(0);
        loop {
            let mut conn = self.0.parts.pool.acquire().await?;
            let waiting = destination::list_waiting(&mut conn, after, WAKE_PAGE).await?;
            drop(conn);
            let Some((last, _)) = waiting.last() else {
                return Ok(());
            };
            after = *last;
            for (nid, server) in &waiting {
                self.wake(*nid, server);
            }
        }
    }

    /// Notes down what is after the cursor: what was announced, if that is what comes next, or else what the log says.
    async fn follow(
        &self,
        cursor: &mut Cursor,
        announced: Option<&Announcement>,
    ) -> sqlx::Result<()> {
        if let Some(announced) = announced {
            if announced.head <= cursor.done {
                return Ok(());
            }
            if announced.previous <= cursor.done {
                let new = announced.entries.iter();
                let new: Vec<Entry> = new
                    .filter(|entry| entry.position > cursor.done)
                    .copied()
                    .collect();
                return self.note_down(cursor, &new, announced.head).await;
            }
        }
        let head = self.0.parts.journal.head();
        while cursor.done < head {
            let mut conn = self.0.parts.pool.acquire().await?;
            let rows = log::list(&mut conn, cursor.done, head, PAGE).await?;
            drop(conn);
            let is_all = i64::try_from(rows.len()).is_ok_and(|count| count < PAGE);
            let end = rows
                .last()
                .filter(|_| !is_all)
                .map_or(head, |row| row.position);
            let entries: Vec<Entry> = rows.iter().filter_map(Entry::of).collect();
            self.note_down(cursor, &entries, end).await?;
        }
        Ok(())
    }

    async fn note_down(
        &self,
        cursor: &mut Cursor,
        entries: &[Entry],
        end: Position,
    ) -> sqlx::Result<()> {
        let addressed = self.address(entries).await?;
        if !addressed.is_empty() {
            self.append(addressed, end).await?;
            cursor.stored = end;
        } else if end.0 - cursor.stored.0 >= LAZINESS {
            self.store(end).await?;
            cursor.stored = end;
        }
        let since = std::mem::replace(&mut cursor.done, end);
        let receipts = entries.iter().filter(|entry| entry.kind == Kind::Receipt);
        let readers: BTreeSet<_> = receipts
            .filter_map(|entry| Some((entry.room?, entry.user?)))
            .collect();
        for (room, user) in readers {
            self.tell_receipts(room, user, since).await?;
        }
        Ok(())
    }

    /// Which servers get which of our users' events.
    async fn address(
        &self,
        entries: &[Entry],
    ) -> sqlx::Result<Vec<(OwnedServerName, RoomNid, EventNid)>> {
        let events = entries.iter().filter(|entry| entry.kind == Kind::Event);
        let nids: Vec<EventNid> = events.filter_map(|entry| entry.event).collect();
        if nids.is_empty() {
            return Ok(Vec::new());
        }
        let rooms = &self.0.parts.rooms;
        let events = rooms.events().map(nids.clone()).await?;
        let own = &self.0.parts.identity.server_name;
        let mut addressed = Vec::new();
        for nid in nids {
            let Some(event) = events.get(&nid) else {
                continue;
            };
            if event.pdu.sender.server_name() != own || !event.is_accepted() {
                continue;
            }
            let Some(room) = rooms.find_by_nid(event.room).await? else {
                continue;
            };
            for server in self.audience(&room, event).await? {
                addressed.push((server, event.room, nid));
            }
        }
        Ok(addressed)
    }

    /// The other servers that have to get an event: those in the room before it, so that a server that is thrown out
    /// sees that it is; and that of a user who is not in the room and is no longer invited, or is banned. None when this
    /// server was not in the room before: then another server that is in it took the event and passes it on.
    pub(super) async fn audience(
        &self,
        room: &Room,
        event: &RoomEvent,
    ) -> sqlx::Result<BTreeSet<OwnedServerName>> {
        let servers = self.0.parts.rooms.servers_before(room, event).await?;
        let mut servers: BTreeSet<OwnedServerName> = servers.into_iter().collect();
        let own = &self.0.parts.identity.server_name;
        if !servers.contains(own) {
            return Ok(BTreeSet::new());
        }
        servers.extend(subject(event).map(ToOwned::to_owned));
        servers.remove(own);
        Ok(servers)
    }

    /// Sends an event of another server's user that we let into the room, or let go, to those in the room.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn relay(
        &self,
        room: &Room,
        event: &RoomEvent,
        origin: &ServerName,
    ) -> sqlx::Result<()> {
        let mut audience = self.audience(room, event).await?;
        audience.remove(origin);
        let addressed: Vec<_> = audience
            .into_iter()
            .map(|server| (server, event.room, event.nid))
            .collect();
        if addressed.is_empty() {
            return Ok(());
        }
        let (servers, rows) = self.number(addressed).await?;
        let mut conn = self.0.parts.pool.acquire().await?;
        let now = self.0.parts.clock.millis();
        outbox::append(&mut conn, &rows, WAITING, now).await?;
        drop(conn);
        for (server, nid) in servers {
            self.wake(nid, &server);
        }
        Ok(())
    }

    async fn append(
        &self,
        addressed: Vec<(OwnedServerName, RoomNid, EventNid)>,
        end: Position,
    ) -> sqlx::Result<()> {
        let (servers, rows) = self.number(addressed).await?;
        let mut tx = self.0.parts.pool.begin().await?;
        let (lease, holder) = (self.0.lead.name(), self.0.lead.holder());
        if destination::update_cursor(&mut tx, end, lease, holder).await? == Held::No {
            self.0.lead.lose();
            return Err(sqlx::Error::Protocol("another process sends".into()));
        }
        let now = self.0.parts.clock.millis();
        outbox::append(&mut tx, &rows, WAITING, now).await?;
        tx.commit().await?;
        for (server, nid) in servers {
            self.wake(nid, &server);
        }
        Ok(())
    }

    async fn store(&self, end: Position) -> sqlx::Result<()> {
        let mut conn = self.0.parts.pool.acquire().await?;
        let (lease, holder) = (self.0.lead.name(), self.0.lead.holder());
        match destination::update_cursor(&mut conn, end, lease, holder).await? {
            Held::Yes => {}
            Held::No => self.0.lead.lose(),
        }
        Ok(())
    }

    async fn number(
        &self,
        addressed: Vec<(OwnedServerName, RoomNid, EventNid)>,
    ) -> sqlx::Result<(Vec<(OwnedServerName, DestinationNid)>, Vec<Addressed>)> {
        let names: BTreeSet<&ServerName> = addressed.iter().map(|(name, ..)| &**name).collect();
        let names: Vec<&ServerName> = names.into_iter().collect();
        let servers = self.numbers(&names).await?;
        let numbers: HashMap<_, _> = servers.iter().cloned().collect();
        let rows = addressed
            .iter()
            .filter_map(|(server, room, event)| {
                Some(Addressed {
                    destination: *numbers.get(server)?,
                    room: *room,
                    event: *event,
                })
            })
            .collect();
        Ok((servers, rows))
    }
}

/// The server of a user who leaves or is banned by an event.
fn subject(event: &RoomEvent) -> Option<&ServerName> {
    if event.pdu.kind != TimelineEventType::RoomMember {
        return None;
    }
    let user = <&UserId>::try_from(event.pdu.state_key.as_deref()?).ok()?;
    matches!(
        membership_of(event),
        MembershipState::Leave | MembershipState::Ban
    )
    .then(|| user.server_name())
}
