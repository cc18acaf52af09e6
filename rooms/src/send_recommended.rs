//! Sending in rooms that have a policy server: it signs an event before anybody gets it.
//!
//! Server-Server API, "Asking for a Policy Server signature on an event". The server is asked while nothing is held: what
//! others send meanwhile comes beside the event, as a branch.

use hearth_store::write::TransactionRow;
use ruma::{
    CanonicalJsonObject, OwnedEventId, UserId,
    events::{StateEventType, TimelineEventType, room::policy::RoomPolicyEventContent},
};

use crate::{
    Rooms,
    build::Appended,
    changes::Changes,
    draft::Draft,
    error::SendError,
    incoming::Verified,
    merge::After,
    peers::PolicyError,
    policy::is_own_leave,
    receipt::{Ancestry, Origin, Placed},
    room::Room,
};

impl Rooms {
    /// The policy server that has to sign our events.
    pub(crate) async fn own_policy_server(
        &self,
        room: &Room,
    ) -> Result<Option<RoomPolicyEventContent>, SendError> {
        let Some(current) = self.current(room).await? else {
            return Ok(None);
        };
        Ok(self.policy_server(room, &current.snapshot).await?)
    }

    /// Sends an event once the policy server signed it.
    pub(crate) async fn send_recommended(
        &self,
        room: &Room,
        policy: &RoomPolicyEventContent,
        (sender, draft, transaction): (&UserId, Draft, Option<TransactionRow>),
    ) -> Result<OwnedEventId, SendError> {
        if is_policy(&draft) {
            let drafts = vec![(sender, draft)];
            return self.send_unit(room, drafts, transaction).await;
        }
        let replaces = draft.replaces;
        let (mut event, ancestry) = match self.prepare(room, sender, draft).await? {
            Prepared::Event(event, ancestry) => (*event, ancestry),
            Prepared::Unchanged(event_id) => return Ok(event_id),
        };
        match self.ask_policy_server(room, policy, &mut event).await {
            Ok(()) => {}
            Err(PolicyError::Unreachable) if is_own_leave(&event.pdu) => {}
            Err(error) => return Err(SendError::NotRecommended(error)),
        }
        let event_id = event.pdu.event_id.clone();
        let origin = Origin::Own {
            transaction,
            replaces,
        };
        match self.place(room, event, ancestry, origin).await? {
            Placed::New(_) => Ok(event_id),
            Placed::Known(first) => Ok(self.events().get(first).await?.pdu.event_id.clone()),
        }
    }

    /// Builds an event on the head as it is, without putting it there.
    async fn prepare(
        &self,
        room: &Room,
        sender: &UserId,
        draft: Draft,
    ) -> Result<Prepared, SendError> {
        let mut slot = room.head.lock().await;
        let head = self.take_head(room, &mut slot).await?;
        slot.head = Some(head.clone());
        drop(slot);
        let mut changes = Changes::new(self, room, head);
        let base = changes.base().await?;
        let appended = changes.append(sender, draft).await;
        self.abandon(&changes.made).await;
        let event = match appended? {
            Appended::New(event) => event,
            Appended::Unchanged(event) => {
                return Ok(Prepared::Unchanged(event.pdu.event_id.clone()));
            }
        };
        let object: CanonicalJsonObject = serde_json::from_str(event.pdu.json.get())?;
        let states: Vec<After> = base.previous.iter().map(|e| e.after.clone()).collect();
        let event = Verified {
            pdu: event.pdu.clone(),
            object,
        };
        let ancestry = Ancestry {
            previous: base.previous.iter().map(|e| e.nid).collect(),
            gaps: Vec::new(),
            states,
        };
        Ok(Prepared::Event(Box::new(event), ancestry))
    }
}

/// What [`Rooms::prepare`] built.
enum Prepared {
    Event(Box<Verified>, Ancestry),
    /// The state says the same already.
    Unchanged(OwnedEventId),
}

/// Policy servers sign everything but what chooses them.
fn is_policy(draft: &Draft) -> bool {
    draft.kind == TimelineEventType::from(StateEventType::from("m.room.policy"))
        && draft.state_key.as_deref() == Some("")
}
