//! This server's name and the key that it signs with.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use ruma::{
    OwnedServerName, OwnedSigningKeyId,
    serde::Base64,
    signatures::{KeyPair, Signature},
};

/// Who we are to other servers.
#[derive(Debug)]
pub struct Identity {
    /// The server name: the part of user ids after the colon.
    pub server_name: OwnedServerName,
    /// The key that signs our events and requests.
    pub key: ServerKey,
}

/// An ed25519 signing key with its version.
///
/// The text form, one line, is Synapse's `signing.key`: `ed25519 <version> <unpadded base64 of the seed>`.
pub struct ServerKey {
    version: String,
    key: SigningKey,
}

/// A line is no signing key.
#[derive(Debug, thiserror::Error)]
#[error("not a signing key: expected `ed25519 <version> <base64 of 32 bytes>`")]
pub struct BadKey;

impl ServerKey {
    /// Makes a new key from 32 random bytes.
    ///
    /// The version follows from the key, so that two keys of one server never share one.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let public = key.verifying_key().to_bytes();
        let [first, second, third, ..] = public;
        let version = format!("k_{first:02x}{second:02x}{third:02x}");
        Self { version, key }
    }

    /// Reads the text form.
    pub fn parse(line: &str) -> Result<Self, BadKey> {
        let mut words = line.split_whitespace();
        let (Some("ed25519"), Some(version), Some(seed), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(BadKey);
        };
        let seed = STANDARD_NO_PAD
            .decode(seed)
            .or_else(|_| BASE64_STANDARD.decode(seed))
            .map_err(|_| BadKey)?;
        let seed: [u8; 32] = seed.try_into().map_err(|_| BadKey)?;
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if version.is_empty() || !version.chars().all(valid) {
            return Err(BadKey);
        }
        Ok(Self {
            version: version.to_owned(),
            key: SigningKey::from_bytes(&seed),
        })
    }

    /// Writes the text form. Secret.
    #[must_use]
    pub fn to_line(&self) -> String {
        let seed = STANDARD_NO_PAD.encode(self.key.to_bytes());
        format!("ed25519 {} {seed}", self.version)
    }

    /// The key's id: `ed25519:<version>`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("ed25519:{}", self.version)
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> Base64 {
        Base64::new(self.key.verifying_key().to_bytes().to_vec())
    }
}

impl KeyPair for ServerKey {
    fn sign(&self, message: &[u8]) -> Signature {
        let id = OwnedSigningKeyId::try_from(self.id()).expect("the version was checked when read");
        Signature::new(id, self.key.sign(message).to_bytes().to_vec())
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerKey")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file() {
        let key = ServerKey::from_seed(&[7; 32]);

        let read = ServerKey::parse(&key.to_line()).unwrap();

        assert_eq!(read.id(), key.id());
        assert_eq!(read.public(), key.public());
    }

    #[test]
    fn rubbish_is_no_key() {
        for line in [
            "",
            "ed25519 a",
            "ed25519 a AAAA",
            "rsa a AAAA",
            "ed25519 a:b AAAA",
        ] {
            assert!(ServerKey::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn debug_does_not_tell_the_secret() {
        let key = ServerKey::from_seed(&[7; 32]);

        assert!(!format!("{key:?}").contains(&STANDARD_NO_PAD.encode([7; 32])));
    }
}
