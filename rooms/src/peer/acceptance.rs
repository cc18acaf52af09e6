//! Taking in member events of other servers' users: `send_join`, `send_knock`, `send_leave`.

use std::{collections::HashSet, sync::Arc};

use hearth_core::EventNid;
use hearth_store::room_members;
use ruma::{
    OwnedServerName, ServerName,
    events::{StateEventType, TimelineEventType},
};

use super::{PeerError, handed::Handed};
use crate::{
    Rooms,
    event::RoomEvent,
    residents::{Handshake, Submission},
    room::Room,
    snapshot::Snapshot,
    stripped,
};

/// How many members stand for a room without a name.
const HEROES: i64 = 5;

/// Which members a joining server wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Members {
    /// All.
    All,
    /// Only those that stand for the room, if it has no name.
    Few,
}

/// A join that was taken in, and what the joining server must know.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The join, with our signature if we let the user in.
    pub event: Arc<RoomEvent>,
    /// The state before the join.
    pub state: Vec<Arc<RoomEvent>>,
    /// The auth chains of the state and of the join.
    pub auth_chain: Vec<Arc<RoomEvent>>,
    /// The servers in the room before the join.
    pub servers: Vec<OwnedServerName>,
    /// Whether the state is without most of the members.
    pub members_omitted: bool,
}

impl Rooms {
    /// Takes in the join of a user of `origin`.
    ///
    /// # Errors
    ///
    /// See [`PeerError`].
    pub async fn accept_join(
        &self,
        origin: &ServerName,
        join: Submission<'_>,
        members: Members,
    ) -> Result<Joined, PeerError> {
        let room = self.room_for(origin, join.room_id).await?;
        let mut handed = Handed::read(join.room_id, &room.rules, join.event_id, join.event)?;
        handed.check_own(origin, Handshake::Join)?;
        self.vouch(&room, &mut handed).await?;
        let event = self.take_member(origin, &room, &handed.pdu).await?;
        self.tell_joined(&room, event, members).await
    }

    /// Signs a join into a restricted room if a user of ours lets the joining one in, and may.
    async fn vouch(&self, room: &Room, handed: &mut Handed) -> Result<(), PeerError> {
        let rules = &room.rules.signatures;
        let Some(voucher) = handed
            .authorising()?
            .filter(|_| rules.check_join_authorised_via_users_server)
        else {
            return Ok(());
        };
        if voucher.server_name() != self.identity().server_name {
            return Err(PeerError::Invalid("another server lets the user in".into()));
        }
        // Whether that user may let others in is for the authorisation rules; whether he does is for us.
        let current = self.current(room).await?.ok_or(PeerError::NotFound)?;
        let user = &handed.pdu.sender;
        self.voucher(room, &current.snapshot, user).await?;
        handed.sign(self, room)
    }

    async fn tell_joined(
        &self,
        room: &Room,
        event: Arc<RoomEvent>,
        members: Members,
    ) -> Result<Joined, PeerError> {
        let before = event.snapshot.ok_or(PeerError::NotFound)?;
        let before = self.snapshot(before).await?;
        let state = match members {
            Members::All => self.state_events(&before).await?,
            Members::Few => self.state_with_few(room, &before, &event).await?,
        };
        let mut nids: Vec<EventNid> = state.iter().map(|event| event.nid).collect();
        nids.push(event.nid);
        let mut chain = self.auth_chain(&nids).await?;
        if members == Members::Few {
            let told: HashSet<EventNid> = nids.into_iter().collect();
            chain.retain(|nid| !told.contains(nid));
        }
        let auth_chain = self.events().map(chain).await?;
        Ok(Joined {
            state,
            auth_chain: auth_chain.into_values().collect(),
            servers: self.servers_in(room, &before).await?,
            members_omitted: members == Members::Few,
            event,
        })
    }

    /// A state without members, but for those who stand for a room without a name.
    async fn state_with_few(
        &self,
        room: &Room,
        snapshot: &Snapshot,
        join: &RoomEvent,
    ) -> Result<Vec<Arc<RoomEvent>>, PeerError> {
        let mut state = self.state_without_members(snapshot).await?;
        let named = state.iter().any(|event| {
            let pdu = &event.pdu;
            pdu.is_state(&TimelineEventType::RoomName)
                || pdu.is_state(&TimelineEventType::RoomCanonicalAlias)
        });
        if named {
            return Ok(state);
        }
        let mut conn = self.pool().acquire().await?;
        let heroes = room_members::list_heroes(&mut conn, &[room.nid], join.sender, HEROES).await?;
        drop(conn);
        let users: Vec<_> = heroes.iter().map(|hero| hero.user).collect();
        let users = self.interner().user_ids(&users).await?;
        let keys = users
            .values()
            .map(|user| (StateEventType::RoomMember, user.to_string()));
        let heroes = self.state_subset(snapshot, keys.collect()).await?;
        state.extend(heroes.into_values());
        Ok(state)
    }

    /// Takes in the knock of a user of `origin`, and gives the events that tell what room it is.
    ///
    /// # Errors
    ///
    /// See [`PeerError`].
    pub async fn accept_knock(
        &self,
        origin: &ServerName,
        knock: Submission<'_>,
    ) -> Result<Vec<Arc<RoomEvent>>, PeerError> {
        let room = self.room_for(origin, knock.room_id).await?;
        let handed = Handed::read(knock.room_id, &room.rules, knock.event_id, knock.event)?;
        handed.check_own(origin, Handshake::Knock)?;
        let event = self.take_member(origin, &room, &handed.pdu).await?;
        let before = event.snapshot.ok_or(PeerError::NotFound)?;
        let before = self.snapshot(before).await?;
        let told = stripped::for_server(self, &before, &event.pdu.sender).await?;
        Ok(told)
    }

    /// Takes in the leave of a user of `origin`: out of the room, or turning an invite or a knock down.
    ///
    /// # Errors
    ///
    /// See [`PeerError`].
    pub async fn accept_leave(
        &self,
        origin: &ServerName,
        leave: Submission<'_>,
    ) -> Result<(), PeerError> {
        let room = self.room_for(origin, leave.room_id).await?;
        let handed = Handed::read(leave.room_id, &room.rules, leave.event_id, leave.event)?;
        handed.check_own(origin, Handshake::Leave)?;
        self.take_member(origin, &room, &handed.pdu).await?;
        Ok(())
    }
}
