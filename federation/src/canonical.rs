//! JSON with sorted keys and without spaces, as it is signed.
//!
//! A body is brought into this form before anybody knows whether its sender is who he says he is. So no tree is made of
//! it, which takes up a hundred times the size of the worst bodies, and nesting costs no stack: an event that is nested too
//! deeply is refused by itself, later, and not with everything that comes in the same transaction.

use serde::de::Error as _;
use serde_json::{Error, Number, value::RawValue};

/// How deep lists and objects may be in each other.
const DEEPEST: usize = 10_000;

/// How many entries a list may have: more than an event of the largest size has space for. In memory the shortest ones take
/// up many times their size, to whoever reads the body next.
const LONGEST: usize = 65_536;

/// How much is moved to sort keys, as a multiple of the size: what is nested in unsorted objects is moved once for each.
const MOST_MOVED: usize = 64;

/// Writes JSON with sorted keys and without spaces to the end of `text`; of a key that comes twice the last value counts.
///
/// Numbers stay what they are, so it is canonical JSON when they are integers.
///
/// # Errors
///
/// When `json` is no JSON, or made to be a burden.
pub(crate) fn write(text: &mut String, json: &[u8]) -> Result<(), Error> {
    let json: &RawValue = serde_json::from_slice(json)?;
    let json = json.get();
    text.reserve(json.len());
    let mut writer = Writer {
        text,
        open: Vec::new(),
        movable: json.len().saturating_mul(MOST_MOVED),
    };
    let mut rest = json;
    while let Some(token) = next(&mut rest) {
        writer.take(token)?;
    }
    Ok(())
}

/// Splits off the first token of what is known to be JSON.
fn next<'a>(rest: &mut &'a str) -> Option<&'a str> {
    *rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
    let length = match rest.bytes().next()? {
        b'{' | b'}' | b'[' | b']' | b':' | b',' => 1,
        b'"' => string(rest),
        _ => rest
            .find([',', ']', '}', ' ', '\t', '\n', '\r'])
            .unwrap_or(rest.len()),
    };
    let (token, after) = rest.split_at(length);
    *rest = after;
    Some(token)
}

/// The length of the string that a text begins with, its quotes included.
fn string(text: &str) -> usize {
    let mut is_escaped = true;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        // The quote that it begins with counts as escaped.
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 1)
}

struct Writer<'a> {
    text: &'a mut String,
    /// The lists and objects that are not at their end, the innermost last.
    open: Vec<Open>,
    /// How much may still be moved.
    movable: usize,
}

enum Open {
    List {
        /// How many entries came, but for the last.
        entries: usize,
    },
    Object {
        members: Vec<Member>,
        /// Whether a key comes next.
        at_key: bool,
    },
}

/// A member of an object, and where it begins.
struct Member {
    key: String,
    start: usize,
}

