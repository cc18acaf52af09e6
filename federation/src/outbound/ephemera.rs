//! Short-lived messages: written once, for all servers that get them.

use ruma::{OwnedServerName, ServerName};

use super::{Outbound, registry::Topic};

impl Outbound {
    /// Sends a short-lived message to servers; to those that fail it is not sent, and nothing waits for them.
    pub(super) async fn tell(
        &self,
        servers: &[OwnedServerName],
        topic: &Topic,
        edu: &serde_json::Value,
    ) -> sqlx::Result<()> {
        let own = &self.0.parts.identity.server_name;
        let others: Vec<&ServerName> = servers
            .iter()
            .map(AsRef::as_ref)
            .filter(|server| *server != own)
            .collect();
        if others.is_empty() || !self.0.lead.is_ours() {
            return Ok(());
        }
        let edu = edu.to_string();
        for (server, nid) in self.numbers(&others).await? {
            if self.is_left_alone(nid) {
                continue;
            }
            if self.0.registry.add(nid, topic.clone(), &edu) {
                let work = self.clone().work(nid, server);
                self.0.parts.tasks.spawn(work);
            }
        }
        Ok(())
    }
}
