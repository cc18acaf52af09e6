//! Who may find whom (specification, "User Directory", "Mutual Rooms").

use std::collections::HashSet;

use hearth_core::{RoomNid, UserNid, words};
use hearth_store::{intern::Interner, shared_room, user_directory, user_id, user_word};
use ruma::{OwnedMxcUri, OwnedRoomId, OwnedUserId, RoomId, UserId};
use sqlx::{PgConnection, PgPool};

/// How many users one search finds at the most.
const MAX_FOUND: usize = 100;

/// How many members the rooms have in all whose members are looked at first.
const NEAR_MEMBERS: i64 = 2_000;

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

    /// Finds users whom `searcher` may see, because they share a room or are in a public one, and of whose ids and names
    /// each word of `term` begins a word.
    ///
    /// Those who share small rooms with the searcher come first. Of all others a bounded number is looked at, so that a
    /// search for one letter costs no more than another.
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
        let mut search = Search::new(term, limit);
        if search.words.is_empty() || search.limit == 0 {
            return Ok(Results::default());
        }
        let mut conn = self.pool.acquire().await?;
        let near =
            user_directory::list_near(&mut conn, searcher, &search.words, NEAR_MEMBERS).await?;
        search.show(&mut conn, searcher, &near, &[]).await?;
        if search.is_full() {
            return Ok(search.into_results());
        }
        let mut others = user_directory::list_matching(&mut conn, searcher, &search.words).await?;
        search.is_cut |= others.len() >= user_directory::LOOKED_AT;
        search.leave_shown_out(&mut others);
        search.show(&mut conn, searcher, &others, &[]).await?;
        if search.is_full() {
            return Ok(search.into_results());
        }
        search.leave_shown_out(&mut others);
        let rooms = user_directory::list_rooms(&mut conn, &others, MAX_ROOMS).await?;
        drop(conn);
        let public = public_rooms.filter(rooms).await?;
        if !public.is_empty() {
            let mut conn = self.pool.acquire().await?;
            search.show(&mut conn, searcher, &others, &public).await?;
        }
        Ok(search.into_results())
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

/// A search under way.
struct Search {
    /// The term, in lower case.
    term: String,
    words: Vec<String>,
    limit: usize,
    found: Vec<Found>,
    /// Who was shown, whether the words match what is seen of him or not.
    shown: HashSet<UserNid>,
    /// Whether there are users that nobody looked at.
    is_cut: bool,
}

impl Search {
    fn new(term: &str, limit: usize) -> Self {
        Self {
            term: term.trim().trim_start_matches('@').to_lowercase(),
            words: words::of_search(term),
            limit: limit.min(MAX_FOUND),
            found: Vec::new(),
            shown: HashSet::new(),
            is_cut: false,
        }
    }

    fn is_full(&self) -> bool {
        self.found.len() > self.limit
    }

    /// Adds those of `users` whom the searcher may see, if the words match what he sees of them: of users of other
    /// servers the words of names in rooms elsewhere are known, too.
    async fn show(
        &mut self,
        conn: &mut PgConnection,
        searcher: UserNid,
        users: &[UserNid],
        public_rooms: &[RoomNid],
    ) -> sqlx::Result<()> {
        let most = 2 * (self.limit + 1);
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let shown = user_directory::list_shown(conn, searcher, users, public_rooms, limit).await?;
        self.is_cut |= shown.len() >= most;
        for row in shown {
            let Some(found) = self.shown.insert(row.user).then(|| read(row)).flatten() else {
                continue;
            };
            let words = words::of_user(&found.user_id, found.display_name.as_deref());
            if words::matches(&self.words, &words) {
                self.found.push(found);
            }
        }
        Ok(())
    }

    fn leave_shown_out(&self, users: &mut Vec<UserNid>) {
        let mut seen = HashSet::new();
        users.retain(|user| !self.shown.contains(user) && seen.insert(*user));
    }

    /// Those whose localpart or name begins with the whole term come first, then those who have a name.
    fn into_results(mut self) -> Results {
        let limited = self.is_full() || self.is_cut;
        self.found.truncate(self.limit);
        let begins = |text: &str| text.to_lowercase().starts_with(&self.term);
        self.found.sort_by_cached_key(|found| {
            let name = found.display_name.as_deref();
            let is_first = begins(&found.user_id.as_str()[1..]) || name.is_some_and(begins);
            (!is_first, name.is_none(), found.user_id.clone())
        });
        Results {
            users: self.found,
            limited,
        }
    }
}

/// Makes a user of this server findable by his id and `name`, and by nothing else.
pub(crate) async fn index(
    conn: &mut PgConnection,
    user: UserNid,
    name: Option<&str>,
) -> sqlx::Result<()> {
    let ids = user_id::list_ids(conn, &[user]).await?;
    let id = ids.first().and_then(|(_, id)| UserId::parse(id).ok());
    let words = id.map_or_else(Vec::new, |id| words::of_user(&id, name));
    user_word::delete_others(conn, user, &words).await?;
    let new: Vec<&str> = words.iter().map(String::as_str).collect();
    user_word::insert(conn, &vec![user; new.len()], &new).await
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