impl Writer<'_> {
    fn take(&mut self, token: &str) -> Result<(), Error> {
        match token.as_bytes() {
            b"{" | b"[" => {
                if self.open.len() == DEEPEST {
                    return Err(Error::custom("it is nested too deeply"));
                }
                self.open.push(match token {
                    "[" => Open::List { entries: 0 },
                    _ => Open::Object {
                        members: Vec::new(),
                        at_key: true,
                    },
                });
                self.text.push_str(token);
            }
            b"}" | b"]" => self.close(token)?,
            b"," => self.separate()?,
            [b'"', ..] => self.string(token)?,
            [b'-' | b'0'..=b'9', ..] => self.number(token)?,
            _ => self.text.push_str(token),
        }
        Ok(())
    }

    /// Another entry or member comes.
    fn separate(&mut self) -> Result<(), Error> {
        self.text.push(',');
        match self.open.last_mut() {
            Some(Open::Object { at_key, .. }) => *at_key = true,
            Some(Open::List { entries }) => {
                *entries += 1;
                if *entries == LONGEST {
                    return Err(Error::custom("a list is too long"));
                }
            }
            None => {}
        }
        Ok(())
    }

    fn string(&mut self, token: &str) -> Result<(), Error> {
        let start = self.text.len();
        if token.contains('\\') {
            let read: String = serde_json::from_str(token)?;
            self.text.push_str(&serde_json::to_string(&read)?);
        } else {
            self.text.push_str(token);
        }
        if let Some(Open::Object { members, at_key }) = self.open.last_mut()
            && std::mem::take(at_key)
        {
            let key = serde_json::from_str(token)?;
            members.push(Member { key, start });
        }
        Ok(())
    }

    fn number(&mut self, token: &str) -> Result<(), Error> {
        let number: Number = serde_json::from_str(token)?;
        self.text.push_str(&number.to_string());
        Ok(())
    }

    fn close(&mut self, token: &str) -> Result<(), Error> {
        if let Some(Open::Object { members, .. }) = self.open.pop()
            && !members.is_sorted_by(|a, b| a.key < b.key)
        {
            self.sort(members)?;
        }
        self.text.push_str(token);
        Ok(())
    }

    /// Sorts the members of the object that the text ends with.
    fn sort(&mut self, members: Vec<Member>) -> Result<(), Error> {
        let begin = members.first().map_or(self.text.len(), |first| first.start);
        let unsorted = self.text.split_off(begin);
        let left = self.movable.checked_sub(unsorted.len());
        self.movable = left.ok_or_else(|| Error::custom("it takes too long to sort"))?;
        // A comma is before each member but the first.
        let ends = members.iter().skip(1).map(|next| next.start - 1);
        let ends: Vec<usize> = ends.chain([begin + unsorted.len()]).collect();
        let mut sorted: Vec<(Member, usize)> = members.into_iter().zip(ends).collect();
        sorted.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
        let mut sorted = sorted.into_iter().peekable();
        while let Some((Member { key, start }, end)) = sorted.next() {
            if sorted.peek().is_some_and(|(next, _)| next.key == key) {
                continue;
            }
            if self.text.len() > begin {
                self.text.push(',');
            }
            self.text.push_str(&unsorted[start - begin..end - begin]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn canonical(json: &[u8]) -> Result<String, Error> {
        let mut text = String::new();
        write(&mut text, json)?;
        Ok(text)
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(".{0,3}", inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_a_tree_would_be_written_as(value in json()) {
            let spacious = serde_json::to_vec_pretty(&value).unwrap();

            // Read again, since reading rounds fractions.
            let tree: Value = serde_json::from_slice(&spacious).unwrap();
            prop_assert_eq!(canonical(&spacious).unwrap(), tree.to_string());
        }

        #[test]
        fn it_is_json_exactly_when_a_tree_can_be_made_of_it(text in "[\\[\\]{},:\"a1 ]{0,12}") {
            let tree = serde_json::from_str::<Value>(&text);

            let written = canonical(text.as_bytes());

            prop_assert_eq!(written.ok(), tree.ok().map(|tree| tree.to_string()));
        }
    }

    #[test]
    fn keys_are_sorted_and_the_last_of_two_counts() {
        let json = br#" { "b" : 1, "a\u0062": {"z":[ ],"y":{}}, "a": 2, "b": [1, 2.5] } "#;

        assert_eq!(
            canonical(json).unwrap(),
            r#"{"a":2,"ab":{"y":{},"z":[]},"b":[1,2.5]}"#
        );
    }

    #[test]
    fn nesting_is_no_reason_to_fail() {
        let deep = format!("{}1{}", "{\"a\":[".repeat(4_000), "]}".repeat(4_000));
        let unsorted = format!("{{\"b\":{deep},\"a\":2}}");

        let written = canonical(unsorted.as_bytes()).unwrap();

        assert_eq!(written, format!("{{\"a\":2,\"b\":{deep}}}"));
    }

    #[test]
    fn what_is_made_to_be_a_burden_is_refused() {
        let endless = "[".repeat(DEEPEST + 1) + &"]".repeat(DEEPEST + 1);
        let depth = DEEPEST - 1;
        let unsorted = "{\"b\":0,\"a\":".repeat(depth) + "1" + &"}".repeat(depth);

        let longest = format!("[{}0]", "0,".repeat(LONGEST - 1));
        let longer = format!("[{}0]", "0,".repeat(LONGEST));

        assert!(canonical(endless.as_bytes()).is_err());
        assert_eq!(canonical(longest.as_bytes()).unwrap(), longest);
        assert!(canonical(longer.as_bytes()).is_err());
        assert!(canonical(unsorted.as_bytes()).is_err());
    }
}
