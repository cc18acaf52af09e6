//! The face `GET /_matrix/client/v3/sync`: writes differences as JSON.
//!
//! Events go from the stored bytes into the response without being parsed or copied in between.

use std::collections::BTreeMap;

use hearth_rooms::ClientEvent;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    filter::{Format, SyncFilter},
    response::{
        AccountData, Counts, DeviceLists, JoinedRoom, LeftRoom, OutsideRoom, Response, Summary,
        TimelineAndState,
    },
    view::StateMode,
};

/// How a response is written.
#[derive(Clone, Copy, Debug)]
pub struct Style<'a> {
    /// What the client asked for.
    pub filter: &'a SyncFilter,
    /// Under which name state goes.
    pub state: StateMode,
    /// Whether the name is that of MSC4222.
    pub state_name: StateName,
}

/// How the state after the timeline is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateName {
    /// As in the specification.
    Stable,
    /// As in MSC4222.
    Unstable,
}

/// Writes a response.
///
/// # Errors
///
/// When an event is not JSON.
pub fn encode(response: &Response, style: Style<'_>) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Body::new(response, style))
}

#[derive(Serialize)]
struct Body<'a> {
    next_batch: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rooms: Option<Rooms<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<Events<&'a [Box<RawValue>]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_data: Option<Events<&'a [AccountData]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_device: Option<Events<&'a [Box<RawValue>]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_lists: Option<&'a DeviceLists>,
    device_one_time_keys_count: &'a BTreeMap<String, u64>,
    device_unused_fallback_key_types: &'a [String],
}

#[derive(Serialize)]
struct Events<T> {
    events: T,
}

fn events<T>(list: &[T]) -> Option<Events<&[T]>> {
    (!list.is_empty()).then_some(Events { events: list })
}

impl<'a> Body<'a> {
    fn new(response: &'a Response, style: Style<'a>) -> Self {
        let rooms = Rooms {
            join: by_id(&response.join, |room| {
                (room.room_id.as_str(), Joined { room, style })
            }),
            invite: by_id(&response.invite, |room| {
                (room.room_id.as_str(), Invited::new(room))
            }),
            knock: by_id(&response.knock, |room| {
                (room.room_id.as_str(), Knocked::new(room))
            }),
            leave: by_id(&response.leave, |room| {
                (room.room_id.as_str(), Left { room, style })
            }),
        };
        let lists = &response.device_lists;
        Self {
            next_batch: response.next.to_string(),
            rooms: (!rooms.is_empty()).then_some(rooms),
            presence: events(&response.presence),
            account_data: events(&response.account_data),
            to_device: events(&response.to_device),
            device_lists: (!lists.changed.is_empty() || !lists.left.is_empty()).then_some(lists),
            device_one_time_keys_count: &response.keys.one_time,
            device_unused_fallback_key_types: &response.keys.unused_fallback,
        }
    }
}

fn by_id<'a, T, U>(rooms: &'a [T], entry: impl Fn(&'a T) -> (&'a str, U)) -> BTreeMap<&'a str, U> {
    rooms.iter().map(entry).collect()
}

#[derive(Serialize)]
struct Rooms<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    join: BTreeMap<&'a str, Joined<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    invite: BTreeMap<&'a str, Invited<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    knock: BTreeMap<&'a str, Knocked<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    leave: BTreeMap<&'a str, Left<'a>>,
}

impl Rooms<'_> {
    fn is_empty(&self) -> bool {
        self.join.is_empty()
            && self.invite.is_empty()
            && self.knock.is_empty()
            && self.leave.is_empty()
    }
}

#[derive(Serialize)]
struct Invited<'a> {
    invite_state: Events<&'a RawValue>,
}

impl<'a> Invited<'a> {
    fn new(room: &'a OutsideRoom) -> Self {
        Self {
            invite_state: Events {
                events: &room.state,
            },
        }
    }
}

#[derive(Serialize)]
struct Knocked<'a> {
    knock_state: Events<&'a RawValue>,
}

impl<'a> Knocked<'a> {
    fn new(room: &'a OutsideRoom) -> Self {
        Self {
            knock_state: Events {
                events: &room.state,
            },
        }
    }
}

struct Joined<'a> {
    room: &'a JoinedRoom,
    style: Style<'a>,
}

