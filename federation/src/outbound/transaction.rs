//! What is sent at once.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hearth_core::Pdu;
use ruma::{
    MilliSecondsSinceUnixEpoch, ServerName, UInt,
    api::federation::transactions::{edu::Edu, send_transaction_message::v1 as send},
    serde::Raw,
};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// A transaction. Its id follows from what is in it, so that the same one bears the same id after a crash.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    events: Vec<Box<RawValue>>,
    edus: Vec<Box<RawValue>>,
    /// The newest of the times of what is in it.
    newest: Option<i64>,
}

impl Transaction {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.edus.is_empty()
    }

    pub(super) fn add_event(&mut self, pdu: &Pdu) {
        self.note(i64::from(pdu.origin_server_ts.get()));
        self.events.push(pdu.json.clone());
    }

    pub(super) fn add_message(&mut self, edu: &str, created_ts: i64) {
        self.note(created_ts);
        self.add_edu(edu);
    }

    pub(super) fn add_edu(&mut self, edu: &str) {
        match RawValue::from_string(edu.to_owned()) {
            Ok(edu) => self.edus.push(edu),
            Err(error) => tracing::warn!("an EDU is no JSON: {error}"),
        }
    }

    fn note(&mut self, ts: i64) {
        self.newest = self.newest.max(Some(ts));
    }

    /// The request that sends it. What must not be lost decides about its time, so that a repetition is the same to the
    /// byte.
    pub(super) fn request(
        &self,
        origin: &ServerName,
        now: MilliSecondsSinceUnixEpoch,
    ) -> send::Request {
        let time = self.newest.and_then(|ts| UInt::try_from(ts).ok());
        let time = time.map_or(now, MilliSecondsSinceUnixEpoch);
        let mut request = send::Request::new(self.id(time).into(), origin.to_owned(), time);
        request.pdus.clone_from(&self.events);
        let edus = self.edus.iter().cloned();
        request.edus = edus.map(Raw::<Edu>::from_json).collect();
        request
    }

    fn id(&self, time: MilliSecondsSinceUnixEpoch) -> String {
        let mut hash = Sha256::new();
        hash.update(time.get().to_string());
        for part in self.events.iter().chain(&self.edus) {
            hash.update([0]);
            hash.update(part.get());
        }
        URL_SAFE_NO_PAD.encode(&hash.finalize()[..16])
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn the_same_transaction_has_the_same_id_at_any_time() {
        let at = |now: u32, edu: &str| {
            let mut transaction = Transaction::default();
            transaction.add_message(edu, 5);
            let now = MilliSecondsSinceUnixEpoch(now.into());
            transaction.request(server_name!("a.example"), now)
        };

        let (one, again, other) = (at(7, "{}"), at(8, "{}"), at(7, "[]"));

        assert_eq!(one.transaction_id, again.transaction_id);
        assert_eq!(one.origin_server_ts, again.origin_server_ts);
        assert_ne!(one.transaction_id, other.transaction_id);
    }
}
