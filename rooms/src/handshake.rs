//! Getting into a room with the help of servers that are in it, knocking on it, turning an invite to it down.
//!
//! Server-Server API, "Joining Rooms", "Knocking upon a room", "Leaving Rooms". Which servers are asked and whether their
//! answers are good is decided here; [`Residents`](crate::Residents) carries the questions.

mod completion;

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use hearth_store::write::MembershipRow;
use moka::future::Cache;
use ruma::{
    CanonicalJsonObject, OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId,
    api::error::ErrorKind,
};
use tokio::sync::Mutex;

use self::completion::{Completed, Wanted};
use crate::{
    Rooms,
    adopt::{AdoptError, Adoption},
    error::SendError,
    membership::{Member, MembershipError, with_reason},
    peer::ToldState,
    residents::{Handshake, ResidentError, Submission, TemplateRequest},
    room::Room,
    version,
};

/// How many servers are asked, one after the other.
const SERVERS: usize = 10;

/// The joins that are under way, so that two of one room do not both bring it here.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay(Cache<OwnedRoomId, Arc<Mutex<()>>>);

impl Default for UnderWay {
    fn default() -> Self {
        let cache = Cache::builder()
            .max_capacity(10_000)
            .time_to_idle(Duration::from_mins(30))
            .build();
        Self(cache)
    }
}

impl UnderWay {
    async fn of(&self, room_id: &RoomId) -> Arc<Mutex<()>> {
        self.0
            .get_with_by_ref(room_id, async { Arc::default() })
            .await
    }
}

impl Rooms {
    /// Lets a user of ours join a room: by ourselves when this server is in it and can, with the help of `via` and of
    /// the servers that we know of when not.
    ///
    /// # Errors
    ///
    /// See [`MembershipError`]; when all servers refuse, what the first one said.
    pub async fn join_by_id(
        &self,
        room_id: &RoomId,
        via: &[OwnedServerName],
        member: &Member,
    ) -> Result<(), MembershipError> {
        if self.join_here(room_id, member).await? {
            return Ok(());
        }
        let rooms = self.clone();
        let (room_id, member) = (room_id.to_owned(), member.clone());
        let servers = self.servers_to_ask(&room_id, via, &member.user_id).await?;
        let content = member.content("join");
        // It goes on when the client that waits for it goes away: the other server has taken the join in by then.
        let joining = self.tasks().spawn(async move {
            let alone = rooms.0.handshakes.of(&room_id).await;
            let _alone = alone.lock().await;
            // Somebody else may have brought the room here meanwhile.
            if rooms.join_here(&room_id, &member).await? {
                return Ok(());
            }
            let wanted = Wanted {
                handshake: Handshake::Join,
                room_id: &room_id,
                user_id: &member.user_id,
                content,
            };
            rooms.ask_each(&servers, &wanted).await
        });
        joining.await.map_err(|_| SendError::Overloaded)?
    }

    /// Joins without the help of others; `false` when that cannot be.
    async fn join_here(&self, room_id: &RoomId, member: &Member) -> Result<bool, MembershipError> {
        let Some(room) = self.find(room_id).await? else {
            return Ok(false);
        };
        let is_ours = self.is_resident(&room).await? || self.is_deserted(&room).await?;
        if !is_ours || self.needs_other_authority(&room, member).await? {
            return Ok(false);
        }
        self.join(&room, member).await?;
        Ok(true)
    }

    async fn join_through(
        &self,
        server: &ServerName,
        wanted: &Wanted<'_>,
    ) -> Result<(), MembershipError> {
        let Completed { version, pdu } = self.complete_template(server, wanted).await?;
        let answer = self.residents().send_join(server, submission(&pdu)).await?;
        let event = answer.event.clone();
        let adoption = Adoption {
            room_id: wanted.room_id.to_owned(),
            version,
            join: pdu.clone(),
            answer,
        };
        match self.adopt(adoption).await {
            Ok(()) => Ok(()),
            Err(AdoptError::Resident) => {
                let join = event.unwrap_or(pdu.json);
                self.take_handed(server, wanted.room_id, &join).await
            }
            Err(AdoptError::Malformed(reason)) => {
                tracing::warn!(%server, room_id = %wanted.room_id, reason, "a server answered a join with rubbish");
                Err(ResidentError::Unreachable.into())
            }
            Err(AdoptError::Event(error)) => Err(error.into()),
        }
    }

    /// Lets a user of ours knock on a room: see [`Rooms::join_by_id`].
    ///
    /// # Errors
    ///
    /// See [`MembershipError`].
    pub async fn knock_by_id(
        &self,
        room_id: &RoomId,
        via: &[OwnedServerName],
        member: &Member,
        reason: Option<&str>,
    ) -> Result<(), MembershipError> {
        if let Some(room) = self.find(room_id).await?
            && self.is_resident(&room).await?
        {
            return self.knock(&room, member, reason).await;
        }
        let servers = self.servers_to_ask(room_id, via, &member.user_id).await?;
        let wanted = Wanted {
            handshake: Handshake::Knock,
            room_id,
            user_id: &member.user_id,
            content: with_reason(member.content("knock"), reason),
        };
        self.ask_each(&servers, &wanted).await
    }

    async fn knock_through(
        &self,
        server: &ServerName,
        wanted: &Wanted<'_>,
    ) -> Result<(), MembershipError> {
        let Completed { version, pdu } = self.complete_template(server, wanted).await?;
        let told = self
            .residents()
            .send_knock(server, submission(&pdu))
            .await?;
        let room = self.row_for(wanted.room_id, &version).await?;
        let told = ToldState::read(self, &room, told).await;
        let user = self.interner().user(wanted.user_id).await?;
        self.write_membership(MembershipRow {
            user,
            room: room.nid,
            membership: "knock".to_owned(),
            event: None,
            sender: user,
            stripped: Some(told.stripped_with(&pdu)?),
            forgotten: false,
            display_name: None,
            avatar_url: None,
            words: Vec::new(),
        })
        .await?;
        Ok(())
    }

