//! Making rooms: all of a new room's first events as one unit.
//!
//! Client-Server API, `POST /createRoom`.

mod events;

use std::sync::Arc;

use hearth_store::{room as room_table, room_alias, room_alias::Inserted, write::Write};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedRoomAliasId,
    OwnedRoomId, RoomId, RoomVersionId, UserId, room_version_rules::RoomVersionRules,
};

use crate::{
    Rooms,
    build::{AuthState, Base},
    changes::Changes,
    draft::Draft,
    error::SendError,
    membership::Member,
    room::{Current, Head, Room},
    snapshot::Snapshot,
    version,
};

/// How many users may be invited while a room is made.
const INVITES: usize = 500;

/// How many state events a room may have at the start beside the usual ones.
const INITIAL_STATE: usize = 500;

/// To whom invited users belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Ours,
    Others,
}

/// What a new room is to be like.
#[derive(Clone, Debug)]
pub struct Creation {
    /// Who makes it, with the profile that its first member event shows.
    pub creator: Member,
    /// The room version.
    pub version: RoomVersionId,
    /// Which of the usual sets of rules it starts with.
    pub preset: Preset,
    /// Whether it is in the room directory.
    pub published: bool,
    /// More keys of the create event.
    pub creation_content: CanonicalJsonObject,
    /// Keys that replace those of the usual power levels.
    pub power_level_content_override: CanonicalJsonObject,
    /// More state; it takes precedence over the preset's.
    pub initial_state: Vec<Draft>,
    /// The name.
    pub name: Option<String>,
    /// The topic.
    pub topic: Option<String>,
    /// An alias on this server, which becomes the canonical one.
    pub alias: Option<OwnedRoomAliasId>,
    /// Who is invited.
    pub invite: Vec<Member>,
    /// Whether the invites say that this is a direct chat.
    pub is_direct: bool,
}

/// A usual set of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Joined by invite.
    Private,
    /// Joined by invite; all invited have the creator's power.
    TrustedPrivate,
    /// Joined by anyone.
    Public,
}

/// Why a room was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The room version is not supported.
    #[error("this room version is not supported")]
    UnsupportedVersion,
    /// The alias is in use.
    #[error("the alias is in use")]
    AliasTaken,
    /// Too many are invited at once.
    #[error("too many users are invited at once")]
    TooManyInvites,
    /// The room has too many events at the start.
    #[error("a room cannot start with so much state")]
    TooMuchState,
    /// One of its first events is refused: what was asked for contradicts itself.
    #[error(transparent)]
    Event(#[from] SendError),
}

impl From<sqlx::Error> for CreateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Event(SendError::Storage(error))
    }
}

impl Rooms {
    /// Makes a room.
    ///
    /// # Errors
    ///
    /// See [`CreateError`].
    pub async fn create(&self, creation: &Creation) -> Result<OwnedRoomId, CreateError> {
        Creation::check_size(creation.invite.len(), creation.initial_state.len())?;
        self.create_whole(creation).await
    }

    /// Makes a room, however much state it starts with: a room that replaces another one takes all its bans along.
    pub(crate) async fn create_whole(
        &self,
        creation: &Creation,
    ) -> Result<OwnedRoomId, CreateError> {
        let rules = version::supported(&creation.version).ok_or(CreateError::UnsupportedVersion)?;
        let ours = &self.identity().server_name;
        let invited = creation.invite.iter().map(|member| &*member.user_id);
        let invited: Vec<&UserId> = invited.filter(|user| user.server_name() == ours).collect();
        self.refuse_unwanted(&invited).await?;
        if let Some(alias) = &creation.alias {
            let mut conn = self.pool().acquire().await?;
            if room_alias::find(&mut conn, alias).await?.is_some() {
                return Err(CreateError::AliasTaken);
            }
        }
        let (room_id, create) = self.new_room(creation, &rules).await?;
        let room = self.find(&room_id).await?.ok_or(SendError::UnknownRoom)?;

        let mut changes = Changes::new(self, &room, Head::empty());
        for (sender, draft) in creation.drafts(&rules, create) {
            changes.append(&sender, draft).await?;
        }
        self.commit_new(creation, &room, changes).await?;
        let (sender, invites) = (&creation.creator.user_id, creation.invites(Whose::Others));
        self.send_invites(&room, sender, invites).await;
        Ok(room_id)
    }

