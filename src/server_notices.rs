//! What the server tells its users (specification, "Server Notices"): one room for each user, to which they are invited,
//! and in which only the server speaks.

use std::sync::Arc;

use hearth_core::config::Config;
use hearth_rooms::{
    CreateError, Creation, Draft, Member, MembershipError, Preset, Room, Rooms, SendError,
    Transaction,
};
use hearth_store::server_notice_room;
use hearth_users::{
    Accounts, RoomTags,
    accounts::{Account, NewAccount, RegisterError},
    tags::TagError,
};
use ruma::{
    CanonicalJsonObject, Int, OwnedEventId, OwnedUserId, UserId,
    events::{room::member::MembershipState, tag::TagInfo},
};
use sqlx::PgPool;
use tokio::sync::Mutex;

/// The tag by which clients know the room.
const TAG: &str = "m.server_notice";

/// Why a notice is not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoticeError {
    /// The configuration names nobody who speaks for the server.
    #[error("this server sends no notices: [server_notices] is not configured")]
    Off,
    /// The user has no account here.
    #[error("there is no such user on this server")]
    NoSuchUser,
    /// The user's room cannot be made.
    #[error(transparent)]
    Room(#[from] CreateError),
    /// The user cannot be invited again.
    #[error(transparent)]
    Invite(#[from] MembershipError),
    /// The room cannot be tagged.
    #[error("the room of notices cannot be tagged")]
    Tag(#[from] TagError),
    /// The notice itself is refused.
    #[error(transparent)]
    Event(#[from] SendError),
}

impl From<sqlx::Error> for NoticeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Event(SendError::Storage(error))
    }
}

/// Sends notices to users of this server.
#[derive(Clone, Debug)]
pub(crate) struct ServerNotices(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Arc<Config>,
    pool: PgPool,
    rooms: Rooms,
    accounts: Accounts,
    tags: RoomTags,
    /// Held while a user's room is looked for and made, so that two notices do not make two rooms.
    making: Mutex<()>,
}

impl ServerNotices {
    /// Notices in `rooms`, by an account of `accounts`.
    pub(crate) fn new(
        (config, pool): (&Arc<Config>, &PgPool),
        rooms: &Rooms,
        accounts: &Accounts,
        tags: &RoomTags,
    ) -> Self {
        Self(Arc::new(Inner {
            config: Arc::clone(config),
            pool: pool.clone(),
            rooms: rooms.clone(),
            accounts: accounts.clone(),
            tags: tags.clone(),
            making: Mutex::new(()),
        }))
    }

    /// Makes the account that speaks for the server, so that nobody else registers its name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub(crate) async fn reserve(&self) -> sqlx::Result<()> {
        let Some(notices) = &self.0.config.server_notices else {
            return Ok(());
        };
        let new = NewAccount {
            username: Some(notices.localpart.clone()),
            ..NewAccount::default()
        };
        match self.0.accounts.register(new).await {
            Ok(_) | Err(RegisterError::Taken) => Ok(()),
            Err(RegisterError::Storage(error)) => Err(error),
            // The configuration was judged: the name will do, and there are no password and no token.
            Err(error) => Err(sqlx::Error::Encode(error.into())),
        }
    }

    /// Sends a notice to a user. A transaction that was seen before gives the first one's event.
    ///
    /// # Errors
    ///
    /// See [`NoticeError`].
    pub(crate) async fn send(
        &self,
        user_id: &UserId,
        notice: Draft,
        transaction: Option<Transaction>,
    ) -> Result<OwnedEventId, NoticeError> {
        let sender = self.sender()?;
        let account = self.0.accounts.find(user_id).await?;
        let account = account.ok_or(NoticeError::NoSuchUser)?;
        let room = self.room(&sender, &account).await?;
        let rooms = &self.0.rooms;
        let sent = match transaction {
            Some(transaction) => {
                rooms
                    .send_once(&room, &sender.user_id, notice, transaction)
                    .await?
            }
            None => rooms.send(&room, &sender.user_id, notice).await?,
        };
        Ok(sent.event_id)
    }

    /// Whether a user who wants to leave a room is refused: an invite to the room of notices cannot be turned down.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub(crate) async fn holds(&self, user_id: &UserId, room: &Room) -> Result<bool, NoticeError> {
        let user = self.0.rooms.interner().user(user_id).await?;
        let mut conn = self.0.pool.acquire().await?;
        let own = server_notice_room::find(&mut conn, user).await?;
        drop(conn);
        Ok(own == Some(room.nid)
            && self.membership(room, user_id).await? == MembershipState::Invite)
    }

    fn sender(&self) -> Result<Member, NoticeError> {
        let config = &self.0.config;
        let notices = config.server_notices.as_ref().ok_or(NoticeError::Off)?;
        let user_id = format!("@{}:{}", notices.localpart, config.server_name);
        Ok(Member {
            user_id: OwnedUserId::try_from(user_id).map_err(|_| NoticeError::Off)?,
            display_name: Some(notices.display_name.clone()),
            avatar_url: None,
            more: CanonicalJsonObject::new(),
        })
    }

    /// The user's room, to which he is invited unless he is in it.
    async fn room(&self, sender: &Member, account: &Account) -> Result<Arc<Room>, NoticeError> {
        let _making = self.0.making.lock().await;
        let receiver = Member {
            user_id: account.user_id.clone(),
            display_name: None,
            avatar_url: None,
            more: CanonicalJsonObject::new(),
        };
        let mut conn = self.0.pool.acquire().await?;
        let own = server_notice_room::find(&mut conn, account.user).await?;
        drop(conn);
        let room = match own {
            Some(nid) => self.0.rooms.find_by_nid(nid).await?,
            None => None,
        };
        let Some(room) = room else {
            return self.make(sender, receiver, account).await;
        };
        if self.membership(&room, &account.user_id).await? == MembershipState::Leave {
            self.tag(account, &room).await?;
            let rooms = &self.0.rooms;
            rooms
                .invite(&room, &sender.user_id, &receiver, None)
                .await?;
        }
        Ok(room)
    }

    async fn make(
        &self,
        sender: &Member,
        receiver: Member,
        account: &Account,
    ) -> Result<Arc<Room>, NoticeError> {
        let silent =
            CanonicalJsonObject::from([("users_default".to_owned(), Int::from(-10_i8).into())]);
        let notices = self.0.config.server_notices.as_ref();
        let creation = Creation {
            creator: sender.clone(),
            version: self.0.config.rooms.default_version.clone(),
            preset: Preset::Private,
            published: false,
            creation_content: CanonicalJsonObject::new(),
            power_level_content_override: silent,
            initial_state: Vec::new(),
            name: notices.map(|notices| notices.room_name.clone()),
            topic: None,
            alias: None,
            invite: Vec::new(),
            is_direct: false,
        };
        let room_id = self.0.rooms.create(&creation).await?;
        let room = self.0.rooms.find(&room_id).await?;
        let room = room.ok_or(SendError::UnknownRoom)?;
        // Before the invite, so that the invite cannot be turned down and clients know what it is.
        let mut conn = self.0.pool.acquire().await?;
        server_notice_room::upsert(&mut conn, account.user, room.nid).await?;
        drop(conn);
        self.tag(account, &room).await?;
        self.0
            .rooms
            .invite(&room, &sender.user_id, &receiver, None)
            .await?;
        Ok(room)
    }

    async fn tag(&self, account: &Account, room: &Room) -> Result<(), TagError> {
        let tags = &self.0.tags;
        tags.set(account.user, room.nid, TAG, &TagInfo::new()).await
    }

    async fn membership(&self, room: &Room, user: &UserId) -> Result<MembershipState, NoticeError> {
        let rooms = &self.0.rooms;
        let current = rooms.current(room).await?.ok_or(SendError::UnknownRoom)?;
        Ok(rooms.membership(&current.snapshot, user).await?)
    }
}
