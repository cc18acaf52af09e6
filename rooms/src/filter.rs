//! Filters of room events, ready to match.
//!
//! Client-Server API, "Filtering". The same filter is asked twice: the database leaves out what it can by type and
//! sender, and what was read is matched in memory, where the rest is decided.

use std::collections::HashSet;

use hearth_core::UserNid;
use hearth_store::timeline::Conditions;
use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UserId,
    api::client::filter::{LazyLoadOptions, RoomEventFilter, UrlFilter},
};
use serde::{Deserialize, de::IgnoredAny};

use crate::{Rooms, event::RoomEvent};

/// Which room events a client wants.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    types: Option<Vec<String>>,
    not_types: Vec<String>,
    senders: Option<HashSet<OwnedUserId>>,
    not_senders: HashSet<OwnedUserId>,
    rooms: Option<HashSet<OwnedRoomId>>,
    not_rooms: HashSet<OwnedRoomId>,
    url: Option<UrlFilter>,
    related_by: RelatedBy,
    relating: Relating,
    /// How many events at most.
    pub limit: Option<usize>,
    /// Whether members are told only as far as they matter.
    pub lazy_load: LazyLoadOptions,
}

/// Wants events that others refer to (MSC3440).
#[derive(Clone, Debug, Default, Deserialize)]
struct RelatedBy {
    #[serde(alias = "io.element.relation_senders")]
    related_by_senders: Option<Vec<OwnedUserId>>,
    #[serde(alias = "io.element.relation_types")]
    related_by_rel_types: Option<Vec<String>>,
}

/// Wants events that refer to others in some way, or do not (MSC3874).
#[derive(Clone, Debug, Default, Deserialize)]
struct Relating {
    #[serde(alias = "org.matrix.msc3874.rel_types")]
    rel_types: Option<Vec<String>>,
    #[serde(default, alias = "org.matrix.msc3874.not_rel_types")]
    not_rel_types: Vec<String>,
}

impl Relating {
    fn is_open(&self) -> bool {
        self.rel_types.is_none() && self.not_rel_types.is_empty()
    }

    fn matches(&self, event: &RoomEvent) -> bool {
        #[derive(Deserialize)]
        struct Content {
            #[serde(rename = "m.relates_to")]
            relates_to: RelatesTo,
        }
        #[derive(Deserialize)]
        struct RelatesTo {
            rel_type: String,
        }
        if self.is_open() {
            return true;
        }
        let kind = event.pdu.content_as::<Content>();
        let kind = kind.ok().map(|content| content.relates_to.rel_type);
        let any = |kinds: &[String]| kind.as_ref().is_some_and(|kind| kinds.contains(kind));
        !any(&self.not_rel_types) && self.rel_types.as_deref().is_none_or(any)
    }
}

impl From<&RoomEventFilter> for Filter {
    fn from(filter: &RoomEventFilter) -> Self {
        Self {
            types: filter.types.clone(),
            not_types: filter.not_types.clone(),
            senders: filter.senders.clone().map(HashSet::from_iter),
            not_senders: filter.not_senders.iter().cloned().collect(),
            rooms: filter.rooms.clone().map(HashSet::from_iter),
            not_rooms: filter.not_rooms.iter().cloned().collect(),
            url: filter.url_filter,
            related_by: RelatedBy::default(),
            relating: Relating::default(),
            limit: filter
                .limit
                .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            lazy_load: filter.lazy_load_options,
        }
    }
}

impl Filter {
    /// Reads a filter with all that it may say.
    pub fn parse(json: &str) -> serde_json::Result<Self> {
        let mut filter = Self::from(&serde_json::from_str::<RoomEventFilter>(json)?);
        filter.related_by = serde_json::from_str(json)?;
        filter.relating = serde_json::from_str(json)?;
        Ok(filter)
    }

    /// Whether the room's events are wanted at all.
    #[must_use]
    pub fn matches_room(&self, room: &RoomId) -> bool {
        !self.not_rooms.contains(room)
            && self.rooms.as_ref().is_none_or(|rooms| rooms.contains(room))
    }

    /// Whether something of this type from this sender is wanted.
    #[must_use]
    pub fn matches_kind(&self, kind: &str, sender: &UserId) -> bool {
        self.matches_type(kind)
            && !self.not_senders.contains(sender)
            && self
                .senders
                .as_ref()
                .is_none_or(|senders| senders.contains(sender))
    }

    /// Whether something of this type is wanted, whoever sent it.
    #[must_use]
    pub fn matches_type(&self, kind: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| glob(pattern, kind));
        !any(&self.not_types) && self.types.as_deref().is_none_or(any)
    }

    /// Whether an event is wanted, as far as it can be seen from the event itself: see [`Filter::needs_relations`].
    #[must_use]
    pub fn matches(&self, event: &RoomEvent) -> bool {
        let pdu = &event.pdu;
        self.matches_room(&pdu.room_id)
            && self.matches_kind(&pdu.kind.to_string(), &pdu.sender)
            && self
                .url
                .is_none_or(|wanted| (wanted == UrlFilter::EventsWithUrl) == has_url(event))
            && self.relating.matches(event)
    }

    /// Whether the filter asks for events that others refer to, which only the database knows.
    #[must_use]
    pub fn needs_relations(&self) -> bool {
        self.related_by.related_by_senders.is_some()
            || self.related_by.related_by_rel_types.is_some()
    }

    /// Whether every event of a room that is wanted at all matches.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.types.is_none()
            && self.not_types.is_empty()
            && self.senders.is_none()
            && self.not_senders.is_empty()
            && self.url.is_none()
            && self.relating.is_open()
            && !self.needs_relations()
    }
}

