//! From the log to the servers that have to hear.

use std::collections::{BTreeSet, HashMap};

use hearth_core::{DestinationNid, EventNid, Position, RoomNid};
use hearth_journal::{Consumer, Due, Entry, Kind, Lead, Moved};
use hearth_rooms::{Room, RoomEvent, membership_of};
use hearth_store::{
    destination,
    lease::Held,
    outbox::{self, Addressed, Bounds},
};
use ruma::{
    OwnedServerName, ServerName, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use tokio::sync::Notify;

use super::Outbound;

/// How many events of one room wait for a server, and for one that fails.
pub(super) const WAITING: Bounds = Bounds {
    healthy: 1_000,
    failing: 10,
};

/// How many servers that wait are read at once.
const WAKE_PAGE: i64 = 1_000;

impl Consumer for Outbound {
    fn lead(&self) -> &Lead {
        &self.0.lead
    }

    fn sooner(&self) -> &Notify {
        &self.0.retry
    }

    async fn begin(&self, head: Position) -> sqlx::Result<Position> {
        let mut conn = self.0.parts.pool.acquire().await?;
        let stored = destination::find_cursor(&mut conn, head).await?;
        drop(conn);
        self.wake_waiting().await?;
        Ok(stored)
    }

    /// Other processes note messages to devices down, and cannot wake anybody here.
    async fn look_around(&self) -> sqlx::Result<()> {
        if self.0.lead.has_companions() {
            self.wake_waiting().await?;
        }
        Ok(())
    }

    /// Notes our users' events down for their destinations.
    async fn take_in(
        &self,
        entries: &[Entry],
        (since, end): (Position, Position),
    ) -> sqlx::Result<Moved> {
        let addressed = self.address(entries).await?;
        let moved = match addressed.is_empty() {
            true => Moved::No,
            false => {
                self.append(addressed, end).await?;
                Moved::Yes
            }
        };
        if let Err(error) = self.tell_of_reading(entries, since).await {
            // They are short-lived: nothing is noted down a second time for them.
            tracing::debug!("receipts could not be told: {error}");
        }
        Ok(moved)
    }

    async fn store(&self, end: Position) -> sqlx::Result<Held> {
        let mut conn = self.0.parts.pool.acquire().await?;
        let (lease, holder) = (self.0.lead.name(), self.0.lead.holder());
        destination::update_cursor(&mut conn, end, lease, holder).await
    }

    async fn wake_due(&self, now: i64, limit: i64) -> sqlx::Result<Due> {
        let mut conn = self.0.parts.pool.acquire().await?;
        let due = destination::list_due(&mut conn, now, limit).await?;
        let next = destination::find_next_retry(&mut conn, now).await?;
        drop(conn);
        for (nid, server) in &due {
            self.0.failing.invalidate(nid);
            self.wake(*nid, server);
        }
        Ok(Due {
            found: due.len(),
            next,
        })
    }
}

impl Outbound {
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

    /// Tells other servers of the receipts in `entries`, which came after `since`.
    async fn tell_of_reading(&self, entries: &[Entry], since: Position) -> sqlx::Result<()> {
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
