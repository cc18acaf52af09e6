//! What servers tell each other besides events.
//!
//! A server speaks for its own users only. What is not known or makes no sense is ignored.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use hearth_core::{RoomNid, UserNid};
use hearth_store::{event, shared_room, write::ReceiptRow};
use hearth_users::presence::Status;
use ruma::{
    OwnedUserId, ServerName, UserId,
    api::federation::transactions::edu::{
        DirectDeviceContent, Edu, PresenceContent, ReceiptContent, ReceiptData, TypingContent,
    },
    events::receipt::{ReceiptThread, ReceiptType},
    serde::Raw,
};

use super::Inbound;

/// How long a user of another server types without its server saying so again.
const TYPING: Duration = Duration::from_secs(45);

/// How much of one message is looked at.
const MOST_USERS: usize = 500;
const MOST_RECEIPTS: usize = 500;

/// How many rooms one message tells receipts of; more are left out.
const MOST_ROOMS: usize = 1_000;

/// Why a message has no effect.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A receipt that names who read what where.
struct Read {
    room: RoomNid,
    user_id: OwnedUserId,
    data: ReceiptData,
}

impl Inbound {
    /// Does what the messages say, in their order.
    pub(super) async fn take_edus(&self, origin: &ServerName, edus: &[Raw<Edu>]) {
        for edu in edus {
            let outcome = match edu.deserialize() {
                Ok(Edu::Typing(content)) => self.take_typing(origin, &content).await,
                Ok(Edu::Receipt(content)) => self.take_receipts(origin, content).await,
                Ok(Edu::Presence(content)) => self.take_presence(origin, content).await,
                Ok(Edu::DirectToDevice(content)) => self.take_message(origin, &content).await,
                // Device lists and keys of other servers come with end-to-end encryption.
                Ok(_) => Ok(()),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = outcome {
                tracing::debug!(%origin, "an EDU has no effect: {error}");
            }
        }
    }

    async fn take_typing(
        &self,
        origin: &ServerName,
        content: &TypingContent,
    ) -> Result<(), Failure> {
        speaks_for(origin, &content.user_id)?;
        let rooms = &self.0.parts.rooms;
        let room = rooms.find(&content.room_id).await?.ok_or("no such room")?;
        if !self.may_take_part(&room, origin).await? {
            return Err("the room excludes this server".into());
        }
        let user = self.0.parts.interner.find_user(&content.user_id).await?;
        let user = user.ok_or("the user is not known")?;
        let timeout = content.typing.then_some(TYPING);
        self.0.parts.typing.set(user, room.nid, timeout).await?;
        Ok(())
    }

    async fn take_presence(
        &self,
        origin: &ServerName,
        content: PresenceContent,
    ) -> Result<(), Failure> {
        let updates = content.push.into_iter().take(MOST_USERS);
        let updates: BTreeMap<OwnedUserId, _> = updates
            .filter(|update| update.user_id.server_name() == origin)
            .map(|update| (update.user_id.clone(), update))
            .collect();
        let ids: Vec<&UserId> = updates.keys().map(AsRef::as_ref).collect();
        let known = self.0.parts.interner.find_users(&ids).await?;
        let users: Vec<UserNid> = known.values().copied().collect();
        // Whoever is in no room of ours is of no interest, and must not take up memory.
        let mut conn = self.0.parts.pool.acquire().await?;
        let joined = shared_room::list_joined(&mut conn, &users).await?;
        drop(conn);
        for (user_id, user) in known {
            let Some(update) = updates.get(&user_id).filter(|_| joined.contains(&user)) else {
                continue;
            };
            let status = Status {
                state: update.presence.clone(),
                status_msg: update.status_msg.clone(),
                last_active_ago: Some(Duration::from_millis(update.last_active_ago.into())),
                currently_active: Some(update.currently_active),
            };
            self.0.parts.presence.tell(user, status)?;
        }
        Ok(())
    }

    async fn take_receipts(
        &self,
        origin: &ServerName,
        content: ReceiptContent,
    ) -> Result<(), Failure> {
        let mut read = Vec::new();
        for (room_id, receipts) in content.receipts.into_iter().take(MOST_ROOMS) {
            let Some(room) = self.0.parts.rooms.find(&room_id).await? else {
                continue;
            };
            if !self.may_take_part(&room, origin).await? {
                continue;
            }
            for (user_id, data) in receipts.read {
                if user_id.server_name() == origin && read.len() < MOST_RECEIPTS {
                    let room = room.nid;
                    read.push(Read {
                        room,
                        user_id,
                        data,
                    });
                }
            }
        }
        let rows = self.receipt_rows(&read).await?;
        self.0.parts.receipts.receive(rows).await?;
        Ok(())
    }

    /// The receipts of users who are in the room that they read in.
    async fn receipt_rows(&self, read: &[Read]) -> Result<Vec<ReceiptRow>, Failure> {
        let ids: Vec<&UserId> = read.iter().map(|read| &*read.user_id).collect();
        let known = self.0.parts.interner.find_users(&ids).await?;
        let named: Vec<(&Read, UserNid)> = read
            .iter()
            .filter_map(|read| Some((read, *known.get(&read.user_id)?)))
            .collect();
        let rooms: Vec<RoomNid> = named.iter().map(|(read, _)| read.room).collect();
        let users: Vec<UserNid> = named.iter().map(|(_, user)| *user).collect();
        // Of several events, the last one.
        let events: Vec<&str> = named
            .iter()
            .filter_map(|(read, _)| Some(read.data.event_ids.last()?.as_str()))
            .collect();
        let mut conn = self.0.parts.pool.acquire().await?;
        let joined = shared_room::list_joined_pairs(&mut conn, &rooms, &users).await?;
        let places = event::list_places(&mut conn, &events).await?;
        drop(conn);
        let places: HashMap<&str, &event::Place> = places
            .iter()
            .map(|place| (place.event_id.as_str(), place))
            .collect();
        let now = self.0.parts.clock.now();
        let row = |(read, user): &(&Read, UserNid)| {
            let event_id = read.data.event_ids.last()?;
            let place = places.get(event_id.as_str());
            // An event of another room is no place to have read up to.
            if place.is_some_and(|place| place.room != read.room) {
                return None;
            }
            joined.contains(&(read.room, *user)).then(|| ReceiptRow {
                room: read.room,
                user: *user,
                kind: ReceiptType::Read.to_string(),
                thread: thread(&read.data.data.thread),
                event_id: event_id.to_string(),
                stream_order: place.and_then(|place| place.stream_order),
                ts: i64::from(read.data.data.ts.unwrap_or(now).get()),
            })
        };
        Ok(named.iter().filter_map(row).collect())
    }

    async fn take_message(
        &self,
        origin: &ServerName,
        content: &DirectDeviceContent,
    ) -> Result<(), Failure> {
        speaks_for(origin, &content.sender)?;
        let (kind, messages) = (&content.ev_type, &content.messages);
        let message = (&*content.sender, &*content.message_id);
        let to_device = &self.0.parts.to_device;
        to_device.receive(message, kind, messages).await?;
        Ok(())
    }
}

fn speaks_for(origin: &ServerName, user_id: &UserId) -> Result<(), Failure> {
    if user_id.server_name() == origin {
        Ok(())
    } else {
        Err("the user belongs to another server".into())
    }
}

/// The thread as the table has it.
fn thread(thread: &ReceiptThread) -> String {
    match thread {
        ReceiptThread::Main => "main".to_owned(),
        ReceiptThread::Thread(root) => root.to_string(),
        ReceiptThread::Unthreaded | _ => String::new(),
    }
}
