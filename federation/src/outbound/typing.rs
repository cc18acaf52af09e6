//! Telling other servers who types and who is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hearth_core::{RoomNid, UserNid};
use hearth_users::ephemeral::Change;
use ruma::OwnedUserId;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::{Outbound, registry::Topic};

/// How often it is said again that somebody types: others forget it after a minute or half of it.
const REPEATED: Duration = Duration::from_secs(20);

/// Which of our users type, as others know it.
type Told = BTreeMap<RoomNid, BTreeMap<UserNid, OwnedUserId>>;

impl Outbound {
    /// Tells other servers what our users do, until the server stops.
    pub(super) async fn tell_typing(self) {
        let stop = self.0.parts.stop.clone();
        let mut changes = self.0.parts.ephemeral.subscribe();
        let mut repeats = tokio::time::interval(REPEATED);
        let mut told = Told::new();
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => return,
                _ = repeats.tick() => {
                    self.look_again(&mut told).await;
                    self.repeat(&told).await;
                    continue;
                }
                change = changes.recv() => change,
            };
            let outcome = match change {
                Ok(Change::Typing(room)) => self.compare(room, &mut told).await,
                Ok(Change::Presence(user)) => self.tell_presence(user).await,
                // Who began to type meanwhile is told of with the next change; who ended is looked for.
                Err(RecvError::Lagged(_)) => {
                    self.look_again(&mut told).await;
                    Ok(())
                }
                Err(RecvError::Closed) => return,
            };
            if let Err(error) = outcome {
                tracing::debug!("what users do could not be told: {error}");
            }
        }
    }

    /// Tells what changed since others were told.
    async fn compare(&self, room: RoomNid, told: &mut Told) -> sqlx::Result<()> {
        let mut now = BTreeMap::new();
        for user in self.0.parts.typing.in_room(room) {
            if let Some(user_id) = self.own_user(user).await? {
                now.insert(user, user_id);
            }
        }
        let before = told.remove(&room).unwrap_or_default();
        let users: BTreeSet<UserNid> = before.keys().chain(now.keys()).copied().collect();
        for user in users {
            let types = now.get(&user);
            if types.is_some() == before.contains_key(&user) {
                continue;
            }
            if let Some(user_id) = types.or_else(|| before.get(&user)) {
                self.tell_one(room, (user, user_id), types.is_some().into())
                    .await?;
            }
        }
        if !now.is_empty() {
            told.insert(room, now);
        }
        Ok(())
    }

    /// Looks at all rooms of which something was told: a change may have been missed.
    async fn look_again(&self, told: &mut Told) {
        let rooms: Vec<RoomNid> = told.keys().copied().collect();
        for room in rooms {
            if let Err(error) = self.compare(room, told).await {
                tracing::debug!("what users do could not be told: {error}");
            }
        }
    }

    async fn repeat(&self, told: &Told) {
        for (room, users) in told {
            for (user, user_id) in users {
                let typing = (*user, user_id);
                if let Err(error) = self.tell_one(*room, typing, Value::Bool(true)).await {
                    tracing::debug!("what users do could not be told: {error}");
                }
            }
        }
    }

    async fn tell_one(
        &self,
        room: RoomNid,
        (user, user_id): (UserNid, &OwnedUserId),
        typing: Value,
    ) -> sqlx::Result<()> {
        let Some(found) = self.0.parts.rooms.find_by_nid(room).await? else {
            return Ok(());
        };
        let edu = json!({
            "edu_type": "m.typing",
            "content": { "room_id": found.id, "user_id": user_id, "typing": typing },
        });
        let servers = self.servers_in(room).await?;
        self.tell(&servers, &Topic::Typing(room, user), &edu).await
    }

    async fn tell_presence(&self, user: UserNid) -> sqlx::Result<()> {
        let Some(user_id) = self.own_user(user).await? else {
            return Ok(());
        };
        let servers = self.servers_sharing(user).await?;
        let status = self.0.parts.presence.status(user);
        let mut push = Map::from_iter([
            ("user_id".to_owned(), Value::from(user_id.as_str())),
            ("presence".to_owned(), Value::from(status.state.as_str())),
        ]);
        if let Some(text) = status.status_msg {
            push.insert("status_msg".to_owned(), text.into());
        }
        let ago = status.last_active_ago.unwrap_or_default().as_millis();
        push.insert(
            "last_active_ago".to_owned(),
            u64::try_from(ago).unwrap_or(u64::MAX).into(),
        );
        if let Some(active) = status.currently_active {
            push.insert("currently_active".to_owned(), active.into());
        }
        let edu = json!({ "edu_type": "m.presence", "content": { "push": [push] } });
        self.tell(&servers, &Topic::Presence(user), &edu).await
    }
}
