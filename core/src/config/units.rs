//! Values that are written as strings: secrets, addresses, sizes, times, rates.

use std::{fmt, net::SocketAddr, num::NonZeroU32, path::PathBuf, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Visitor},
};

/// A string that is never shown by `Debug`.
#[derive(Clone, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `secret`.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The string itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"***\"")
    }
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// An address with a port.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("\"unix:\" is followed by no path".to_owned()),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!(
                "{text:?} is neither an IP address with a port (\"127.0.0.1:8008\", \
                 \"[::]:8008\") nor \"unix:\" with a path"
            )
        })
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Bind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// A number of bytes, written as a number or as `"10 MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(usize);

impl Size {
    /// `count` MiB.
    #[must_use]
    pub const fn mebibytes(count: usize) -> Self {
        Self(count << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("", 0), ("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30)];
        scaled(text, &units)
            .and_then(|(number, shift)| number.checked_mul(1 << shift))
            .and_then(|bytes| usize::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a size such as \"512 KiB\" or \"10 MiB\""))
    }
}

/// A length of time, written as seconds or as `"500 ms"`, `"30 s"`, `"5 m"`, `"1 h"`, `"7 d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

impl Span {
    /// `seconds` seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The length as a `Duration`.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [
            ("", 1000),
            ("ms", 1),
            ("s", 1000),
            ("m", 60_000),
            ("h", 3_600_000),
            ("d", 86_400_000),
        ];
        scaled(text, &units)
            .and_then(|(number, factor)| number.checked_mul(factor))
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| format!("{text:?} is not a time such as \"500 ms\", \"30 s\", \"1 h\""))
    }
}

/// Splits `"10 MiB"` into the number and what its unit means.
fn scaled<T: Copy>(text: &str, units: &[(&str, T)]) -> Option<(u64, T)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (_, factor) = units
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    Some((number.parse().ok()?, *factor))
}

/// Reads a number, or a string with a unit.
struct NumberOrText<T>(&'static str, std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for NumberOrText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText(
            "a number of bytes or a size such as \"10 MiB\"",
            std::marker::PhantomData,
        ))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText(
            "a number of seconds or a time such as \"30 s\"",
            std::marker::PhantomData,
        ))
    }
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How often in the long run.
    pub per_second: f64,
    /// How often at once, after a rest.
    pub burst: NonZeroU32,
}

impl Rate {
    /// `per_second` in the long run, `burst` (at least one) at once.
    #[must_use]
    pub const fn new(per_second: f64, burst: u32) -> Self {
        Self {
            per_second,
            burst: match NonZeroU32::new(burst) {
                Some(burst) => burst,
                None => NonZeroU32::MIN,
            },
        }
    }

    /// The time after which one more is allowed.
    #[must_use]
    pub fn period(&self) -> Duration {
        Duration::try_from_secs_f64(1.0 / self.per_second).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!("10 MiB".parse(), Ok(Size::mebibytes(10)));
        assert_eq!("2kib".parse(), Ok(Size(2048)));
        assert_eq!("77".parse(), Ok(Size(77)));
        assert_eq!("500 ms".parse(), Ok(Span(Duration::from_millis(500))));
        assert_eq!("2 h".parse(), Ok(Span::from_secs(7200)));
        assert!("10 parsecs".parse::<Span>().is_err());
        assert!("-1".parse::<Size>().is_err());
        assert!("99999999999999 GiB".parse::<Size>().is_err());
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("tell".to_owned())), "\"***\"");
    }

    #[test]
    fn a_bind_is_shown_as_it_was_written() {
        for text in ["127.0.0.1:8008", "[::]:80", "unix:/run/hearth.sock"] {
            let bind: Bind = text.parse().unwrap();
            assert_eq!(bind.to_string(), text);
        }
    }
}