    /// Finds an id that no room has, and makes the room's row.
    ///
    /// Since version 12 the id follows from the create event, so that two rooms of one user, made within a millisecond,
    /// would be one: then the later one is made a millisecond later.
    async fn new_room(
        &self,
        creation: &Creation,
        rules: &RoomVersionRules,
    ) -> Result<(OwnedRoomId, Draft), CreateError> {
        let mut conn = self.pool().acquire().await?;
        let mut now = self.clock().now();
        loop {
            let create = creation.create_event(rules, now);
            let room_id = self.new_room_id(creation, rules, &create)?;
            let version = creation.version.as_str();
            if room_table::insert(&mut conn, room_id.as_str(), version)
                .await?
                .is_some()
            {
                return Ok((room_id, create));
            }
            now = MilliSecondsSinceUnixEpoch(now.get().saturating_add(1_u32.into()));
        }
    }

    /// Since version 12 the room's id is the create event's.
    fn new_room_id(
        &self,
        creation: &Creation,
        rules: &RoomVersionRules,
        create: &Draft,
    ) -> Result<OwnedRoomId, SendError> {
        let server_name = &self.identity().server_name;
        let random = RoomId::new_v1(server_name);
        if !rules.authorization.room_create_event_id_as_room_id {
            return Ok(random);
        }
        let row = room_table::Stored {
            nid: hearth_core::RoomNid(0),
            room_id: random.to_string(),
            version: creation.version.to_string(),
            revision: 0,
            snapshot: None,
            extremities: Vec::new(),
            published: false,
        };
        let nowhere = Room::new(&row, 0)?;
        let changes = Changes::new(self, &nowhere, Head::empty());
        let sender = &creation.creator.user_id;
        let nothing = (AuthState::new(), Base::nothing());
        let (pdu, _) = changes.build(sender, create.clone(), &nothing.0, &nothing.1)?;
        Ok(pdu.room_id)
    }

    async fn commit_new(
        &self,
        creation: &Creation,
        room: &Room,
        changes: Changes<'_>,
    ) -> Result<(), CreateError> {
        let Changes {
            head, write, made, ..
        } = changes;
        let mut tx = self.pool().begin().await?;
        if let Some(alias) = &creation.alias {
            let creator = self.interner().user(&creation.creator.user_id).await?;
            let now = self.clock().millis();
            match room_alias::insert(&mut tx, alias, room.nid, creator, now).await? {
                Inserted::Yes => {}
                Inserted::AlreadyBound => return Err(CreateError::AliasTaken),
            }
        }
        if creation.published {
            room_table::update_published(&mut tx, room.nid, true).await?;
        }
        let write = Write {
            room: Some(write),
            ..Write::default()
        };
        let written = self.journal().commit(tx, write).await;
        let written = written.map_err(SendError::from)?;
        for (event, order) in made.iter().zip(written.first.0..) {
            event.place(order);
        }
        self.snapshots().remember(Arc::clone(&head.snapshot)).await;
        room.set_current(Current {
            revision: head.revision,
            snapshot: Arc::clone(&head.snapshot),
        });
        room.head.lock().await.head = Some(head);
        Ok(())
    }
}

impl Head {
    /// The head of a room without events.
    pub(crate) fn empty() -> Self {
        Self {
            revision: 0,
            snapshot: Arc::new(Snapshot::empty()),
            extremities: Vec::new(),
        }
    }
}

impl Creation {
    /// Refuses rooms with too many invites or too much state at the start.
    ///
    /// # Errors
    ///
    /// [`CreateError::TooManyInvites`], [`CreateError::TooMuchState`].
    pub fn check_size(invites: usize, initial_state: usize) -> Result<(), CreateError> {
        if invites > INVITES {
            return Err(CreateError::TooManyInvites);
        }
        if initial_state > INITIAL_STATE {
            return Err(CreateError::TooMuchState);
        }
        Ok(())
    }
}

/// A topic in its plain and its extensible form.
#[must_use]
pub fn topic_content(topic: &str) -> CanonicalJsonObject {
    let text = CanonicalJsonValue::Array(vec![object([("body", topic.into())]).into()]);
    object([
        ("m.topic", object([("m.text", text)]).into()),
        ("topic", topic.into()),
    ])
}

/// An object of these entries.
pub(crate) fn object<const N: usize>(
    entries: [(&str, CanonicalJsonValue); N],
) -> CanonicalJsonObject {
    let entries = entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    entries.collect()
}
