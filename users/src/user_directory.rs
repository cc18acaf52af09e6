//! Who may find whom (specification, "User Directory", "Mutual Rooms").

use hearth_core::{RoomNid, UserNid};
use hearth_store::{
    intern::Interner,
    shared_room,
    user_directory::{self, Search},
};
use ruma::{OwnedMxcUri, OwnedRoomId, OwnedUserId, RoomId, UserId};
use sqlx::PgPool;

/// How many users one search finds at the most.
const MAX_FOUND: usize = 100;

/// How many words of a search count.
const MAX_WORDS: usize = 8;

/// How many rooms of users that match are looked at, to find out whether they are public.
const MAX_ROOMS: i64 = 200;

/// How many rooms one page of mutual rooms has.
const PAGE: usize = 100;

/// What the directory has to know of rooms: which of them are public, so that everybody may see their members.
pub trait PublicRooms: Sync {
    /// Keeps those of `rooms` that anybody may join or read.
    fn filter(
        &self,
        rooms: Vec<RoomNid>,
    ) -> impl Future<Output = sqlx::Result<Vec<RoomNid>>> + Send;
}

/// A user that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `@…`
    pub user_id: OwnedUserId,
    /// The name.
    pub display_name: Option<String>,
    /// The avatar.
    pub avatar_url: Option<OwnedMxcUri>,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// The users.
    pub users: Vec<Found>,
    /// Whether there are more.
    pub limited: bool,
}

/// A page of the rooms that two users share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MutualRooms {
    /// How many there are, on all pages.
    pub count: u64,
    /// Those of this page.
    pub rooms: Vec<OwnedRoomId>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// Why mutual rooms are not told.
#[derive(Debug, thiserror::Error)]
pub enum MutualRoomsError {
    /// It is the same user.
    #[error("these are your own rooms")]
    Oneself,
    /// The token is none of ours.
    #[error("this is no token of a page")]
    BadToken,
    /// The database failed.
    #[error("mutual rooms could not be read")]
    Storage(#[from] sqlx::Error),
}

/// Finds users.
#[derive(Clone, Debug)]
pub struct UserDirectory {
    pool: PgPool,
    interner: Interner,
}

impl UserDirectory {
    /// The users of the rooms in `pool`.
    #[must_use]
    pub fn new(pool: PgPool, interner: Interner) -> Self {
        Self { pool, interner }
    }

    /// Finds users whom `searcher` may see, because they share a room or are in a public one, and whose ids or names
    /// contain every word of `term`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn search(
        &self,
        searcher: UserNid,
        term: &str,
        limit: usize,
        public_rooms: &impl PublicRooms,
    ) -> sqlx::Result<Results> {
        let term = term.trim().to_lowercase();
        let limit = limit.min(MAX_FOUND);
        if term.is_empty() || limit == 0 {
            return Ok(Results::default());
        }
        let words = term.split_whitespace().take(MAX_WORDS);
        let patterns: Vec<String> = words.map(pattern).collect();
        let mut search = Search {
            searcher,
            public_rooms: &[],
            patterns: &patterns,
            first: &format!("{}%", escape(term.trim_start_matches('@'))),
            limit: i64::try_from(limit + 1).unwrap_or(i64::MAX),
        };
        let mut conn = self.pool.acquire().await?;
        let mut found = user_directory::list(&mut conn, search).await?;
        if found.len() <= limit {
            let candidates = Search {
                limit: MAX_ROOMS,
                ..search
            };
            let rooms = user_directory::list_rooms(&mut conn, candidates).await?;
            drop(conn);
            let public = public_rooms.filter(rooms).await?;
            if !public.is_empty() {
                search.public_rooms = &public;
                let mut conn = self.pool.acquire().await?;
                found = user_directory::list(&mut conn, search).await?;
            }
        }
        let limited = found.len() > limit;
        found.truncate(limit);
        Ok(Results {
            users: found.into_iter().filter_map(read).collect(),
            limited,
        })
    }

    /// Returns a page of the rooms in which `user` and `other_id` are both joined.
    ///
    /// # Errors
    ///
    /// [`MutualRoomsError::Oneself`], [`MutualRoomsError::BadToken`].
    pub async fn mutual_rooms(
        &self,
        user: UserNid,
        other_id: &UserId,
        from: Option<&str>,
    ) -> Result<MutualRooms, MutualRoomsError> {
        let after = from.map_or(Ok(0), str::parse);
        let after = RoomNid(after.map_err(|_| MutualRoomsError::BadToken)?);
        let Some(other) = self.interner.find_user(other_id).await? else {
            return Ok(MutualRooms::default());
        };
        if other == user {
            return Err(MutualRoomsError::Oneself);
        }
        let mut conn = self.pool.acquire().await?;
        let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
        let mut rows = shared_room::list(&mut conn, (user, other), after, limit).await?;
        let count = match (from, rows.len()) {
            (None, all) if all <= PAGE => i64::try_from(all).unwrap_or(i64::MAX),
            _ => shared_room::find_count(&mut conn, user, other).await?,
        };
        let more = rows.len() > PAGE;
        rows.truncate(PAGE);
        Ok(MutualRooms {
            count: count.unsigned_abs(),
            next: rows.last().filter(|_| more).map(|row| row.room.to_string()),
            rooms: rows
                .into_iter()
                .filter_map(|row| RoomId::parse(row.room_id).ok())
                .collect(),
        })
    }
}

/// The pattern for a word: a whole user id begins with it, anything else contains it.
fn pattern(word: &str) -> String {
    let start = if word.starts_with('@') { "" } else { "%" };
    format!("{start}{}%", escape(word))
}

/// `text` without what `LIKE` takes for more than a letter.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// The names of local users are JSON, as profiles keep them.
fn read(found: user_directory::Found) -> Option<Found> {
    let plain = |value: String| {
        if found.local {
            return serde_json::from_str::<String>(&value).ok();
        }
        Some(value)
    };
    Some(Found {
        user_id: UserId::parse(&found.user_id).ok()?,
        display_name: found.display_name.and_then(plain),
        avatar_url: found.avatar_url.and_then(plain).map(OwnedMxcUri::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_special_to_like_is_taken_literally() {
        assert_eq!(pattern("a_b%"), r"%a\_b\%%");
        assert_eq!(pattern("@alice"), "@alice%");
    }
}