    /// Turns down an invite to a room that this server is not in, or takes a knock on it back.
    ///
    /// When no server in the room answers, or all refuse, the user is rid of it here nevertheless.
    pub(crate) async fn leave_elsewhere(
        &self,
        room: &Room,
        user: &UserId,
        reason: Option<&str>,
    ) -> Result<(), MembershipError> {
        let servers = self.servers_to_ask(&room.id, &[], user).await?;
        let wanted = Wanted {
            handshake: Handshake::Leave,
            room_id: &room.id,
            user_id: user,
            content: with_reason(CanonicalJsonObject::new(), reason),
        };
        let Err(error) = self.ask_each(&servers, &wanted).await else {
            return Ok(());
        };
        tracing::info!(
            room_id = %room.id,
            error = &error as &dyn std::error::Error,
            "no server in the room was told that a user leaves"
        );
        let leave = wanted
            .alone(&room.version, self.identity(), self.clock().now())
            .map_err(SendError::BadEvent)?;
        self.note_gone(room, user, &leave).await?;
        Ok(())
    }

    async fn leave_through(
        &self,
        server: &ServerName,
        wanted: &Wanted<'_>,
    ) -> Result<(), MembershipError> {
        let Completed { pdu, .. } = self.complete_template(server, wanted).await?;
        self.residents()
            .send_leave(server, submission(&pdu))
            .await?;
        let room = self.find(wanted.room_id).await?;
        let room = room.ok_or(SendError::UnknownRoom)?;
        self.note_gone(&room, wanted.user_id, &pdu).await?;
        Ok(())
    }

    /// Asks one server. Boxed, since the compiler cannot see through all that a join does.
    fn ask<'a>(
        &'a self,
        server: &'a ServerName,
        wanted: &'a Wanted<'_>,
    ) -> BoxFuture<'a, Result<(), MembershipError>> {
        match wanted.handshake {
            Handshake::Join => Box::pin(self.join_through(server, wanted)),
            Handshake::Knock => Box::pin(self.knock_through(server, wanted)),
            Handshake::Leave => Box::pin(self.leave_through(server, wanted)),
        }
    }

    /// Asks one server after the other until one helps.
    async fn ask_each(
        &self,
        servers: &[OwnedServerName],
        wanted: &Wanted<'_>,
    ) -> Result<(), MembershipError> {
        let mut told = None;
        for server in servers {
            let error = match self.ask(server, wanted).await {
                Ok(()) => return Ok(()),
                Err(MembershipError::Elsewhere(error)) => error,
                Err(error) => return Err(error),
            };
            tracing::debug!(%server, %error, "a server did not help");
            if matches!(&error, ResidentError::Refused { kind, .. } if is_final(kind)) {
                return Err(error.into());
            }
            // What a server says tells more than its silence.
            match &told {
                Some(ResidentError::Refused { .. }) => {}
                Some(ResidentError::Unreachable) | None => told = Some(error),
            }
        }
        Err(told.map_or(MembershipError::NoServer, Into::into))
    }

    /// Asks a server for a member event, and completes and signs it.
    async fn complete_template(
        &self,
        server: &ServerName,
        wanted: &Wanted<'_>,
    ) -> Result<Completed, MembershipError> {
        let request = TemplateRequest {
            handshake: wanted.handshake,
            room_id: wanted.room_id,
            user_id: wanted.user_id,
            versions: &version::SUPPORTED,
        };
        let template = self.residents().template(server, request).await?;
        let known = self.find(wanted.room_id).await?;
        let known = known.map(|room| room.version.clone());
        let now = self.clock().now();
        wanted
            .complete(template, known, self.identity(), now)
            .map_err(|reason| {
                tracing::warn!(%server, room_id = %wanted.room_id, %reason, "a server sent a template that is no good");
                ResidentError::Unreachable.into()
            })
    }

    /// The servers that may help a user: those that were named, and those that the user's invite or knock tells of.
    ///
    /// Those that we know of ourselves are asked too when this server is in the room and knows who is, and when nobody was
    /// named: whoever names servers wants to go through one of these.
    async fn servers_to_ask(
        &self,
        room_id: &RoomId,
        via: &[OwnedServerName],
        user: &UserId,
    ) -> Result<Vec<OwnedServerName>, MembershipError> {
        let ours = &self.identity().server_name;
        let mut servers: Vec<_> = via.iter().filter(|name| *name != ours).cloned().collect();
        let are_named = !servers.is_empty();
        if let Some(room) = self.find(room_id).await? {
            servers.extend(self.servers_of_invite(&room, user).await?);
            if !are_named || self.is_resident(&room).await? {
                servers.extend(self.authorities(&room).await?);
                servers.extend(self.servers(&room).await?.into_iter().take(SERVERS));
            }
        }
        if !are_named {
            servers.extend(room_id.server_name().map(ToOwned::to_owned));
        }
        let mut seen = HashSet::from([ours.clone()]);
        servers.retain(|server| seen.insert(server.clone()));
        servers.truncate(SERVERS);
        Ok(servers)
    }
}

fn submission(pdu: &hearth_core::Pdu) -> Submission<'_> {
    Submission {
        room_id: &pdu.room_id,
        event_id: &pdu.event_id,
        event: &pdu.json,
    }
}

/// Whether all other servers would say the same.
fn is_final(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::IncompatibleRoomVersion(_))
}
