//! How far users have read (specification, "Receipts").

use hearth_core::{RoomNid, UserNid};
use hearth_journal::{Journal, WriteError};
use hearth_store::{
    receipt,
    write::{ReceiptRow, Write},
};
use sqlx::PgPool;

/// The receipts of users, local and remote.
///
/// That the event is in the room and in the thread is for the caller to know.
#[derive(Clone, Debug)]
pub struct Receipts {
    pool: PgPool,
    journal: Journal,
}

impl Receipts {
    /// Receipts in `pool`, written through `journal`.
    #[must_use]
    pub fn new(pool: PgPool, journal: Journal) -> Self {
        Self { pool, journal }
    }

    /// Returns a user's receipts in rooms.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(
        &self,
        rooms: &[RoomNid],
        user: UserNid,
    ) -> sqlx::Result<Vec<receipt::Stored>> {
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let mut conn = self.pool.acquire().await?;
        receipt::list_of_user(&mut conn, rooms, user).await
    }

    /// Writes receipts of one user in one room; those that point to where they are or before are left out.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub async fn send(
        &self,
        room: RoomNid,
        user: UserNid,
        mut receipts: Vec<ReceiptRow>,
    ) -> Result<(), WriteError> {
        let known = self.list(&[room], user).await?;
        receipts.retain(|new| known.iter().all(|old| moves_forward(old, new)));
        if receipts.is_empty() {
            return Ok(());
        }
        let write = Write {
            receipts,
            ..Write::default()
        };
        self.journal.submit(write).await?;
        Ok(())
    }
}

impl Receipts {
    /// Writes receipts that another server sent for its users; those that point to where they are or before do nothing.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub async fn receive(&self, receipts: Vec<ReceiptRow>) -> Result<(), WriteError> {
        if receipts.is_empty() {
            return Ok(());
        }
        let write = Write {
            receipts,
            ..Write::default()
        };
        self.journal.submit(write).await?;
        Ok(())
    }
}

/// Whether `new` may take the place of `old`, or is another receipt.
fn moves_forward(old: &receipt::Stored, new: &ReceiptRow) -> bool {
    if (old.kind.as_str(), old.thread.as_str()) != (new.kind.as_str(), new.thread.as_str()) {
        return true;
    }
    match (old.stream_order, new.stream_order) {
        (Some(old), Some(new)) => old < new,
        (None, _) | (_, None) => old.event_id != new.event_id,
    }
}

#[cfg(test)]
mod tests {
    use hearth_core::Position;

    use super::*;

    fn stored(thread: &str, order: Option<i64>) -> receipt::Stored {
        receipt::Stored {
            room: RoomNid(1),
            user: UserNid(1),
            kind: "m.read".to_owned(),
            thread: thread.to_owned(),
            event_id: "$a".to_owned(),
            stream_order: order,
            ts: 1,
            position: Position(1),
        }
    }

    fn new(event_id: &str, order: Option<i64>) -> ReceiptRow {
        ReceiptRow {
            room: RoomNid(1),
            user: UserNid(1),
            kind: "m.read".to_owned(),
            thread: String::new(),
            event_id: event_id.to_owned(),
            stream_order: order,
            ts: 2,
        }
    }

    #[test]
    fn a_receipt_moves_only_forward() {
        assert!(moves_forward(&stored("", Some(5)), &new("$b", Some(6))));
        assert!(!moves_forward(&stored("", Some(5)), &new("$b", Some(4))));
        assert!(!moves_forward(&stored("", Some(5)), &new("$a", Some(5))));
        assert!(moves_forward(&stored("", None), &new("$b", Some(4))));
        assert!(!moves_forward(&stored("", None), &new("$a", None)));
    }

    #[test]
    fn a_receipt_of_another_thread_is_another_receipt() {
        assert!(moves_forward(&stored("main", Some(5)), &new("$b", Some(4))));
    }
}
