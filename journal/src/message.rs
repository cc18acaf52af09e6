//! Announcements as they go through Redis.
//!
//! A byte with the version, then numbers of variable length (seven bits a byte, the lowest first): epoch, previous
//! position, head, count; then for each entry kind, distance from the position before, room, user, event. Zero stands
//! for what is absent. A version that is not known here is not read: the log tells the same, later.

use std::sync::Arc;

use hearth_core::{EventNid, Position, RoomNid, UserNid};

use crate::announcement::{Announcement, Entry, Kind, Origin};

const VERSION: u8 = 1;

/// More entries than any batch has.
const MAX_ENTRIES: i64 = 1_000_000;

/// Packs an announcement.
pub(crate) fn encode(epoch: i64, announcement: &Announcement) -> Vec<u8> {
    let entries = &announcement.entries;
    let mut bytes = Vec::with_capacity(40 + 12 * entries.len());
    bytes.push(VERSION);
    let count = i64::try_from(entries.len()).unwrap_or(i64::MAX);
    for number in [epoch, announcement.previous.0, announcement.head.0, count] {
        put(&mut bytes, number);
    }
    let mut last = announcement.previous.0;
    for entry in entries.iter() {
        put(&mut bytes, i64::from(entry.kind as i16));
        put(&mut bytes, entry.position.0 - last);
        last = entry.position.0;
        put(&mut bytes, entry.room.map_or(0, |nid| nid.0));
        put(&mut bytes, entry.user.map_or(0, |nid| nid.0));
        put(&mut bytes, entry.event.map_or(0, |nid| nid.0));
    }
    bytes
}

/// Unpacks an announcement and its epoch; `None` if it is of another version or malformed.
pub(crate) fn decode(bytes: &[u8]) -> Option<(i64, Announcement)> {
    let (version, mut rest) = bytes.split_first()?;
    if *version != VERSION {
        return None;
    }
    let rest = &mut rest;
    let epoch = get(rest)?;
    let previous = Position(get(rest)?);
    let head = Position(get(rest)?);
    let count = get(rest)?;
    if !(0..=MAX_ENTRIES).contains(&count) || previous > head {
        return None;
    }
    let mut last = previous.0;
    let mut entries = Vec::new();
    for _ in 0..count {
        let kind = i16::try_from(get(rest)?).ok()?;
        last = last.checked_add(get(rest)?)?;
        let position = Position(last);
        let room = some(get(rest)?).map(RoomNid);
        let user = some(get(rest)?).map(UserNid);
        let event = some(get(rest)?).map(EventNid);
        // A kind of a newer version is nothing to us.
        if let Some(kind) = Kind::from_number(kind) {
            entries.push(Entry {
                position,
                kind,
                room,
                user,
                event,
            });
        }
    }
    let announcement = Announcement {
        previous,
        head,
        entries: Arc::from(entries),
        origin: Origin::Remote,
    };
    (last <= head.0).then_some((epoch, announcement))
}

fn some(number: i64) -> Option<i64> {
    (number != 0).then_some(number)
}

fn put(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = number.cast_unsigned();
    loop {
        let low = u8::try_from(rest & 0x7f).expect("seven bits fit");
        rest >>= 7;
        if rest == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn get(bytes: &mut &[u8]) -> Option<i64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number.cast_signed());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement() -> Announcement {
        let entry = |position, kind, room: i64, user: i64, event: i64| Entry {
            position: Position(position),
            kind,
            room: some(room).map(RoomNid),
            user: some(user).map(UserNid),
            event: some(event).map(EventNid),
        };
        Announcement {
            previous: Position(1_000_000_000_000),
            head: Position(1_000_000_000_003),
            entries: Arc::from([
                entry(1_000_000_000_001, Kind::Event, 1, 0, i64::MAX),
                entry(1_000_000_000_002, Kind::Receipt, 300, 7, 0),
                entry(1_000_000_000_003, Kind::State, 5, 0, 0),
            ]),
            origin: Origin::Local,
        }
    }

    #[test]
    fn what_is_packed_can_be_unpacked() {
        let sent = announcement();

        let (epoch, got) = decode(&encode(9, &sent)).unwrap();

        assert_eq!(epoch, 9);
        assert_eq!((got.previous, got.head), (sent.previous, sent.head));
        assert_eq!(got.entries, sent.entries);
        assert_eq!(got.origin, Origin::Remote);
    }

    #[test]
    fn other_versions_and_fragments_are_not_read() {
        let bytes = encode(9, &announcement());

        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_none());
        }
        let mut newer = bytes;
        newer[0] = VERSION + 1;
        assert!(decode(&newer).is_none());
        assert!(decode(&[VERSION, 0xff, 0xff]).is_none());
    }
}
