//! What clients keep on the server for their users (specification, "Client Config").

use std::error::Error;

use hearth_core::{RoomNid, UserNid};
use hearth_journal::{Journal, WriteError};
use hearth_store::{
    account, account_data,
    write::{AccountDataRow, Write},
};
use serde_json::value::RawValue;
use sqlx::PgPool;

/// The room of data that belongs to no room.
pub const GLOBAL: RoomNid = RoomNid(0);

/// Types that the server manages: clients read them here and change them elsewhere.
const MANAGED: [&str; 2] = ["m.fully_read", "m.push_rules"];

/// The longest name of a type, in bytes.
const MAX_TYPE: usize = 255;

/// Where a piece of account data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// Whose.
    pub user: UserNid,
    /// The room, or [`GLOBAL`].
    pub room: RoomNid,
    /// The event type.
    pub kind: &'a str,
}

/// Why account data is not set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// The server manages this type.
    #[error("{0} cannot be set like this")]
    Managed(String),
    /// The name of the type is too long.
    #[error("the name of a type has at most {MAX_TYPE} bytes")]
    TypeTooLong,
    /// It could not be written.
    #[error("setting account data failed")]
    Write(#[from] WriteError),
}

/// The account data of this server's users.
#[derive(Clone, Debug)]
pub struct AccountData {
    pool: PgPool,
    journal: Journal,
}

impl AccountData {
    /// Account data in `pool`, written through `journal`.
    #[must_use]
    pub fn new(pool: PgPool, journal: Journal) -> Self {
        Self { pool, journal }
    }

    /// Returns the content of one type.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find(&self, key: Key<'_>) -> sqlx::Result<Option<Box<RawValue>>> {
        let mut conn = self.pool.acquire().await?;
        let content = account_data::find(&mut conn, key.user, key.room, key.kind).await?;
        content
            .map(|content| {
                RawValue::from_string(content).map_err(|error| sqlx::Error::Decode(error.into()))
            })
            .transpose()
    }

    /// Lists the data of these types that users keep for themselves: user, type and content.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list_of_users(
        &self,
        users: &[UserNid],
        kinds: &[&str],
    ) -> sqlx::Result<Vec<(UserNid, String, String)>> {
        let mut conn = self.pool.acquire().await?;
        account_data::list_of_kinds(&mut conn, users, kinds).await
    }

    /// Lists a user's data of one room: type and content.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list_of_room(
        &self,
        user: UserNid,
        room: RoomNid,
    ) -> sqlx::Result<Vec<(String, Box<RawValue>)>> {
        let mut conn = self.pool.acquire().await?;
        let rows = account_data::list_of_room(&mut conn, user, room).await?;
        rows.into_iter()
            .map(|(kind, content)| {
                let content = RawValue::from_string(content);
                let content = content.map_err(|error| sqlx::Error::Decode(error.into()))?;
                Ok((kind, content))
            })
            .collect()
    }

    /// Sets the content of one type.
    ///
    /// # Errors
    ///
    /// [`SetError::Managed`], [`SetError::TypeTooLong`].
    pub async fn set(&self, key: Key<'_>, content: &RawValue) -> Result<(), SetError> {
        Self::check(key.kind)?;
        self.put(key, content.get().to_owned()).await?;
        Ok(())
    }

    /// Refuses types that clients cannot set.
    ///
    /// # Errors
    ///
    /// [`SetError::Managed`], [`SetError::TypeTooLong`].
    pub fn check(kind: &str) -> Result<(), SetError> {
        if MANAGED.contains(&kind) {
            return Err(SetError::Managed(kind.to_owned()));
        }
        if kind.len() > MAX_TYPE {
            return Err(SetError::TypeTooLong);
        }
        Ok(())
    }

    /// Sets the content of any type.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub async fn put(&self, key: Key<'_>, content: String) -> Result<(), WriteError> {
        self.journal.submit(write(key, content)).await?;
        Ok(())
    }

    /// Sets the content of a type to what `change` makes of it, without losing a change that is made meanwhile; when
    /// `change` gives nothing, all stays as it is.
    ///
    /// # Errors
    ///
    /// What `change` refuses, and when it cannot be written.
    pub async fn update<E>(
        &self,
        key: Key<'_>,
        change: impl Fn(Option<&str>) -> Result<Option<String>, E> + Sync,
    ) -> Result<(), E>
    where
        E: Error + From<WriteError> + 'static,
    {
        hearth_store::retry("update account data", || self.update_once(key, &change)).await
    }

    async fn update_once<E: From<WriteError>>(
        &self,
        key: Key<'_>,
        change: &(impl Fn(Option<&str>) -> Result<Option<String>, E> + Sync),
    ) -> Result<(), E> {
        let mut tx = self.pool.begin().await.map_err(WriteError::from)?;
        account::lock(&mut tx, key.user)
            .await
            .map_err(WriteError::from)?;
        let content = account_data::find(&mut tx, key.user, key.room, key.kind)
            .await
            .map_err(WriteError::from)?;
        if let Some(content) = change(content.as_deref())? {
            self.journal.commit(tx, write(key, content)).await?;
        }
        Ok(())
    }
}

fn write(key: Key<'_>, content: String) -> Write {
    Write {
        account_data: vec![AccountDataRow {
            user: key.user,
            room: key.room,
            kind: key.kind.to_owned(),
            content,
        }],
        ..Write::default()
    }
}