impl Rooms {
    /// What the database can tell of a filter.
    pub(crate) async fn conditions(
        &self,
        filter: &Filter,
        ignored: &HashSet<OwnedUserId>,
    ) -> sqlx::Result<Conditions> {
        let related = &filter.related_by;
        let patterns = |globs: &[String]| globs.iter().map(|glob| like(glob)).collect();
        let senders: Option<Vec<&UserId>> = filter
            .senders
            .as_ref()
            .map(|senders| senders.iter().map(AsRef::as_ref).collect());
        let related_by: Option<Vec<&UserId>> = related
            .related_by_senders
            .as_ref()
            .map(|senders| senders.iter().map(AsRef::as_ref).collect());
        let not_senders: Vec<&UserId> = filter.not_senders.iter().map(AsRef::as_ref).collect();
        let ignored: Vec<&UserId> = ignored.iter().map(AsRef::as_ref).collect();
        Ok(Conditions {
            types: filter.types.as_deref().map(patterns),
            not_types: patterns(&filter.not_types),
            senders: match senders {
                Some(senders) => Some(self.numbers(&senders).await?),
                None => None,
            },
            not_senders: self.numbers(&not_senders).await?,
            ignored: self.numbers(&ignored).await?,
            related_by_types: related.related_by_rel_types.clone(),
            related_by_senders: match related_by {
                Some(senders) => Some(self.numbers(&senders).await?),
                None => None,
            },
        })
    }

    /// The numbers of those users that have one.
    pub(crate) async fn numbers(&self, users: &[&UserId]) -> sqlx::Result<Vec<UserNid>> {
        match users {
            [] => Ok(Vec::new()),
            users => Ok(self
                .interner()
                .find_users(users)
                .await?
                .into_values()
                .collect()),
        }
    }
}

/// A glob as a pattern of `LIKE`.
fn like(glob: &str) -> String {
    let mut pattern = String::with_capacity(glob.len());
    for letter in glob.chars() {
        match letter {
            '*' => pattern.push('%'),
            '\\' | '%' | '_' => pattern.extend(['\\', letter]),
            other => pattern.push(other),
        }
    }
    pattern
}

/// Whether `text` matches `pattern`, in which `*` stands for anything.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    let Some((middle, end)) = rest.rsplit_once('*') else {
        return text.ends_with(rest);
    };
    for part in middle.split('*') {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(end)
}

fn has_url(event: &RoomEvent) -> bool {
    #[derive(Deserialize)]
    struct Content {
        #[expect(dead_code, reason = "only its presence counts")]
        url: IgnoredAny,
    }
    event.pdu.content_as::<Content>().is_ok()
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, user_id};

    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, matches) in [
            ("m.room.name", "m.room.name", true),
            ("m.room.name", "m.room.names", false),
            ("m.room.*", "m.room.name", true),
            ("m.room.*", "m.room.", true),
            ("m.room.*", "m.reaction", false),
            ("*", "", true),
            ("*.name", "m.room.name", true),
            ("m.*.name", "m.name", false),
            ("m*o*e", "m.room.name", true),
            ("m*x*e", "m.room.name", false),
            ("a*a", "a", false),
            ("*a*a*", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn a_glob_becomes_a_pattern_without_wildcards_of_its_own() {
        assert_eq!(like(r"m.*_%\"), r"m.%\_\%\\");
    }

    #[test]
    fn what_is_excluded_is_excluded_even_if_it_is_included() {
        let filter = Filter::parse(
            r#"{"types":["m.*"],"not_types":["m.room.member"],"senders":["@a:b.c"],"not_rooms":["!x:b.c"],
                "rooms":["!x:b.c","!y:b.c"]}"#,
        )
        .unwrap();

        assert!(filter.matches_kind("m.room.name", user_id!("@a:b.c")));
        assert!(!filter.matches_kind("m.room.member", user_id!("@a:b.c")));
        assert!(!filter.matches_kind("x.y", user_id!("@a:b.c")));
        assert!(!filter.matches_kind("m.room.name", user_id!("@b:b.c")));
        assert!(filter.matches_room(room_id!("!y:b.c")));
        assert!(!filter.matches_room(room_id!("!x:b.c")));
        assert!(!filter.matches_room(room_id!("!z:b.c")));
    }

    #[test]
    fn an_empty_list_lets_nothing_through_and_an_absent_one_everything() {
        let none = Filter::parse(r#"{"types":[]}"#).unwrap();
        let all = Filter::parse("{}").unwrap();

        assert!(!none.matches_type("m.room.name"));
        assert!(all.matches_type("m.room.name") && all.is_open());
        assert!(!none.is_open());
    }

    #[test]
    fn related_events_are_left_to_the_database() {
        let filter = Filter::parse(r#"{"related_by_rel_types":["m.thread"],"limit":7}"#).unwrap();

        assert!(filter.needs_relations());
        assert_eq!(filter.limit, Some(7));
    }
}
