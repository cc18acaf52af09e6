//! Messages from device to device (specification, "Send-to-Device messaging").

mod remote;

use std::collections::{BTreeMap, HashMap};

use hearth_core::{Clock, UserNid};
use hearth_journal::{Journal, WriteError};
use hearth_store::{
    destination, device,
    device_transaction::{self, Inserted},
    inbound,
    intern::Interner,
    outbox,
    write::{ToDeviceRow, Write},
};
use ruma::{
    DeviceId, OwnedServerName, OwnedUserId, ServerName, TransactionId, UserId,
    events::{AnyToDeviceEventContent, ToDeviceEventType},
    serde::Raw,
    to_device::DeviceIdOrAllDevices,
};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::{PgConnection, PgPool};

use crate::sessions::Session;

/// How many messages one request may make.
const MAX_MESSAGES: usize = 10_000;

/// The largest content, in bytes.
const MAX_CONTENT: usize = 64 * 1024;

/// What to send to whom.
pub type Messages =
    BTreeMap<OwnedUserId, BTreeMap<DeviceIdOrAllDevices, Raw<AnyToDeviceEventContent>>>;

/// Why messages are not sent.
#[derive(Debug, thiserror::Error)]
pub enum ToDeviceError {
    /// There are too many messages.
    #[error("a request sends at most {MAX_MESSAGES} messages")]
    TooMany,
    /// A message is too large.
    #[error("a message has at most {MAX_CONTENT} bytes")]
    TooLarge,
    /// They could not be written.
    #[error("sending to devices failed")]
    Write(#[from] WriteError),
}

impl From<sqlx::Error> for ToDeviceError {
    fn from(error: sqlx::Error) -> Self {
        Self::Write(error.into())
    }
}

/// Who sends: a device and its transaction.
#[derive(Clone, Copy, Debug)]
struct Origin<'a> {
    user: UserNid,
    user_id: &'a UserId,
    device_id: Option<&'a DeviceId>,
    txn_id: &'a TransactionId,
}

/// The messages that wait for this server's devices.
#[derive(Clone, Debug)]
pub struct ToDevice {
    pool: PgPool,
    journal: Journal,
    interner: Interner,
    clock: Clock,
    server_name: OwnedServerName,
}

impl ToDevice {
    /// Messages to the devices of `server_name`.
    #[must_use]
    pub fn new(
        pool: PgPool,
        journal: Journal,
        interner: Interner,
        clock: Clock,
        server_name: OwnedServerName,
    ) -> Self {
        Self {
            pool,
            journal,
            interner,
            clock,
            server_name,
        }
    }

    /// Sends messages to devices; those of this server that do not exist get none. A repeated transaction does nothing.
    /// Returns the other servers for which messages wait now.
    ///
    /// # Errors
    ///
    /// [`ToDeviceError::TooMany`], [`ToDeviceError::TooLarge`].
    pub async fn send(
        &self,
        session: &Session,
        txn_id: &TransactionId,
        kind: &ToDeviceEventType,
        messages: &Messages,
    ) -> Result<Vec<OwnedServerName>, ToDeviceError> {
        let contents = messages.values().flat_map(BTreeMap::values);
        if contents
            .clone()
            .any(|raw| raw.json().get().len() > MAX_CONTENT)
        {
            return Err(ToDeviceError::TooLarge);
        }
        if contents.count() > MAX_MESSAGES {
            return Err(ToDeviceError::TooMany);
        }
        let origin = Origin {
            user: session.user,
            user_id: &session.user_id,
            device_id: session.device_id.as_deref(),
            txn_id,
        };
        let kind = kind.to_string();
        hearth_store::retry("send to devices", || {
            self.send_once(origin, &kind, messages)
        })
        .await
    }

    async fn send_once(
        &self,
        origin: Origin<'_>,
        kind: &str,
        messages: &Messages,
    ) -> Result<Vec<OwnedServerName>, ToDeviceError> {
        let local: Vec<&UserId> = messages
            .keys()
            .map(|user_id| &**user_id)
            .filter(|user_id| user_id.server_name() == self.server_name)
            .collect();
        let users = self.interner.find_users(&local).await?;
        let mut tx = self.pool.begin().await?;
        let now = self.clock.millis();
        let row = device_transaction::Row {
            user: origin.user,
            device_id: origin.device_id.map_or("", DeviceId::as_str),
            action: &format!("sendToDevice/{kind}"),
            txn_id: origin.txn_id.as_str(),
            created_ts: now,
        };
        match device_transaction::insert(&mut tx, row).await? {
            Inserted::Repeated => return Ok(Vec::new()),
            Inserted::Yes => {}
        }
        let remote = self.note_remote(&mut tx, origin, kind, messages).await?;
        let nids: Vec<UserNid> = users.values().copied().collect();
        let devices = device::list_ids(&mut tx, &nids).await?;
        let to_device = address(&users, &devices, messages, |content| {
            written(origin.user_id, kind, content)
        });
        if to_device.len() > MAX_MESSAGES {
            return Err(ToDeviceError::TooMany);
        }
        let write = Write {
            to_device,
            ..Write::default()
        };
        self.journal.commit(tx, write).await?;
        Ok(remote)
    }

    /// Notes messages to devices of other servers down; returns these servers.
    async fn note_remote(
        &self,
        conn: &mut PgConnection,
        origin: Origin<'_>,
        kind: &str,
        messages: &Messages,
    ) -> Result<Vec<OwnedServerName>, ToDeviceError> {
        let edus = remote::edus(&self.server_name, origin.user_id, kind, messages);
        if edus.is_empty() {
            return Ok(Vec::new());
        }
        let servers: Vec<&ServerName> = edus.keys().map(|server| &**server).collect();
        let numbers = destination::upsert(conn, &servers).await?;
        let rows: Vec<_> = numbers
            .iter()
            .filter_map(|row| {
                let server = <&ServerName>::try_from(row.server_name.as_str()).ok()?;
                Some((row.nid, edus.get(server)?.clone()))
            })
            .collect();
        outbox::insert_messages(conn, &rows, self.clock.millis()).await?;
        Ok(edus.into_keys().collect())
    }

