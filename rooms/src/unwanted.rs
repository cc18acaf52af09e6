//! Users who take no invites (specification, "Invite permission").

use hearth_store::account_data;
use ruma::{
    UserId,
    events::invite_permission_config::{
        InvitePermissionAction, InvitePermissionConfigEventContent,
    },
};

use crate::{Rooms, error::SendError};

/// The account data that says so.
pub const KIND: &str = "m.invite_permission_config";

/// Whether a user with this account data, JSON, takes no invites.
#[must_use]
pub fn blocks_invites(content: &str) -> bool {
    let content = serde_json::from_str::<InvitePermissionConfigEventContent>(content);
    content.is_ok_and(|content| content.default_action == Some(InvitePermissionAction::Block))
}

impl Rooms {
    /// Refuses an invite of users of this server who take none.
    pub(crate) async fn refuse_unwanted(&self, invited: &[&UserId]) -> Result<(), SendError> {
        if invited.is_empty() {
            return Ok(());
        }
        let users = self.interner().find_users(invited).await?;
        let users: Vec<_> = users.into_values().collect();
        let mut conn = self.pool().acquire().await?;
        let contents = account_data::list_of_users(&mut conn, &users, KIND).await?;
        if contents.iter().any(|content| blocks_invites(content)) {
            return Err(SendError::InviteBlocked);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::blocks_invites;

    #[test]
    fn only_the_known_action_blocks() {
        assert!(blocks_invites(r#"{"default_action":"block"}"#));
        for content in [
            "{}",
            r#"{"default_action":"allow"}"#,
            r#"{"default_action":7}"#,
            "7",
        ] {
            assert!(!blocks_invites(content), "{content}");
        }
    }
}
