//! Finding the few things of an answer that are needed without parsing it.
//!
//! The generator shares the machine with the server, so what it spends on parsing is missing there.

use memchr::memmem;

/// What every message of the bench contains, followed by its [`Mark`].
const MARK: &str = "bench#";

/// Which message of which sender a text is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Mark {
    /// The number of the sender.
    pub(crate) slot: u32,
    /// The number of the message among those of its sender.
    pub(crate) number: u32,
}

impl Mark {
    /// The text that [`marks`] finds again.
    pub(crate) fn text(self) -> String {
        format!("{MARK}{}.{};", self.slot, self.number)
    }
}

/// The marks in `body`, in their order.
pub(crate) fn marks(body: &[u8]) -> impl Iterator<Item = Mark> {
    memmem::find_iter(body, MARK).filter_map(|at| {
        let (slot, rest) = digits(&body[at + MARK.len()..])?;
        let (number, rest) = digits(rest.strip_prefix(b".")?)?;
        rest.starts_with(b";").then_some(Mark { slot, number })
    })
}

/// The string that is the value of the first `key` in `body`.
///
/// Meant for ids and tokens: a string with escapes in it is given back as it is written.
pub(crate) fn string<'a>(body: &'a [u8], key: &str) -> Option<&'a str> {
    let quoted = format!("\"{key}\"");
    let value = memmem::find_iter(body, &quoted)
        .find_map(|at| {
            body[at + quoted.len()..]
                .trim_ascii_start()
                .strip_prefix(b":")
        })?
        .trim_ascii_start()
        .strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', value)?;
    std::str::from_utf8(&value[..end]).ok()
}

/// How often `text` is in `body`.
pub(crate) fn count(body: &[u8], text: &str) -> u32 {
    u32::try_from(memmem::find_iter(body, text).count()).unwrap_or(u32::MAX)
}

fn digits(text: &[u8]) -> Option<(u32, &[u8])> {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let number = std::str::from_utf8(&text[..end]).ok()?.parse().ok()?;
    Some((number, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_again_in_their_order() {
        let first = Mark {
            slot: 3,
            number: 17,
        };
        let second = Mark {
            slot: 0,
            number: 4_000_000_000,
        };
        let body = format!(
            r#"{{"body":"{} x"}},{{"body":"bench#nothing"}},{{"body":"{}"}},bench#1"#,
            first.text(),
            second.text()
        );

        assert_eq!(marks(body.as_bytes()).collect::<Vec<_>>(), [first, second]);
    }

    #[test]
    fn a_string_is_found_by_its_key() {
        let body = br#"{"a":"next_batch", "next_batch" : "s1_2" ,"b":1}"#;

        assert_eq!(string(body, "next_batch"), Some("s1_2"));
        assert_eq!(string(body, "prev_batch"), None);
        assert_eq!(string(body, "b"), None);
        assert_eq!(string(br#""next_batch":"cut off"#, "next_batch"), None);
    }

    #[test]
    fn occurrences_are_counted() {
        assert_eq!(count(b"limited limited", "limited"), 2);
    }
}
