//! What the user has not read of the rooms in a response.

use std::{collections::HashMap, sync::Arc};

use hearth_core::RoomNid;
use hearth_push::{Count, Viewer};
use hearth_rooms::Room;

use crate::{
    filter::Threads,
    response::{Counts, Unread},
    service::Sync,
    view::View,
};

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
    rooms: Vec<Arc<Room>>,
) -> sqlx::Result<HashMap<RoomNid, Unread>> {
    let viewer = Viewer {
        user: view.receiver.user,
        user_id: view.receiver.user_id.clone(),
    };
    let counts = sync.unread().counts(&viewer, rooms, view.to).await?;
    let unread = counts.into_iter().map(|(room, counts)| {
        let unread = match view.filter.threads {
            Threads::Together => Unread {
                room: counts.total().into(),
                ..Unread::default()
            },
            Threads::Apart => apart(counts),
        };
        (room, unread)
    });
    Ok(unread.collect())
}

fn apart(counts: hearth_push::Counts) -> Unread {
    let threads = counts.threads.into_iter();
    Unread {
        room: counts.main.into(),
        threads: threads
            .map(|(root, count)| (root.to_string(), count.into()))
            .collect(),
    }
}
