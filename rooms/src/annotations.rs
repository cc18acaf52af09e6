//! Annotations, of which a user sends one of a kind (specification, "Avoiding duplicate annotations").

use hearth_core::EventNid;
use hearth_store::{relation, sent_event, write::TransactionRow};
use ruma::{CanonicalJsonObject, CanonicalJsonValue};
use serde::Deserialize;

use crate::{Rooms, draft::Draft, error::SendError, room::Room, send::Transaction};

/// What annotates what.
struct Annotation<'a> {
    target: &'a str,
    key: &'a str,
}

impl<'a> Annotation<'a> {
    fn of(content: &'a CanonicalJsonObject) -> Option<Self> {
        let relates_to = content.get("m.relates_to")?.as_object()?;
        let text = |key: &str| relates_to.get(key).and_then(CanonicalJsonValue::as_str);
        if text("rel_type")? != "m.annotation" {
            return None;
        }
        Some(Self {
            target: text("event_id")?,
            key: text("key")?,
        })
    }
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relates_to: RelatesTo,
}

#[derive(Deserialize)]
struct RelatesTo {
    key: String,
}

impl Rooms {
    /// Refuses an annotation that its sender has sent already, unless it is the same transaction.
    pub(crate) async fn refuse_second_annotation(
        &self,
        room: &Room,
        draft: &Draft,
        transaction: &Transaction,
    ) -> Result<(), SendError> {
        let Some(annotation) = Annotation::of(&draft.content) else {
            return Ok(());
        };
        let kind = draft.kind.to_string();
        let mut conn = self.pool().acquire().await?;
        let sent = relation::list_annotations(
            &mut conn,
            room.nid,
            annotation.target,
            (transaction.user, &kind),
        )
        .await?;
        drop(conn);
        let events = self.events().map(sent).await?;
        let is_second = events.values().any(|event| {
            let content = event.pdu.content_as::<Content>();
            content.is_ok_and(|content| content.relates_to.key == annotation.key)
        });
        if is_second && !self.is_repeated(room, transaction).await? {
            return Err(SendError::DuplicateAnnotation);
        }
        Ok(())
    }

    /// Whether a transaction made an event already.
    async fn is_repeated(&self, room: &Room, transaction: &Transaction) -> sqlx::Result<bool> {
        let transaction = TransactionRow::from(transaction.clone());
        let row = sent_event::Row {
            transaction: &transaction,
            room: room.nid,
            event: EventNid(0),
        };
        let mut conn = self.pool().acquire().await?;
        let known = sent_event::list_known(&mut conn, &[row]).await?;
        Ok(!known.is_empty())
    }
}
