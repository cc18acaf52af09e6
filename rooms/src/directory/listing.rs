//! The list of published rooms.
//!
//! Client-Server API, "Published room directory".

use std::{fmt, str::FromStr};

use hearth_core::RoomNid;
use hearth_store::{
    room as room_table,
    room_directory::{self, Listed, Place},
};
use ruma::{
    RoomId, ServerName, UInt,
    directory::{Filter, PublicRoomsChunk, RoomNetwork, RoomTypeFilter},
};

use super::{AliasError, Caller, Directory, RemoteError, summary::Subject};

/// How many rooms a page has when the client does not say.
const DEFAULT_PAGE: i64 = 100;

/// How many rooms a page has at the most.
const LARGEST_PAGE: i64 = 500;

/// How many rooms are read at once when only some of them fit.
const SEARCHED: i64 = 500;

/// How often rooms are read for one page; after that the client goes on from there.
const ROUNDS: usize = 20;

/// Which published rooms somebody wants to see.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// How many at the most.
    pub limit: Option<UInt>,
    /// Where an earlier page ended.
    pub since: Option<String>,
    /// What they must be like.
    pub filter: Filter,
    /// Which networks they belong to.
    pub network: RoomNetwork,
}

/// A page of published rooms.
#[derive(Clone, Debug, Default)]
pub struct PublicRooms {
    /// The rooms.
    pub chunk: Vec<PublicRoomsChunk>,
    /// Where the next page begins.
    pub next_batch: Option<String>,
    /// Where the previous page ends.
    pub prev_batch: Option<String>,
    /// About how many there are in all.
    pub total: Option<UInt>,
}

/// Whether a room is in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    /// It is.
    Public,
    /// It is not.
    Private,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The token is not one of ours.
    #[error("the pagination token is not one of this server's")]
    BadToken,
    /// The other server gave no answer.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The database failed.
    #[error("reading the list of rooms failed")]
    Storage(#[from] sqlx::Error),
}

impl Directory {
    /// A page of the rooms that a server publishes; of this one's without `server`.
    ///
    /// # Errors
    ///
    /// See [`ListError`].
    pub async fn public_rooms(
        &self,
        server: Option<&ServerName>,
        query: &ListQuery,
    ) -> Result<PublicRooms, ListError> {
        if let Some(server) = server.filter(|server| !self.is_ours(server)) {
            return Ok(self.remote.public_rooms(server, query).await?);
        }
        let mut conn = self.rooms.pool().acquire().await?;
        let total = room_directory::count(&mut conn).await?;
        drop(conn);
        let mut page = match &query.network {
            // Application services, which could publish rooms of other networks, have published none.
            RoomNetwork::ThirdParty(_) => PublicRooms::default(),
            RoomNetwork::Matrix | RoomNetwork::All | _ => self.page(query).await?,
        };
        page.total = UInt::try_from(total).ok();
        Ok(page)
    }

    async fn page(&self, query: &ListQuery) -> Result<PublicRooms, ListError> {
        let since: Option<Token> = query.since.as_deref().map(str::parse).transpose()?;
        let limit = page_size(query.limit);
        let mut scan = Scan::new(since, limit, &query.filter);
        for _ in 0..ROUNDS {
            let rows = self.read(scan.from, scan.fetch).await?;
            let is_last = i64::try_from(rows.len()).is_ok_and(|read| read < scan.fetch);
            let subjects: Vec<Subject> = rows
                .iter()
                .map(|row| Subject::new(&row.room_id, &row.version, row.snapshot, row.joined))
                .collect::<sqlx::Result<_>>()?;
            let summaries = self.summaries(&subjects).await?;
            for (row, summary) in rows.iter().zip(summaries) {
                scan.take(row, summary.into());
            }
            if is_last {
                scan.is_exhausted = true;
            }
            if scan.is_done() {
                break;
            }
        }
        Ok(scan.into_page(since))
    }

    async fn read(&self, from: Option<Token>, limit: i64) -> sqlx::Result<Vec<Listed>> {
        let mut conn = self.rooms.pool().acquire().await?;
        match from {
            Some(Token::Before(place)) => {
                room_directory::list_before(&mut conn, place, limit).await
            }
            Some(Token::After(place)) => room_directory::list_after(&mut conn, place, limit).await,
            None => room_directory::list_after(&mut conn, Place::START, limit).await,
        }
    }

    /// Whether a room is in the list; `None` when nobody here knows it.
    pub async fn publication(&self, room_id: &RoomId) -> sqlx::Result<Option<Publication>> {
        let mut conn = self.rooms.pool().acquire().await?;
        let row = room_table::find_by_id(&mut conn, room_id.as_str()).await?;
        let row = row.filter(|row| row.snapshot.is_some());
        Ok(row.map(|row| {
            if row.published {
                Publication::Public
            } else {
                Publication::Private
            }
        }))
    }

    /// Puts a room into the list, or takes it out.
    ///
    /// # Errors
    ///
    /// [`AliasError::NotFound`] for an unknown room; [`AliasError::Forbidden`] unless the caller administers the server
    /// or has the power to change the room's canonical alias.
    pub async fn publish(
        &self,
        room_id: &RoomId,
        publication: Publication,
        caller: Caller<'_>,
    ) -> Result<(), AliasError> {
        if self.publication(room_id).await?.is_none() {
            return Err(AliasError::NotFound);
        }
        let room = self.rooms.find(room_id).await?;
        let room = room.ok_or(AliasError::NotFound)?;
        if !caller.is_admin && !self.may_name(&room, caller.user_id).await? {
            return Err(AliasError::Forbidden(
                "only a moderator may change whether a room is in the directory",
            ));
        }
        let published = publication == Publication::Public;
        let mut conn = self.rooms.pool().acquire().await?;
        room_table::update_published(&mut conn, room.nid, published).await?;
        Ok(())
    }
}

