//! Which servers may take part in a room: `m.room.server_acl`.

use ruma::{
    ServerName,
    events::{StateEventType, room::server_acl::RoomServerAclEventContent},
};
use serde_json::{Map, Value};

use crate::{Rooms, room::Room};

impl Rooms {
    /// Whether the room's server ACL lets a server take part.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn server_allowed(&self, room: &Room, server: &ServerName) -> sqlx::Result<bool> {
        let Some(current) = self.current(room).await? else {
            return Ok(true);
        };
        // Interned, so that the many rooms without one are known from memory.
        let kind = StateEventType::RoomServerAcl.to_string();
        let key = self.interner().state_key(&kind, "").await?;
        let Some(nid) = current.snapshot.get(key) else {
            return Ok(true);
        };
        let event = self.events().get(nid).await?;
        let content = event.pdu.content_as::<Map<String, Value>>();
        Ok(content.is_ok_and(|content| read(&content).is_allowed(server)))
    }
}

/// Reads an ACL; what is not of the right type is as if it were not there.
fn read(content: &Map<String, Value>) -> RoomServerAclEventContent {
    let list = |key: &str| -> Vec<String> {
        let entries = content.get(key).and_then(Value::as_array);
        let names = entries.into_iter().flatten().filter_map(Value::as_str);
        names.map(ToOwned::to_owned).collect()
    };
    let literals = content.get("allow_ip_literals").and_then(Value::as_bool);
    RoomServerAclEventContent::new(literals.unwrap_or(true), list("allow"), list("deny"))
}

#[cfg(test)]
mod tests {
    use ruma::server_name;
    use serde_json::json;

    use super::*;

    fn allows(content: &Value, server: &ServerName) -> bool {
        read(content.as_object().unwrap()).is_allowed(server)
    }

    #[test]
    fn denials_win_and_what_is_not_allowed_is_denied() {
        let acl = json!({ "allow": ["*.org"], "deny": ["evil.org"] });

        assert!(allows(&acl, server_name!("good.org")));
        assert!(!allows(&acl, server_name!("evil.org:8448")));
        assert!(!allows(&acl, server_name!("good.com")));
    }

    #[test]
    fn an_acl_that_makes_no_sense_lets_nobody_in() {
        let acl = json!({ "allow": "*", "allow_ip_literals": 7 });

        assert!(!allows(&acl, server_name!("good.org")));
    }

    #[test]
    fn ip_literals_can_be_kept_out() {
        let acl = json!({ "allow": ["*"], "allow_ip_literals": false });

        assert!(!allows(&acl, server_name!("1.2.3.4:8448")));
        assert!(allows(&acl, server_name!("good.org")));
    }
}
