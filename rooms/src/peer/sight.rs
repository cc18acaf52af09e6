//! Which events another server may read: those that one of its users might.
//!
//! Server-Server API, "Backfilling and retrieving missing events"; Client-Server API, "Server behaviour" of room history
//! visibility.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use hearth_core::{EventNid, SnapshotNid, StateKeyNid};
use ruma::{
    ServerName, UserId,
    events::{
        StateEventType, TimelineEventType,
        room::{history_visibility::HistoryVisibility, member::MembershipState},
    },
};

use crate::{
    Rooms, event::RoomEvent, room::Room, snapshot::Snapshot, state::membership_of,
    visibility::visibility_of,
};

/// What a state says about a server's sight.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sight {
    visibility: HistoryVisibility,
    /// Whether a user of the server is joined, and whether one is invited.
    joined: bool,
    invited: bool,
}

impl Sight {
    fn permits(&self) -> bool {
        match self.visibility {
            HistoryVisibility::Invited => self.joined || self.invited,
            HistoryVisibility::Joined => self.joined,
            // A server in the room may show its users what is `shared` with later members.
            HistoryVisibility::Shared | HistoryVisibility::WorldReadable | _ => true,
        }
    }
}

impl Rooms {
    /// The events as `server`, which has users in the room, may read them: those that it may not see are left as a
    /// redaction would leave them, so that it can follow the graph.
    pub(super) async fn for_server(
        &self,
        room: &Room,
        server: &ServerName,
        events: Vec<Arc<RoomEvent>>,
    ) -> sqlx::Result<Vec<Arc<RoomEvent>>> {
        let seen = self.seen_by(room, server, &events).await?;
        let mut served = Vec::with_capacity(events.len());
        for event in events {
            if seen.contains(&event.nid) {
                served.push(event);
            } else {
                served.push(Arc::new(event.stripped(&room.rules)?));
            }
        }
        Ok(served)
    }

    /// The numbers of those of `events` that `server` may see.
    pub(super) async fn seen_by(
        &self,
        room: &Room,
        server: &ServerName,
        events: &[Arc<RoomEvent>],
    ) -> sqlx::Result<HashSet<EventNid>> {
        let nids: HashSet<SnapshotNid> = events.iter().filter_map(|event| event.snapshot).collect();
        let snapshots = self.snapshots().map(nids).await?;
        let mut sights: HashMap<SnapshotNid, Sight> = HashMap::new();
        let restricting = self.restricting(&snapshots).await?;
        for (nid, visibility) in restricting {
            let sight = match &snapshots.get(&nid) {
                Some(snapshot) if !is_open(&visibility) => {
                    self.sight_of(room, server, snapshot, visibility).await?
                }
                _ => Sight {
                    visibility,
                    joined: false,
                    invited: false,
                },
            };
            sights.insert(nid, sight);
        }
        let seen = events.iter().filter(|event| {
            let Some(before) = event.snapshot.and_then(|nid| sights.get(&nid)) else {
                // Outliers are state and what authorises it: servers in the room need it whole.
                return event.pdu.state_key.is_some();
            };
            before.permits() || after(server, event, before).permits()
        });
        Ok(seen.map(|event| event.nid).collect())
    }

    /// The history visibility of each state.
    async fn restricting(
        &self,
        snapshots: &HashMap<SnapshotNid, Arc<Snapshot>>,
    ) -> sqlx::Result<Vec<(SnapshotNid, HistoryVisibility)>> {
        let kind = StateEventType::RoomHistoryVisibility.to_string();
        let key: Option<StateKeyNid> = self.interner().find_state_key(&kind, "").await?;
        let held = |snapshot: &Snapshot| snapshot.get(key?);
        let nids: Vec<EventNid> = snapshots.values().filter_map(|s| held(s)).collect();
        let events = self.events().map(nids).await?;
        let of = |snapshot: &Snapshot| {
            let event = events.get(&held(snapshot)?)?;
            Some(visibility_of(event))
        };
        let all = snapshots.iter();
        Ok(all
            .map(|(nid, snapshot)| (*nid, of(snapshot).unwrap_or(HistoryVisibility::Shared)))
            .collect())
    }

    /// What a state says about a server whose sight is restricted.
    async fn sight_of(
        &self,
        room: &Room,
        server: &ServerName,
        snapshot: &Arc<Snapshot>,
        visibility: HistoryVisibility,
    ) -> sqlx::Result<Sight> {
        let joined = self.servers_in(room, snapshot).await?;
        let joined = joined.iter().any(|name| name == server);
        let invited = !joined
            && visibility == HistoryVisibility::Invited
            && self.has_invited(server, snapshot).await?;
        Ok(Sight {
            visibility,
            joined,
            invited,
        })
    }

    async fn has_invited(&self, server: &ServerName, snapshot: &Snapshot) -> sqlx::Result<bool> {
        let keys: Vec<StateKeyNid> = snapshot.map.keys().copied().collect();
        let names = self.interner().state_key_names(&keys).await?;
        let member = StateEventType::RoomMember.to_string();
        let theirs = names.iter().filter(|(_, name)| {
            name.0 == member
                && UserId::parse(&name.1).is_ok_and(|user| user.server_name() == server)
        });
        let nids: Vec<EventNid> = theirs.filter_map(|(key, _)| snapshot.get(*key)).collect();
        let events = self.events().map(nids).await?;
        Ok(events
            .values()
            .any(|event| membership_of(event) == MembershipState::Invite))
    }
}

fn is_open(visibility: &HistoryVisibility) -> bool {
    !matches!(
        visibility,
        HistoryVisibility::Invited | HistoryVisibility::Joined
    )
}

/// What the state says after the event, as far as it matters here.
fn after(server: &ServerName, event: &RoomEvent, before: &Sight) -> Sight {
    let mut after = before.clone();
    if event
        .pdu
        .is_state(&TimelineEventType::RoomHistoryVisibility)
    {
        after.visibility = visibility_of(event);
    }
    let member = event.pdu.state_key.as_deref().unwrap_or_default();
    if event.pdu.kind == TimelineEventType::RoomMember
        && UserId::parse(member).is_ok_and(|user| user.server_name() == server)
    {
        match membership_of(event) {
            MembershipState::Join => after.joined = true,
            MembershipState::Invite => after.invited = true,
            MembershipState::Ban | MembershipState::Knock | MembershipState::Leave | _ => {}
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(visibility: HistoryVisibility, joined: bool, invited: bool) -> Sight {
        Sight {
            visibility,
            joined,
            invited,
        }
    }

    #[test]
    fn who_is_not_there_sees_what_is_shared() {
        assert!(sight(HistoryVisibility::Shared, false, false).permits());
        assert!(sight(HistoryVisibility::WorldReadable, false, false).permits());
    }

    #[test]
    fn who_is_invited_sees_what_the_invited_may() {
        assert!(sight(HistoryVisibility::Invited, false, true).permits());
        assert!(sight(HistoryVisibility::Invited, true, false).permits());
        assert!(!sight(HistoryVisibility::Invited, false, false).permits());
    }

    #[test]
    fn only_the_joined_see_what_is_theirs() {
        assert!(sight(HistoryVisibility::Joined, true, false).permits());
        assert!(!sight(HistoryVisibility::Joined, false, true).permits());
    }
}