    /// Takes in a message of a user of another server to devices of this one, unless it came before.
    ///
    /// # Errors
    ///
    /// [`ToDeviceError::TooMany`], [`ToDeviceError::TooLarge`].
    pub async fn receive(
        &self,
        (sender, message_id): (&UserId, &TransactionId),
        kind: &ToDeviceEventType,
        messages: &Messages,
    ) -> Result<(), ToDeviceError> {
        let contents = messages.values().flat_map(BTreeMap::values);
        if contents
            .clone()
            .any(|raw| raw.json().get().len() > MAX_CONTENT)
        {
            return Err(ToDeviceError::TooLarge);
        }
        if contents.count() > MAX_MESSAGES {
            return Err(ToDeviceError::TooMany);
        }
        let kind = kind.to_string();
        hearth_store::retry("receive a message to devices", || {
            self.receive_once((sender, message_id), &kind, messages)
        })
        .await
    }

    async fn receive_once(
        &self,
        (sender, message_id): (&UserId, &TransactionId),
        kind: &str,
        messages: &Messages,
    ) -> Result<(), ToDeviceError> {
        let local: Vec<&UserId> = messages
            .keys()
            .map(|user_id| &**user_id)
            .filter(|user_id| user_id.server_name() == self.server_name)
            .collect();
        let users = self.interner.find_users(&local).await?;
        let mut tx = self.pool.begin().await?;
        let now = self.clock.millis();
        match inbound::insert_message(&mut tx, sender, message_id, now).await? {
            inbound::Message::Repeated => return Ok(()),
            inbound::Message::New => {}
        }
        let nids: Vec<UserNid> = users.values().copied().collect();
        let devices = device::list_ids(&mut tx, &nids).await?;
        let to_device = address(&users, &devices, messages, |content| {
            written(sender, kind, content)
        });
        if to_device.len() > MAX_MESSAGES {
            return Err(ToDeviceError::TooMany);
        }
        let write = Write {
            to_device,
            ..Write::default()
        };
        self.journal.commit(tx, write).await?;
        Ok(())
    }
}

/// One row for each device that a message goes to.
fn address(
    users: &HashMap<OwnedUserId, UserNid>,
    devices: &[(UserNid, String)],
    messages: &Messages,
    written: impl Fn(&RawValue) -> String,
) -> Vec<ToDeviceRow> {
    let mut devices_of: HashMap<UserNid, Vec<&str>> = HashMap::new();
    for (user, device_id) in devices {
        devices_of.entry(*user).or_default().push(device_id);
    }
    let mut rows = Vec::new();
    for (user_id, messages) in messages {
        let Some(user) = users.get(user_id) else {
            continue;
        };
        let known = devices_of.get(user).map_or(&[][..], Vec::as_slice);
        for (target, content) in messages {
            let message = written(content.json());
            let wanted = |device_id: &&&str| match target {
                DeviceIdOrAllDevices::DeviceId(wanted) => wanted.as_str() == **device_id,
                DeviceIdOrAllDevices::AllDevices => true,
            };
            rows.extend(known.iter().filter(wanted).map(|device_id| ToDeviceRow {
                user: *user,
                device_id: (*device_id).to_owned(),
                message: message.clone(),
            }));
        }
    }
    rows
}

/// The event as `/sync` shows it.
#[derive(Serialize)]
struct Event<'a> {
    content: &'a RawValue,
    sender: &'a UserId,
    #[serde(rename = "type")]
    kind: &'a str,
}

fn written(sender: &UserId, kind: &str, content: &RawValue) -> String {
    let event = Event {
        content,
        sender,
        kind,
    };
    serde_json::to_string(&event).expect("raw JSON serializes")
}

#[cfg(test)]
mod tests {
    use ruma::{device_id, owned_user_id, user_id};
    use serde_json::json;

    use super::*;

    fn addressed(target: DeviceIdOrAllDevices) -> Vec<String> {
        let bob = owned_user_id!("@bob:example.org");
        let users = HashMap::from([(bob.clone(), UserNid(2))]);
        let devices = [
            (UserNid(2), "ONE".to_owned()),
            (UserNid(2), "TWO".to_owned()),
        ];
        let content = Raw::new(&json!({ "a": 1 })).unwrap().cast_unchecked();
        let messages = Messages::from([(bob, BTreeMap::from([(target, content)]))]);
        let rows = address(&users, &devices, &messages, |content| {
            written(user_id!("@alice:example.org"), "x.y", content)
        });
        assert!(rows.iter().all(|row| row.message
            == r#"{"content":{"a":1},"sender":"@alice:example.org","type":"x.y"}"#));
        rows.into_iter().map(|row| row.device_id).collect()
    }

    #[test]
    fn a_star_means_all_devices() {
        assert_eq!(addressed(DeviceIdOrAllDevices::AllDevices), ["ONE", "TWO"]);
    }

    #[test]
    fn a_device_that_does_not_exist_gets_nothing() {
        let device = |id: &DeviceId| DeviceIdOrAllDevices::DeviceId(id.to_owned());

        assert_eq!(addressed(device(device_id!("TWO"))), ["TWO"]);
        assert!(addressed(device(device_id!("NONE"))).is_empty());
    }
}
