//! Our own keys, as others get them.

use std::{collections::BTreeMap, sync::Arc};

use hearth_core::{Identity, config::OldVerifyKey};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, UInt,
    serde::Base64,
    signatures::{JsonError, sign_json},
};
use serde_json::json;

/// How long an answer is good, in milliseconds.
const VALIDITY: i64 = 24 * 60 * 60 * 1_000;

/// Our signing key and those that we used before.
#[derive(Clone, Debug)]
pub(super) struct OwnKeys {
    pub(super) identity: Arc<Identity>,
    pub(super) old: Arc<[OldVerifyKey]>,
}

impl OwnKeys {
    /// What `GET /_matrix/key/v2/server` answers.
    pub(super) fn publish(&self, now: i64) -> Result<CanonicalJsonObject, JsonError> {
        let Identity { server_name, key } = &*self.identity;
        let old: BTreeMap<&str, _> = self
            .old
            .iter()
            .map(|old| {
                let value = json!({ "key": old.key, "expired_ts": old.expired_ts });
                (old.id.as_str(), value)
            })
            .collect();
        let object = json!({
            "server_name": server_name,
            "verify_keys": { (key.id()): { "key": key.public() } },
            "old_verify_keys": old,
            "valid_until_ts": now.saturating_add(VALIDITY),
        });
        let mut object: CanonicalJsonObject =
            serde_json::from_value(object).expect("names, keys and times are canonical JSON");
        sign_json(server_name.as_str(), key, &mut object)?;
        Ok(object)
    }

    /// Our key with this id, if it may have made a signature at `at`.
    pub(super) fn find(&self, key_id: &str, at: Option<i64>) -> Option<Base64> {
        let Identity { key, .. } = &*self.identity;
        if key.id() == key_id {
            return Some(key.public());
        }
        let old = self.old.iter().find(|old| old.id.as_str() == key_id)?;
        at.is_none_or(|at| at <= old.expired_ts)
            .then(|| old.key.clone())
    }
}

/// A time as the wire has it.
pub(super) fn on_the_wire(millis: i64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::try_from(millis).unwrap_or_default())
}
