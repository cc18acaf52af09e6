//! What a server says about its keys.

use std::collections::BTreeMap;

use hearth_store::server_key::Stored;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, ServerName,
    api::federation::discovery::ServerSigningKeys,
    serde::{Base64, Raw},
    signatures::{PublicKeyMap, verify_json},
};

/// How long an answer is good at the most, in milliseconds, whatever it says itself.
pub(super) const LONGEST_VALIDITY: i64 = 7 * 24 * 60 * 60 * 1_000;

/// How many keys an answer may name.
const MOST_KEYS: usize = 64;

/// The longest name of a key.
const LONGEST_KEY_ID: usize = 255;

/// The bytes of an ed25519 key.
const KEY_LENGTH: usize = 32;

/// A checked answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The keys that it names.
    pub(super) keys: Vec<Stored>,
    /// Until when it says that it is good.
    pub(super) valid_until_ts: i64,
    /// The signed object.
    pub(super) object: CanonicalJsonObject,
}

/// Why an answer is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadAnswer {
    #[error("it is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("it is about another server")]
    OtherServer,
    #[error("it names too many keys")]
    TooManyKeys,
    #[error("its signature is wrong: {0}")]
    Signature(#[from] ruma::signatures::VerificationError),
}

impl Answer {
    /// Reads the answer of `server` that came at `now`, whoever brought it, and checks its signatures.
    pub(super) fn read(
        raw: &Raw<ServerSigningKeys>,
        server: &ServerName,
        now: i64,
    ) -> Result<Self, BadAnswer> {
        let answer: ServerSigningKeys = raw.deserialize()?;
        if answer.server_name != server {
            return Err(BadAnswer::OtherServer);
        }
        if answer.verify_keys.len() + answer.old_verify_keys.len() > MOST_KEYS {
            return Err(BadAnswer::TooManyKeys);
        }
        let object: CanonicalJsonObject = serde_json::from_str(raw.json().get())?;
        let own: BTreeMap<String, Base64> = answer
            .verify_keys
            .iter()
            .map(|(id, key)| (id.to_string(), key.key.clone()))
            .collect();
        verify(&object, server, own)?;
        let valid_until_ts = i64::from(answer.valid_until_ts.get());
        let good_until = valid_until_ts.min(now.saturating_add(LONGEST_VALIDITY));
        let current = answer.verify_keys.into_iter().map(|(id, key)| Stored {
            server_name: server.to_string(),
            key_id: id.to_string(),
            key: key.key.as_bytes().to_vec(),
            is_old: false,
            valid_until_ts: good_until,
        });
        let old = answer.old_verify_keys.into_iter().map(|(id, key)| Stored {
            server_name: server.to_string(),
            key_id: id.to_string(),
            key: key.key.as_bytes().to_vec(),
            is_old: true,
            valid_until_ts: i64::from(key.expired_ts.get()).min(now),
        });
        let mut keys: BTreeMap<String, Stored> = BTreeMap::new();
        // A key that is in use and old at once is in use.
        for key in old.chain(current) {
            if key.key.len() == KEY_LENGTH && key.key_id.len() <= LONGEST_KEY_ID {
                keys.insert(key.key_id.clone(), key);
            }
        }
        Ok(Self {
            keys: keys.into_values().collect(),
            valid_until_ts,
            object,
        })
    }
}

/// Checks what `signer` signed, whoever else signed it as well.
pub(super) fn verify(
    object: &CanonicalJsonObject,
    signer: &ServerName,
    keys: BTreeMap<String, Base64>,
) -> Result<(), ruma::signatures::VerificationError> {
    let mut object = object.clone();
    if let Some(CanonicalJsonValue::Object(signatures)) = object.get_mut("signatures") {
        signatures.retain(|entity, _| entity == signer.as_str());
        signatures
            .entry(signer.to_string())
            .or_insert_with(|| CanonicalJsonValue::Object(CanonicalJsonObject::new()));
    }
    let keys = PublicKeyMap::from([(signer.to_string(), keys)]);
    verify_json(&keys, &object)
}

#[cfg(test)]
mod tests {
    use hearth_core::signing::ServerKey;
    use ruma::{server_name, signatures::sign_json};
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_750_000_000_000;

    fn answer(
        valid_until_ts: i64,
        change: impl FnOnce(&mut CanonicalJsonObject),
    ) -> Result<Answer, BadAnswer> {
        let key = ServerKey::from_seed(&[1; 32]);
        let old = ServerKey::from_seed(&[2; 32]);
        let object = json!({
            "server_name": "a.example",
            "verify_keys": { (key.id()): { "key": key.public() } },
            "old_verify_keys": { (old.id()): { "key": old.public(), "expired_ts": 5 } },
            "valid_until_ts": valid_until_ts,
        });
        let mut object: CanonicalJsonObject = serde_json::from_value(object).unwrap();
        sign_json("a.example", &key, &mut object).unwrap();
        change(&mut object);
        let raw = Raw::from_json(serde_json::value::to_raw_value(&object).unwrap());
        Answer::read(&raw, server_name!("a.example"), NOW)
    }

    #[test]
    fn keys_are_good_for_seven_days_at_the_most() {
        let answer = answer(NOW * 2, |_| ()).unwrap();

        let current = answer.keys.iter().find(|key| !key.is_old).unwrap();
        assert_eq!(current.valid_until_ts, NOW + LONGEST_VALIDITY);
        let old = answer.keys.iter().find(|key| key.is_old).unwrap();
        assert_eq!(old.valid_until_ts, 5);
    }

    #[test]
    fn an_answer_that_was_changed_is_not_believed() {
        let changed = answer(NOW, |object| {
            object.insert(
                "valid_until_ts".to_owned(),
                CanonicalJsonValue::from(ruma::int!(7)),
            );
        });

        assert!(matches!(changed, Err(BadAnswer::Signature(_))));
    }

    #[test]
    fn an_answer_without_a_signature_is_not_believed() {
        let unsigned = answer(NOW, |object| {
            object.insert(
                "signatures".to_owned(),
                CanonicalJsonValue::Object(CanonicalJsonObject::new()),
            );
        });

        assert!(matches!(unsigned, Err(BadAnswer::Signature(_))));
    }

    #[test]
    fn signatures_of_others_do_no_harm() {
        let notary = ServerKey::from_seed(&[3; 32]);

        let signed = answer(NOW, |object| {
            sign_json("b.example", &notary, object).unwrap();
        });

        assert!(signed.is_ok());
    }
}
