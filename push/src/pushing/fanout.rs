//! From the log to the pushers that have something to tell.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, Position, PusherNid, RoomNid, UserNid};
use hearth_journal::{Consumer, Due, Entry, Kind, Lead, Moved};
use hearth_rooms::{RoomEvent, membership_of};
use hearth_store::{
    lease::Held,
    push_queue::{self, Bounds, Told},
    pusher,
};
use ruma::{
    UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use tokio::sync::Notify;

use super::Pushing;
use crate::evaluator::Viewer;

/// How many events wait for a pusher, and for one that fails.
pub(super) const WAITING: Bounds = Bounds {
    healthy: 100,
    failing: 10,
};

/// How many pushers that wait are read at once.
const WAKE_PAGE: i64 = 1_000;

/// What is to be noted down.
#[derive(Default)]
struct News {
    told: Vec<Told>,
    read: BTreeSet<UserNid>,
}

impl Consumer for Pushing {
    fn lead(&self) -> &Lead {
        &self.0.lead
    }

    fn sooner(&self) -> &Notify {
        &self.0.retry
    }

    async fn begin(&self, head: Position) -> sqlx::Result<Position> {
        let mut conn = self.0.parts.pool.acquire().await?;
        let stored = push_queue::find_cursor(&mut conn, head).await?;
        drop(conn);
        self.0.audience.begin().await?;
        self.wake_waiting().await?;
        Ok(stored)
    }

    /// Notes down what is to be told.
    async fn take_in(
        &self,
        entries: &[Entry],
        (_, end): (Position, Position),
    ) -> sqlx::Result<Moved> {
        let mut woken = self.0.audience.take_in(entries).await?;
        let mut news = News::default();
        if !self.0.audience.is_empty() {
            self.hear_events(entries, &mut news).await?;
            self.hear_of_users(entries, &mut news);
        }
        for nid in &woken {
            self.0.failing.invalidate(nid);
        }
        let moved = match news.told.is_empty() && news.read.is_empty() {
            true => Moved::No,
            false => {
                woken.extend(self.append(&news, end).await?);
                Moved::Yes
            }
        };
        for nid in woken {
            self.wake(nid);
        }
        Ok(moved)
    }

    async fn store(&self, end: Position) -> sqlx::Result<Held> {
        let mut conn = self.0.parts.pool.acquire().await?;
        let (lease, holder) = (self.0.lead.name(), self.0.lead.holder());
        push_queue::update_cursor(&mut conn, end, lease, holder).await
    }

    async fn wake_due(&self, now: i64, limit: i64) -> sqlx::Result<Due> {
        let mut conn = self.0.parts.pool.acquire().await?;
        let due = push_queue::list_due(&mut conn, now, limit).await?;
        let next = pusher::find_next_retry(&mut conn, now).await?;
        drop(conn);
        for nid in &due {
            self.0.failing.invalidate(nid);
            self.wake(*nid);
        }
        Ok(Due {
            found: due.len(),
            next,
        })
    }
}

impl Pushing {
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
