//! How users sort their rooms (specification, "Room Tagging").

use std::collections::BTreeMap;

use hearth_core::{RoomNid, UserNid};
use hearth_journal::WriteError;
use ruma::events::tag::{TagEventContent, TagInfo, TagName, Tags};

use crate::account_data::{AccountData, Key};

/// The longest name of a tag, in bytes.
const MAX_NAME: usize = 255;

/// How many tags a room may have.
const MAX_TAGS: usize = 100;

/// The type of the account data that holds the tags of a room.
const KIND: &str = "m.tag";

/// Why a tag is not set or removed.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// The name is too long.
    #[error("the name of a tag has at most {MAX_NAME} bytes")]
    NameTooLong,
    /// There are too many.
    #[error("a room has at most {MAX_TAGS} tags")]
    TooMany,
    /// It could not be written.
    #[error("changing tags failed")]
    Write(#[from] WriteError),
}

/// The tags of users' rooms.
#[derive(Clone, Debug)]
pub struct RoomTags(AccountData);

impl RoomTags {
    /// Tags that are kept in `account_data`.
    #[must_use]
    pub fn new(account_data: AccountData) -> Self {
        Self(account_data)
    }

    /// Returns a room's tags.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(&self, user: UserNid, room: RoomNid) -> sqlx::Result<Tags> {
        let content = self.0.find(key(user, room)).await?;
        Ok(read(content.as_ref().map(|content| content.get())))
    }

    /// Adds a tag, or replaces what is known of it.
    ///
    /// # Errors
    ///
    /// [`TagError::NameTooLong`], [`TagError::TooMany`].
    pub async fn set(
        &self,
        user: UserNid,
        room: RoomNid,
        name: &str,
        info: &TagInfo,
    ) -> Result<(), TagError> {
        if name.len() > MAX_NAME {
            return Err(TagError::NameTooLong);
        }
        let add = |content: Option<&str>| {
            let mut tags = read(content);
            tags.insert(TagName::from(name), info.clone());
            if tags.len() > MAX_TAGS {
                return Err(TagError::TooMany);
            }
            Ok(Some(written(tags)))
        };
        self.0.update(key(user, room), add).await
    }

    /// Removes a tag, if the room has it.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub async fn remove(&self, user: UserNid, room: RoomNid, name: &str) -> Result<(), TagError> {
        let take = |content: Option<&str>| {
            let mut tags = read(content);
            let known = tags.remove(&TagName::from(name)).is_some();
            Ok(known.then(|| written(tags)))
        };
        self.0.update(key(user, room), take).await
    }
}

fn key(user: UserNid, room: RoomNid) -> Key<'static> {
    Key {
        user,
        room,
        kind: KIND,
    }
}

/// The tags in the account data. A client can write there what it likes: a tag about which something unreadable is told
/// keeps its name, and what is not tags counts as none.
fn read(content: Option<&str>) -> Tags {
    #[derive(serde::Deserialize)]
    struct Content {
        tags: BTreeMap<TagName, serde_json::Value>,
    }
    let content = content.and_then(|content| serde_json::from_str::<Content>(content).ok());
    let tags = content.map(|content| content.tags).unwrap_or_default();
    let tags = tags.into_iter();
    tags.map(|(name, info)| (name, serde_json::from_value(info).unwrap_or_default()))
        .collect()
}

fn written(tags: Tags) -> String {
    serde_json::to_string(&TagEventContent::new(tags)).expect("tags serialize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_cannot_be_read_takes_no_other_along() {
        let tags = read(Some(
            r#"{"tags":{"m.favourite":{"order":"first"},"u.work":{"order":0.5}}}"#,
        ));

        let orders: Vec<_> = tags.values().map(|info| info.order).collect();
        assert_eq!(orders, [None, Some(0.5)]);
    }
}
