//! The authorisation rules, applied to events that were received.

use std::{collections::HashMap, sync::Arc};

use hearth_core::Pdu;
use ruma::{
    EventId, OwnedEventId,
    events::StateEventType,
    room_version_rules::AuthorizationRules,
    state_res::{
        auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules,
    },
};

use crate::{Rooms, build::AuthState, event::RoomEvent, room::Room, snapshot::StateMap};

/// Events by their ids.
pub(crate) type ById = HashMap<OwnedEventId, Arc<RoomEvent>>;

/// Whether the events that an event cites authorise it; an error says which rule it breaks.
///
/// `cited` holds them, and the create event.
pub(crate) fn check_cited(
    rules: &AuthorizationRules,
    pdu: &Pdu,
    cited: &ById,
) -> Result<(), String> {
    check_state_independent_auth_rules(rules, pdu, |id: &EventId| {
        cited.get(id).map(AsRef::as_ref)
    })?;
    let mut state = AuthState::new();
    let implied = cited
        .values()
        .filter(|event| rules.room_create_event_id_as_room_id && is_create(event));
    let named = pdu.auth_events.iter().filter_map(|id| cited.get(id));
    for event in named.chain(implied) {
        let kind = StateEventType::from(event.pdu.kind.to_string());
        let key = event.pdu.state_key.clone().unwrap_or_default();
        state.insert((kind, key), Arc::clone(event));
    }
    check_state(rules, pdu, &state)
}

fn is_create(event: &RoomEvent) -> bool {
    event.pdu.event_id.as_str().strip_prefix('$') == Some(event.pdu.room_id.strip_sigil())
}

/// Whether a state authorises an event; an error says which rule it breaks.
pub(crate) fn check_state(
    rules: &AuthorizationRules,
    pdu: &Pdu,
    state: &AuthState,
) -> Result<(), String> {
    check_state_dependent_auth_rules(rules, pdu, |kind: &StateEventType, key: &str| {
        let event = state.get(&(kind.clone(), key.to_owned()));
        event.map(AsRef::as_ref)
    })
}

impl Rooms {
    /// Whether a state of a room authorises an event.
    pub(crate) async fn allows(
        &self,
        room: &Room,
        pdu: &Pdu,
        state: &StateMap,
    ) -> sqlx::Result<Result<(), String>> {
        let rules = &room.rules.authorization;
        let key = pdu.state_key.as_deref();
        let types = auth_types_for_event(&pdu.kind, &pdu.sender, key, &pdu.content, rules);
        let mut types = match types {
            Ok(types) => types,
            Err(reason) => return Ok(Err(reason)),
        };
        types.push((StateEventType::RoomCreate, String::new()));
        let state = self.subset(state, types).await?;
        Ok(check_state(rules, pdu, &state))
    }
}
