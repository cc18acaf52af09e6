//! Secrets that this server makes up, and how they are stored.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{Rng as _, RngExt as _};
use sha2::{Digest as _, Sha256};

/// SHA-256 of a token: what is stored of it, and what it is looked up by.
///
/// A token has 256 random bits, so that neither a salt nor a slow hash would add anything, and looking up its hash
/// tells nothing by its timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of `token`.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Reads a stored hash; `None` when it is none.
    #[must_use]
    pub fn from_stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, as stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A new token: `prefix` and 256 random bits.
#[must_use]
pub fn token(prefix: &str) -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// A new device id: ten capital letters.
#[must_use]
pub fn device_id() -> String {
    letters(10, b'A')
}

/// A new localpart, for users who do not choose one.
#[must_use]
pub fn localpart() -> String {
    letters(12, b'a')
}

fn letters(count: usize, first: u8) -> String {
    let mut rng = rand::rng();
    (0..count)
        .map(|_| char::from(first + rng.random_range(0..26)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_say_what_they_are() {
        let (one, two) = (token("hrt_"), token("hrt_"));

        assert_ne!(one, two);
        assert!(one.starts_with("hrt_"));
        assert_eq!(one.len(), "hrt_".len() + 43);
    }

    #[test]
    fn a_stored_hash_is_read_back() {
        let hash = TokenHash::of("hrt_x");

        assert_eq!(TokenHash::from_stored(hash.as_bytes()), Some(hash));
        assert_eq!(TokenHash::from_stored(&[1, 2]), None);
    }

    #[test]
    fn device_ids_are_capital_letters() {
        let id = device_id();

        assert_eq!(id.len(), 10);
        assert!(id.bytes().all(|b| b.is_ascii_uppercase()));
    }
}
