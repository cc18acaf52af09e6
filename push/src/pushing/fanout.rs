//! From the log to the pushers that have something to tell.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, Position, PusherNid, RoomNid, UserNid};
use hearth_journal::{Announcement, Entry, Kind, Lead};
use hearth_rooms::{RoomEvent, membership_of};
use hearth_store::{
    lease::Held,
    log,
    push_queue::{self, Bounds, Told},
};
use ruma::{
    UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use tokio::sync::broadcast::{self, error::RecvError};

use super::Pushing;
use crate::evaluator::Viewer;

/// How many events wait for a pusher, and for one that fails.
pub(super) const WAITING: Bounds = Bounds {
    healthy: 100,
    failing: 10,
};

/// How many entries of the log are read at once, and about how many that were announced are worked through at once.
const PAGE: i64 = 1_000;
const TOGETHER: usize = 500;

/// How far the cursor in the database may be behind when there was nothing to note down.
const LAZINESS: i64 = 1_000;

/// How many pushers that wait are read at once.
const WAKE_PAGE: i64 = 1_000;

/// How far the log is noted down.
struct Cursor {
    /// All before is done.
    done: Position,
    /// What the database says.
    stored: Position,
}

/// What is to be noted down.
#[derive(Default)]
struct News {
    told: Vec<Told>,
    read: BTreeSet<UserNid>,
}

impl Pushing {
    /// Notes down what is to be told, until the server stops.
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
                    Vec::new()
                }
                announced = news.recv() => match announced {
                    Ok(announcement) => waiting(announcement, &mut news),
                    Err(RecvError::Lagged(_)) => Vec::new(),
                    Err(RecvError::Closed) => break,
                },
            };
            let Some(cursor) = cursor.as_mut().filter(|_| self.0.lead.is_ours()) else {
                continue;
            };
            if let Err(error) = self.follow(cursor, &announced).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "what is to be pushed could not be noted down"
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
            Ok(_) => return,
            Err(error) => Err(error),
        };
        match begun {
            Ok(begun) => *cursor = Some(begun),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the lease for pushing could not be held"
                );
            }
        }
    }

    async fn begin(&self) -> sqlx::Result<Cursor> {
        let (head, tail) = (self.0.parts.journal.head(), self.0.parts.journal.tail());
        let mut conn = self.0.parts.pool.acquire().await?;
        let stored = push_queue::find_cursor(&mut conn, head).await?;
        drop(conn);
        self.0.audience.begin().await?;
        self.wake_waiting().await?;
        self.0.retry.notify_one();
        Ok(Cursor {
            done: stored.max(tail),
            stored,
        })
    }

    /// Begins to tell for all pushers that have something to tell and did not fail.
    async fn wake_waiting(&self) -> sqlx::Result<()> {
        let mut after = PusherNid(0);
        loop {
            let mut conn = self.0.parts.pool.acquire().await?;
            let waiting = push_queue::list_waiting(&mut conn, after, WAKE_PAGE).await?;
            drop(conn);
            let Some(last) = waiting.last() else {
                return Ok(());
            };
            after = *last;
            for nid in waiting {
                self.wake(nid);
            }
        }
    }

    /// Notes down what is after the cursor: what was announced, if that is what comes next, or else what the log says.
    async fn follow(
        &self,
        cursor: &mut Cursor,
        announced: &[Arc<Announcement>],
    ) -> sqlx::Result<()> {
        if let (Some(first), Some(last)) = (announced.first(), announced.last()) {
            if last.head <= cursor.done {
                return Ok(());
            }
            if first.previous <= cursor.done {
                let new = announced.iter().flat_map(|one| one.entries.iter());
                let new: Vec<Entry> = new
                    .filter(|entry| entry.position > cursor.done)
                    .copied()
                    .collect();
                return self.note_down(cursor, &new, last.head).await;
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
        let set = self.0.audience.take_in(entries).await?;
        let mut news = News::default();
        if !self.0.audience.is_empty() {
            self.hear_events(entries, &mut news).await?;
            self.hear_of_users(entries, &mut news);
        }
        let mut woken = set;
        for nid in &woken {
            self.0.failing.invalidate(nid);
        }
        if !news.told.is_empty() || !news.read.is_empty() {
            woken.extend(self.append(&news, end).await?);
            cursor.stored = end;
        } else if end.0 - cursor.stored.0 >= LAZINESS {
            self.store(end).await?;
            cursor.stored = end;
        }
        cursor.done = end;
        for nid in woken {
            self.wake(nid);
        }
        Ok(())
    }

    /// Whom the rules tell of which event.
    async fn hear_events(&self, entries: &[Entry], news: &mut News) -> sqlx::Result<()> {
        let events = entries.iter().filter(|entry| entry.kind == Kind::Event);
        let events: Vec<&Entry> = events.collect();
        let rooms: HashSet<RoomNid> = events.iter().filter_map(|entry| entry.room).collect();
        let audience = self.0.audience.in_rooms(&rooms).await?;
        let heard = |entry: &&&Entry| {
            let room = entry.room.and_then(|room| audience.get(&room));
            room.is_some_and(|viewers| !viewers.is_empty())
                || entry.user.is_some_and(|user| self.0.audience.has(user))
        };
        let heard: Vec<&Entry> = events.iter().filter(heard).copied().collect();
        let nids = heard.iter().filter_map(|entry| entry.event);
        let stored = &self.0.parts.evaluator.rooms().events();
        let stored: HashMap<EventNid, Arc<RoomEvent>> = stored.map(nids).await?;
        let nids: Vec<RoomNid> = heard.iter().filter_map(|entry| entry.room).collect();
        let rooms = self.0.parts.evaluator.rooms().find_by_nids(&nids).await?;
        for entry in heard {
            let event = entry.event.and_then(|nid| stored.get(&nid));
            let room = entry.room.and_then(|nid| rooms.get(&nid));
            let (Some(event), Some(room)) = (event, room) else {
                continue;
            };
            if self.0.audience.has(event.sender) {
                // Who writes has read.
                news.read.insert(event.sender);
            }
            let joined = audience.get(&room.nid).into_iter().flat_map(|v| v.iter());
            let mut viewers: Vec<Viewer> = joined.cloned().collect();
            viewers.extend(
                invited(entry, event)
                    .into_iter()
                    .filter(|one| self.0.audience.has(one.user)),
            );
            let evaluator = &self.0.parts.evaluator;
            let notified = evaluator.notified(&viewers, room, event, entry.position);
            for user in notified.await? {
                let event = event.nid.0;
                news.told.push(Told { user, event });
            }
        }
        Ok(())
    }

    /// Who is invited from outside, and who has read.
    fn hear_of_users(&self, entries: &[Entry], news: &mut News) {
        for entry in entries {
            let Some(user) = entry.user.filter(|user| self.0.audience.has(*user)) else {
                continue;
            };
            match (entry.kind, entry.room, entry.event) {
                (Kind::Receipt, ..) => {
                    news.read.insert(user);
                }
                // Whether it is an invite is looked at when it is told.
                (Kind::Membership, Some(room), None) => news.told.push(Told {
                    user,
                    event: -room.0,
                }),
                _ => {}
            }
        }
    }

    /// Notes down, for all pushers of those concerned; gives the pushers.
    async fn append(&self, news: &News, end: Position) -> sqlx::Result<Vec<PusherNid>> {
        hearth_store::retry("note pushes down", || async {
            let mut tx = self.0.parts.pool.begin().await?;
            let (lease, holder) = (self.0.lead.name(), self.0.lead.holder());
            if push_queue::update_cursor(&mut tx, end, lease, holder).await? == Held::No {
                self.0.lead.lose();
                return Err(sqlx::Error::Protocol("another process pushes".into()));
            }
            let now = self.0.parts.clock.millis();
            let mut woken = push_queue::append(&mut tx, &news.told, WAITING, now).await?;
            if !news.read.is_empty() {
                let read: Vec<UserNid> = news.read.iter().copied().collect();
                woken.extend(push_queue::append_read(&mut tx, &read, end).await?);
            }
            tx.commit().await?;
            Ok(woken)
        })
        .await
    }

    async fn store(&self, end: Position) -> sqlx::Result<()> {
        let mut conn = self.0.parts.pool.acquire().await?;
        let (lease, holder) = (self.0.lead.name(), self.0.lead.holder());
        match push_queue::update_cursor(&mut conn, end, lease, holder).await? {
            Held::Yes => {}
            Held::No => self.0.lead.lose(),
        }
        Ok(())
    }
}

/// An announcement with those that wait already, so that what comes fast is worked through together.
fn waiting(
    first: Arc<Announcement>,
    news: &mut broadcast::Receiver<Arc<Announcement>>,
) -> Vec<Arc<Announcement>> {
    let mut count = first.entries.len();
    let mut announced = vec![first];
    while count < TOGETHER {
        match news.try_recv() {
            Ok(next) => {
                count += next.entries.len();
                announced.push(next);
            }
            // What was missed is read from the log.
            Err(broadcast::error::TryRecvError::Lagged(_)) => return Vec::new(),
            Err(_) => break,
        }
    }
    announced
}

/// Whom an event invites.
fn invited(entry: &Entry, event: &RoomEvent) -> Option<Viewer> {
    if event.pdu.kind != TimelineEventType::RoomMember
        || membership_of(event) != MembershipState::Invite
    {
        return None;
    }
    Some(Viewer {
        user: entry.user?,
        user_id: UserId::parse(event.pdu.state_key.as_deref()?).ok()?,
    })
}
