//! Epochs: what begins when positions and numbers may have been handed out twice.
//!
//! After a fail-over to a standby that lagged, the log ends earlier than it did, and the sequences too. An epoch
//! belongs to one `PostgreSQL` (system identifier and WAL timeline). When it is another one, a new epoch begins, and the
//! log and the sequences jump over everything that may have been handed out: nothing has the place or the number of
//! something that was lost. Tokens carry the epoch, so clients get a full resync.

use hearth_core::Position;
use hearth_store::{log, sequence};
use sqlx::PgPool;

/// How far positions jump. More than a standby lags behind, and not more than pruning can walk over.
const POSITIONS: i64 = 10_000_000;

/// How far numbers jump: there are 2^63.
const NUMBERS: i64 = 1_000_000_000;

/// Reads the head, and makes it or begins a new epoch if need be.
pub(crate) async fn open(pool: &PgPool) -> sqlx::Result<log::Located> {
    hearth_store::retry("open the log", || open_once(pool)).await
}

async fn open_once(pool: &PgPool) -> sqlx::Result<log::Located> {
    let mut tx = pool.begin_with(log::BEGIN).await?;
    let cluster = log::find_cluster(&mut tx).await?;
    let mut found = log::lock_head(&mut tx).await?;
    if found.is_none() {
        log::insert_head(&mut tx, &cluster).await?;
        found = log::lock_head(&mut tx).await?;
    }
    let found = found.ok_or(sqlx::Error::RowNotFound)?;
    let located = if found.cluster == cluster {
        found
    } else {
        let head = log::Head {
            epoch: found.head.epoch + 1,
            position: Position(found.head.position.0 + POSITIONS),
        };
        log::update_epoch(&mut tx, head, &cluster).await?;
        sequence::skip(&mut tx, NUMBERS).await?;
        log::Located { head, cluster }
    };
    tx.commit().await?;
    Ok(located)
}
