//! What the user has not read of the rooms in a response.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hearth_core::RoomNid;
use hearth_push::{Count, Viewer};
use hearth_rooms::Room;

use crate::{
    filter::Threads,
    response::{Counts, Unread},
    service::Sync,
    view::View,
};

/// How many rooms are counted at once.
const AT_ONCE: usize = 8;

impl From<Count> for Counts {
    fn from(count: Count) -> Self {
        Self {
            notification_count: count.notifications,
            highlight_count: count.highlights,
        }
    }
}

/// The counts of these rooms, for events up to the end of the response.
pub(crate) async fn read(
    sync: &Sync,
    view: &View<'_>,
    rooms: &[&Room],
) -> sqlx::Result<HashMap<RoomNid, Unread>> {
    let viewer = Viewer {
        user: view.receiver.user,
        user_id: view.receiver.user_id.clone(),
    };
    let viewer = &viewer;
    let count = async |room: &Room| {
        let counts = sync.unread().count(viewer, room, view.to).await?;
        let unread = match view.filter.threads {
            Threads::Together => Unread {
                room: counts.total().into(),
                ..Unread::default()
            },
            Threads::Apart => Unread {
                room: counts.main.into(),
                threads: counts
                    .threads
                    .into_iter()
                    .map(|(root, count)| (root.to_string(), count.into()))
                    .collect(),
            },
        };
        Ok::<_, sqlx::Error>((room.nid, unread))
    };
    let counts: Vec<_> = rooms.iter().map(|room| count(room)).collect();
    stream::iter(counts)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}
