//! States that nothing uses: outcomes of resolutions that no event was built on, current states of long ago.
//!
//! They go in two phases. First a sweep over the table, some rows a round, marks what nothing uses. What is marked for
//! long enough, so that who read its number has done with it, is deleted if still nothing uses it. A writer may hold a
//! state in memory for longer than that: therefore each batch of the journal locks the rows of the states that it
//! names, and writes that name one which is gone are lost, and built anew on another.

use hearth_core::SnapshotNid;
use hearth_store::unused_snapshot;

use super::{Pruner, before};

impl Pruner {
    /// Looks at the next part of the table, and deletes what was marked long enough ago.
    pub(super) async fn sweep_snapshots(&self, now: i64) -> sqlx::Result<()> {
        for _ in 0..self.bounds.chunks {
            if self.delete_unused(now).await? == 0 {
                break;
            }
        }
        let mut conn = self.journal.0.pool.acquire().await?;
        let after = unused_snapshot::find_place(&mut conn).await?;
        let limit = self.bounds.chunk;
        let looked = unused_snapshot::update_marks(&mut conn, after, limit, now).await?;
        // After the last one the sweep begins anew.
        unused_snapshot::update_place(&mut conn, looked.unwrap_or(SnapshotNid(0))).await
    }

    /// Deletes a chunk of what is marked for long enough. Gives how many rows went, or lost their mark.
    async fn delete_unused(&self, now: i64) -> sqlx::Result<usize> {
        let since = before(now, self.bounds.unused);
        let mut tx = self.journal.0.pool.begin().await?;
        let locked = unused_snapshot::lock_marked(&mut tx, since, self.bounds.chunk).await?;
        if locked.is_empty() {
            return Ok(0);
        }
        let gone = unused_snapshot::delete(&mut tx, &locked).await?;
        unused_snapshot::update_used(&mut tx, &locked).await?;
        tx.commit().await?;
        tracing::debug!(gone, "deleted states that nothing used");
        Ok(locked.len())
    }
}

#[cfg(test)]
mod tests;