impl Serialize for Joined<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let room = self.room;
        let mut map = serializer.serialize_map(None)?;
        write_events(&mut map, &room.events, self.style)?;
        let summary: Option<&Summary> = room.summary.as_ref();
        if let Some(summary) = summary {
            map.serialize_entry("summary", summary)?;
        }
        // Some clients read the list without looking whether it is there.
        let ephemeral = Events {
            events: room.ephemeral.as_slice(),
        };
        map.serialize_entry("ephemeral", &ephemeral)?;
        if let Some(data) = events(&room.account_data) {
            map.serialize_entry("account_data", &data)?;
        }
        let counts: &Counts = &room.unread.room;
        map.serialize_entry("unread_notifications", counts)?;
        if !room.unread.threads.is_empty() {
            map.serialize_entry("unread_thread_notifications", &room.unread.threads)?;
        }
        map.end()
    }
}

struct Left<'a> {
    room: &'a LeftRoom,
    style: Style<'a>,
}

impl Serialize for Left<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        write_events(&mut map, &self.room.events, self.style)?;
        if let Some(data) = events(&self.room.account_data) {
            map.serialize_entry("account_data", &data)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct TimelineBody<'a> {
    events: Vec<Styled<'a>>,
    limited: bool,
    prev_batch: &'a str,
}

fn write_events<M: SerializeMap>(
    map: &mut M,
    events: &TimelineAndState,
    style: Style<'_>,
) -> Result<(), M::Error> {
    let styled = |events| styled(events, style);
    let timeline = TimelineBody {
        events: styled(&events.timeline),
        limited: events.limited,
        prev_batch: &events.prev_batch,
    };
    map.serialize_entry("timeline", &timeline)?;
    let state = Events {
        events: styled(&events.state),
    };
    match (style.state, style.state_name) {
        (StateMode::AfterTimeline, StateName::Stable) => map.serialize_entry("state_after", &state),
        (StateMode::AfterTimeline, StateName::Unstable) => {
            map.serialize_entry("org.matrix.msc4222.state_after", &state)
        }
        (StateMode::BeforeTimeline, _) => map.serialize_entry("state", &state),
    }
}

fn styled<'a>(events: &'a [ClientEvent], style: Style<'a>) -> Vec<Styled<'a>> {
    events.iter().map(|event| Styled { event, style }).collect()
}

/// An event in the format that the client asked for.
struct Styled<'a> {
    event: &'a ClientEvent,
    style: Style<'a>,
}

impl Serialize for Styled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let filter = self.style.filter;
        match (&filter.fields, filter.format) {
            (None, Format::Client) => self.event.serialize(serializer),
            (None, Format::Federation) => self.event.event().pdu.json.serialize(serializer),
            (Some(fields), format) => {
                let whole = match format {
                    Format::Client => serde_json::to_value(self.event),
                    Format::Federation => serde_json::to_value(&self.event.event().pdu.json),
                };
                let whole = whole.map_err(serde::ser::Error::custom)?;
                only(&whole, fields).serialize(serializer)
            }
        }
    }
}

/// Keeps the fields of an event that are named by dotted paths, in which a backslash escapes a dot.
fn only(event: &Value, fields: &[String]) -> Value {
    let mut kept = Value::Object(Map::new());
    for field in fields {
        copy(event, &mut kept, &path(field));
    }
    kept
}

fn path(field: &str) -> Vec<String> {
    let mut path = vec![String::new()];
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        let last = path.last_mut().expect("there is always a last part");
        match letter {
            '\\' => match letters.next() {
                Some(escaped @ ('.' | '\\')) => last.push(escaped),
                Some(other) => last.extend(['\\', other]),
                None => last.push('\\'),
            },
            '.' => path.push(String::new()),
            other => last.push(other),
        }
    }
    path
}

fn copy(from: &Value, to: &mut Value, path: &[String]) {
    let (Some((first, rest)), Some(from)) = (path.split_first(), from.as_object()) else {
        return;
    };
    let (Some(value), Some(to)) = (from.get(first), to.as_object_mut()) else {
        return;
    };
    if rest.is_empty() {
        to.insert(first.clone(), value.clone());
    } else if value.is_object() {
        let inner = to
            .entry(first.clone())
            .or_insert_with(|| Value::Object(Map::new()));
        copy(value, inner, rest);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_named_fields_stay() {
        let event = json!({
            "type": "m.x", "sender": "@a:b", "content": {"body": "x", "a.b": 1, "deep": {"er": 2, "no": 3}},
        });
        let fields = [
            "type",
            "content.body",
            r"content.a\.b",
            "content.deep.er",
            "none.at.all",
        ];
        let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();

        assert_eq!(
            only(&event, &fields),
            json!({"type": "m.x", "content": {"body": "x", "a.b": 1, "deep": {"er": 2}}})
        );
    }
}
