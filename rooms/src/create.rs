//! Making rooms: all of a new room's first events as one unit.
//!
//! Client-Server API, `POST /createRoom`.

use std::sync::Arc;

use hearth_store::{room as room_table, room_alias, room_alias::Inserted, write::Write};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedRoomAliasId,
    OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, events::TimelineEventType as Kind,
    room_version_rules::RoomVersionRules,
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
        let rules = version::supported(&creation.version).ok_or(CreateError::UnsupportedVersion)?;
        if creation.invite.len() > INVITES {
            return Err(CreateError::TooManyInvites);
        }
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
    fn create_event(&self, rules: &RoomVersionRules, now: MilliSecondsSinceUnixEpoch) -> Draft {
        let mut content = self.creation_content.clone();
        content.insert("room_version".to_owned(), self.version.as_str().into());
        if rules.authorization.use_room_create_sender {
            content.remove("creator");
        } else {
            content.insert("creator".to_owned(), self.creator.user_id.as_str().into());
        }
        if rules.authorization.additional_room_creators && self.preset == Preset::TrustedPrivate {
            let mut creators: Vec<CanonicalJsonValue> = content
                .get("additional_creators")
                .and_then(CanonicalJsonValue::as_array)
                .map(ToOwned::to_owned)
                .unwrap_or_default();
            for invited in &self.invite {
                let id = CanonicalJsonValue::from(invited.user_id.as_str());
                if !creators.contains(&id) {
                    creators.push(id);
                }
            }
            if !creators.is_empty() {
                content.insert("additional_creators".to_owned(), creators.into());
            }
        }
        let mut draft = Draft::state(Kind::RoomCreate, "", content);
        draft.timestamp = Some(now);
        draft
    }

    /// The first events in the order of the specification.
    fn drafts(&self, rules: &RoomVersionRules, create: Draft) -> Vec<(OwnedUserId, Draft)> {
        let mut drafts = vec![create, self.creator.join()];
        let given = |kind: &Kind| {
            self.initial_state
                .iter()
                .any(|draft| draft.kind == *kind && draft.state_key.as_deref() == Some(""))
        };
        if !given(&Kind::RoomPowerLevels) {
            drafts.push(Draft::state(
                Kind::RoomPowerLevels,
                "",
                self.power_levels(rules),
            ));
        }
        if let Some(alias) = &self.alias {
            let content = object([("alias", alias.as_str().into())]);
            drafts.push(Draft::state(Kind::RoomCanonicalAlias, "", content));
        }
        // Guests are kept out where no event lets them in, so a public room needs none.
        let (join_rule, guest_access) = match self.preset {
            Preset::Private | Preset::TrustedPrivate => ("invite", Some("can_join")),
            Preset::Public => ("public", None),
        };
        let preset = [
            (Kind::RoomJoinRules, "join_rule", Some(join_rule)),
            (
                Kind::RoomHistoryVisibility,
                "history_visibility",
                Some("shared"),
            ),
            (Kind::RoomGuestAccess, "guest_access", guest_access),
        ];
        for (kind, key, value) in preset {
            if let Some(value) = value.filter(|_| !given(&kind)) {
                drafts.push(Draft::state(kind, "", object([(key, value.into())])));
            }
        }
        let named = |draft: &&Draft| {
            !(self.name.is_some() && draft.kind == Kind::RoomName
                || self.topic.is_some() && draft.kind == Kind::RoomTopic)
        };
        drafts.extend(self.initial_state.iter().filter(named).cloned());
        if let Some(name) = &self.name {
            let content = object([("name", name.as_str().into())]);
            drafts.push(Draft::state(Kind::RoomName, "", content));
        }
        if let Some(topic) = &self.topic {
            drafts.push(Draft::state(Kind::RoomTopic, "", topic_content(topic)));
        }
        drafts.extend(self.invites(Whose::Ours));
        let creator = &self.creator.user_id;
        drafts
            .into_iter()
            .map(|draft| (creator.clone(), draft))
            .collect()
    }

    fn invites(&self, whose: Whose) -> Vec<Draft> {
        let ours = self.creator.user_id.server_name();
        let wanted =
            |member: &&Member| (member.user_id.server_name() == ours) == (whose == Whose::Ours);
        let invited = self.invite.iter().filter(wanted);
        invited
            .map(|member| member.invite(self.is_direct, None))
            .collect()
    }

    fn power_levels(&self, rules: &RoomVersionRules) -> CanonicalJsonObject {
        let unlimited = rules.authorization.explicitly_privilege_room_creators;
        let mut users = CanonicalJsonObject::new();
        if !unlimited {
            users.insert(self.creator.user_id.to_string(), level(100));
            if self.preset == Preset::TrustedPrivate {
                users.extend(
                    self.invite
                        .iter()
                        .map(|member| (member.user_id.to_string(), level(100))),
                );
            }
        }
        let tombstone: i32 = if unlimited { 150 } else { 100 };
        let events = object([
            ("m.room.avatar", level(50)),
            ("m.room.canonical_alias", level(50)),
            ("m.room.encryption", level(100)),
            ("m.room.history_visibility", level(100)),
            ("m.room.name", level(50)),
            ("m.room.power_levels", level(100)),
            ("m.room.server_acl", level(100)),
            ("m.room.tombstone", level(tombstone)),
        ]);
        let invite: i32 = if self.preset == Preset::Public { 50 } else { 0 };
        let mut content = object([
            ("ban", level(50)),
            ("events", events.into()),
            ("events_default", level(0)),
            ("invite", level(invite)),
            ("kick", level(50)),
            ("notifications", object([("room", level(50))]).into()),
            ("redact", level(50)),
            ("state_default", level(50)),
            ("users", users.into()),
            ("users_default", level(0)),
        ]);
        content.extend(self.power_level_content_override.clone());
        content
    }
}

fn level(number: i32) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(number.into())
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
