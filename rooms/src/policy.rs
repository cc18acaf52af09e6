//! Policy servers: whether the server that a room chose recommends an event.
//!
//! Server-Server API, "Policy Servers": what has not the policy server's signature is not sent, and soft-failed where it
//! comes from elsewhere, also when the policy server gives no answer. These are recommendations, and there is one exception
//! here: who leaves a room of his own accord is not held back by a policy server that is silent. What it refuses in so
//! many words is refused, leaves included.

use hearth_core::Pdu;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue,
    events::{
        TimelineEventType,
        room::{
            member::MembershipState,
            policy::{POLICY_SERVER_ED25519_SIGNING_KEY_ID, RoomPolicyEventContent},
        },
    },
    signatures::verify_policy_server_signature,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Rooms, incoming::Verified, peers::PolicyError, room::Room, snapshot::Snapshot};

/// What a room's policy server says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recommendation {
    /// The event belongs into the room, or the room has no policy server.
    Included,
    /// It does not, or the policy server gave no answer.
    NotIncluded,
}

/// Whether it is of use to ask a policy server: one that was silent is not asked about the events that come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    Useful,
    Futile,
}

impl Rooms {
    /// The policy server that a state of a room chooses, if a user of that server is in the room.
    pub(crate) async fn policy_server(
        &self,
        room: &Room,
        state: &Snapshot,
    ) -> sqlx::Result<Option<RoomPolicyEventContent>> {
        // Interned, so that the many rooms without one are known from memory.
        let key = self.interner().state_key("m.room.policy", "").await?;
        let Some(nid) = state.get(key) else {
            return Ok(None);
        };
        let event = self.events().get(nid).await?;
        let Ok(policy) = event.pdu.content_as::<RoomPolicyEventContent>() else {
            return Ok(None);
        };
        let servers = self.list_servers(room).await?;
        Ok(servers.contains(&policy.via).then_some(policy))
    }

    /// The policy server of a room as it is now.
    pub(crate) async fn current_policy(
        &self,
        room: &Room,
    ) -> sqlx::Result<Option<RoomPolicyEventContent>> {
        match self.current(room).await? {
            Some(current) => self.policy_server(room, &current.snapshot).await,
            None => Ok(None),
        }
    }

    /// Whether a policy server recommends an event that was received and lacks its signature, which is added.
    pub(crate) async fn recommend(
        &self,
        (room, policy): (&Room, &RoomPolicyEventContent),
        event: &mut Verified,
        asking: &mut Asking,
    ) -> Recommendation {
        let asked = match asking {
            Asking::Useful => self.ask_policy_server(room, policy, event).await,
            Asking::Futile => Err(PolicyError::Unreachable),
        };
        if asked == Err(PolicyError::Unreachable) {
            *asking = Asking::Futile;
        }
        match asked {
            Ok(()) => Recommendation::Included,
            Err(PolicyError::Unreachable) if is_own_leave(&event.pdu) => Recommendation::Included,
            Err(error) => {
                tracing::debug!(event_id = %event.pdu.event_id, room_id = %room.id, "an event is not recommended: {error}");
                Recommendation::NotIncluded
            }
        }
    }

    /// Asks the policy server for its signature, checks it and adds it to the event.
    pub(crate) async fn ask_policy_server(
        &self,
        room: &Room,
        policy: &RoomPolicyEventContent,
        event: &mut Verified,
    ) -> Result<(), PolicyError> {
        let signature = self
            .peers()
            .policy_signature(&policy.via, &event.pdu.json)
            .await?;
        let mut object = event.object.clone();
        add_signature(&mut object, policy.via.as_str(), signature.encode());
        let wrong = |_| PolicyError::Unreachable;
        verify_policy_server_signature(policy, &object, &room.rules).map_err(wrong)?;
        let json = serde_json::to_string(&object).and_then(RawValue::from_string);
        let json = json.map_err(|_| PolicyError::Unreachable)?;
        event.pdu = Pdu {
            json,
            ..event.pdu.clone()
        };
        event.object = object;
        Ok(())
    }
}

/// Whether an event has a policy server's signature.
pub(crate) fn has_signed(policy: &RoomPolicyEventContent, event: &Verified, room: &Room) -> bool {
    verify_policy_server_signature(policy, &event.object, &room.rules).is_ok()
}

/// Whether a user leaves the room with it, or turns an invite down or takes a knock back.
pub(crate) fn is_own_leave(pdu: &Pdu) -> bool {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
    }
    pdu.kind == TimelineEventType::RoomMember
        && pdu.state_key.as_deref() == Some(pdu.sender.as_str())
        && pdu
            .content_as::<Content>()
            .is_ok_and(|content| content.membership == MembershipState::Leave)
}

fn add_signature(object: &mut CanonicalJsonObject, server: &str, signature: String) {
    let entry = |object: &mut CanonicalJsonObject, key: &str| {
        let value = object
            .entry(key.to_owned())
            .or_insert_with(|| CanonicalJsonValue::Object(CanonicalJsonObject::new()));
        if value.as_object().is_none() {
            *value = CanonicalJsonValue::Object(CanonicalJsonObject::new());
        }
    };
    entry(object, "signatures");
    if let Some(CanonicalJsonValue::Object(signatures)) = object.get_mut("signatures") {
        entry(signatures, server);
        if let Some(CanonicalJsonValue::Object(own)) = signatures.get_mut(server) {
            let key = POLICY_SERVER_ED25519_SIGNING_KEY_ID.to_owned();
            own.insert(key, CanonicalJsonValue::String(signature));
        }
    }
}