/// Some old clients mean "as many as possible" by 0.
fn page_size(limit: Option<UInt>) -> i64 {
    match limit.map(i64::from) {
        None => DEFAULT_PAGE,
        Some(0) => LARGEST_PAGE,
        Some(limit) => limit.min(LARGEST_PAGE),
    }
}

/// Where a page begins: `d1_n_<joined>_<room>` or `d1_p_<joined>_<room>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// It goes on after this place.
    After(Place),
    /// It ends before this place.
    Before(Place),
}

impl Token {
    fn to(self, place: Place) -> Self {
        match self {
            Self::After(_) => Self::After(place),
            Self::Before(_) => Self::Before(place),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (way, place) = match self {
            Self::After(place) => ('n', place),
            Self::Before(place) => ('p', place),
        };
        write!(f, "d1_{way}_{}_{}", place.joined, place.nid.0)
    }
}

impl FromStr for Token {
    type Err = ListError;

    fn from_str(token: &str) -> Result<Self, ListError> {
        let mut parts = token.split('_');
        let mut next = || parts.next().ok_or(ListError::BadToken);
        let number = |text: &str| text.parse::<i64>().map_err(|_| ListError::BadToken);
        if next()? != "d1" {
            return Err(ListError::BadToken);
        }
        let way = next()?;
        let joined = number(next()?)?;
        let nid = RoomNid(number(next()?)?);
        if nid.0 < 0 {
            return Err(ListError::BadToken);
        }
        let place = Place { joined, nid };
        match (way, parts.next()) {
            ("n", None) => Ok(Self::After(place)),
            ("p", None) => Ok(Self::Before(place)),
            _ => Err(ListError::BadToken),
        }
    }
}

/// The search for the rooms of one page.
struct Scan<'a> {
    filter: &'a Filter,
    term: Option<String>,
    /// How many rooms the page has.
    limit: usize,
    /// How many rooms are read at once.
    fetch: i64,
    /// Where to read on.
    from: Option<Token>,
    /// What was found, one more than fits at the most.
    found: Vec<(Place, PublicRoomsChunk)>,
    is_exhausted: bool,
}

impl<'a> Scan<'a> {
    fn new(since: Option<Token>, limit: i64, filter: &'a Filter) -> Self {
        let term = filter.generic_search_term.as_deref();
        let term = term.map(|term| term.trim().to_lowercase());
        let term = term.filter(|term| !term.is_empty());
        let finds_all = term.is_none() && filter.room_types.is_empty();
        Self {
            filter,
            term,
            limit: usize::try_from(limit).unwrap_or_default(),
            fetch: if finds_all { limit + 1 } else { SEARCHED },
            from: since,
            found: Vec::new(),
            is_exhausted: false,
        }
    }

    fn is_done(&self) -> bool {
        self.is_exhausted || self.found.len() > self.limit
    }

    fn take(&mut self, row: &Listed, chunk: PublicRoomsChunk) {
        if self.found.len() > self.limit {
            return;
        }
        let place = Place {
            joined: row.joined,
            nid: row.nid,
        };
        self.from = Some(self.from.map_or(Token::After(place), |from| from.to(place)));
        if self.fits(&chunk) {
            self.found.push((place, chunk));
        }
    }

    fn fits(&self, chunk: &PublicRoomsChunk) -> bool {
        let types = &self.filter.room_types;
        let kind = RoomTypeFilter::from(chunk.room_type.clone());
        if !types.is_empty() && !types.contains(&kind) {
            return false;
        }
        let Some(term) = &self.term else { return true };
        let alias = chunk.canonical_alias.as_ref().map(|alias| alias.as_str());
        let texts = [chunk.name.as_deref(), chunk.topic.as_deref(), alias];
        texts
            .into_iter()
            .flatten()
            .any(|text| text.to_lowercase().contains(term))
    }

    fn into_page(mut self, since: Option<Token>) -> PublicRooms {
        let has_more = self.found.len() > self.limit;
        self.found.truncate(self.limit);
        let is_backward = matches!(since, Some(Token::Before(_)));
        // Where the search stopped, when it stopped early; else the last room of the page.
        let end = match (has_more, self.is_exhausted) {
            (true, _) => self.found.last().map(|(place, _)| *place),
            (false, false) => self
                .from
                .map(|(Token::After(place) | Token::Before(place))| place),
            (false, true) => None,
        };
        let start = self.found.first().map(|(place, _)| *place);
        if is_backward {
            self.found.reverse();
        }
        let (next, prev) = match since {
            None => (end, None),
            Some(Token::After(place)) => (end, Some(start.unwrap_or(place))),
            Some(Token::Before(place)) => (Some(start.unwrap_or(place)), end),
        };
        PublicRooms {
            chunk: self.found.into_iter().map(|(_, chunk)| chunk).collect(),
            next_batch: next.map(|place| Token::After(place).to_string()),
            prev_batch: prev.map(|place| Token::Before(place).to_string()),
            total: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_wire() {
        let place = Place {
            joined: 7,
            nid: RoomNid(12),
        };
        for token in [Token::After(place), Token::Before(place)] {
            assert_eq!(token.to_string().parse::<Token>().ok(), Some(token));
        }
    }

    #[test]
    fn rubbish_is_refused() {
        for rubbish in [
            "",
            "d1_n_7",
            "d1_x_7_1",
            "d2_n_7_1",
            "d1_n_7_1_1",
            "d1_n_a_1",
            "d1_n_0_-9223372036854775808",
        ] {
            assert!(rubbish.parse::<Token>().is_err(), "{rubbish}");
        }
    }
}
